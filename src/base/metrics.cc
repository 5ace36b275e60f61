#include "base/metrics.h"

#include <algorithm>
#include <cmath>

namespace memkv::base {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

void raise(std::atomic<uint64_t>& to, uint64_t value) {
  uint64_t seen = to.load(kRelaxed);
  while (seen < value && !to.compare_exchange_weak(seen, value, kRelaxed)) {
  }
}

}  // namespace

// Each value below kSubBuckets has a bucket of its own. The bucket of a larger value is chosen by its top kSubBits + 1
// bits.
size_t Histogram::bucket_of(uint64_t ns) {
  if (ns < kSubBuckets) return ns;
  const int shift = static_cast<int>(std::bit_width(ns)) - 1 - kSubBits;
  return static_cast<size_t>(shift) * kSubBuckets + (ns >> shift);
}

uint64_t Histogram::highest_in(size_t bucket) {
  if (bucket < 2 * kSubBuckets) return bucket;
  const size_t shift = bucket / kSubBuckets - 1;
  return ((bucket - shift * kSubBuckets + 1) << shift) - 1;
}

void Histogram::record(uint64_t ns) {
  ns = std::min(ns, kValueMax);
  buckets_[bucket_of(ns)].fetch_add(1, kRelaxed);
  count_.fetch_add(1, kRelaxed);
  sum_ns_.fetch_add(ns, kRelaxed);
  raise(max_ns_, ns);
}

void Histogram::merge(const Histogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) {
    if (const uint64_t n = other.buckets_[i].load(kRelaxed)) buckets_[i].fetch_add(n, kRelaxed);
  }
  count_.fetch_add(other.count(), kRelaxed);
  sum_ns_.fetch_add(other.sum_ns(), kRelaxed);
  raise(max_ns_, other.max_ns());
}

void Histogram::reset() {
  for (auto& bucket : buckets_) bucket.store(0, kRelaxed);
  count_.store(0, kRelaxed);
  sum_ns_.store(0, kRelaxed);
  max_ns_.store(0, kRelaxed);
}

uint64_t Histogram::percentile_ns(double percent) const {
  uint64_t total = 0;
  for (const auto& bucket : buckets_) total += bucket.load(kRelaxed);
  if (total == 0) return 0;
  const double share = std::clamp(percent, 0.0, 100.0) / 100.0;
  const auto rank = std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(share * static_cast<double>(total))));
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i].load(kRelaxed);
    if (seen >= rank) return std::min(highest_in(i), max_ns());
  }
  return max_ns();
}

}  // namespace memkv::base
