#pragma once
/// Counters and latency histograms. Any thread may write and read them; there are no locks.

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace memkv::base {

/// Only grows. Thread: any.
class Counter {
 public:
  void add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

/// A histogram of durations in nanoseconds, 9 KiB large. There are 32 buckets for each power of two (as in
/// HdrHistogram), so each value is known to 3.2 % or better. Durations above 1,099 s count as that. A reader that runs
/// beside writers may see a slightly older state, but never a torn one.
class Histogram {
 public:
  static constexpr uint64_t kValueMax = (uint64_t{1} << 40) - 1;

  void record(uint64_t ns);
  /// Adds all of `other`.
  void merge(const Histogram& other);
  void reset();

  uint64_t count() const { return count_.load(std::memory_order_relaxed); }
  uint64_t sum_ns() const { return sum_ns_.load(std::memory_order_relaxed); }
  uint64_t max_ns() const { return max_ns_.load(std::memory_order_relaxed); }
  /// The smallest value that at least `percent` (0..100) of the records do not exceed, and never more than max_ns(). 0
  /// without records.
  uint64_t percentile_ns(double percent) const;

 private:
  static constexpr int kSubBits = 5;
  static constexpr size_t kSubBuckets = size_t{1} << kSubBits;
  static constexpr size_t kBuckets = kSubBuckets * (40 - kSubBits + 1);
  static size_t bucket_of(uint64_t ns);
  static uint64_t highest_in(size_t bucket);

  std::array<std::atomic<uint64_t>, kBuckets> buckets_{};
  std::atomic<uint64_t> count_{0};
  std::atomic<uint64_t> sum_ns_{0};
  std::atomic<uint64_t> max_ns_{0};
};

}  // namespace memkv::base
