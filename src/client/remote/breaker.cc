#include "client/remote/breaker.h"

#include "base/assert.h"

namespace memkv::client {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kBackoffMin = 100 * kMs;
constexpr uint64_t kBackoffMax = 5000 * kMs;
constexpr uint64_t kShortLifeNs = 1000 * kMs;
constexpr uint64_t kReconnectGapMaxNs = 200 * kMs;
constexpr uint64_t kReconnectGapNs = 20 * kMs;  // after a failure with other connections open

}  // namespace

void Breaker::open(Status status, std::string why) {
  MEMKV_ASSERT(status != Status::kOk);
  refusal_ = status;
  why_ = std::move(why);
  addresses_failed_ = 0;
  backoff_ns_ = std::clamp(backoff_ns_ * 2, kBackoffMin, kBackoffMax);
}

bool Breaker::close() {
  why_.clear();
  backoff_ns_ = 0;
  not_before_ns_ = 0;
  return std::exchange(refusal_, Status::kOk) != Status::kOk;
}

bool Breaker::tries_another(Status why, size_t addresses) {
  if (!is_open() && !is_refusal(why) && ++addresses_failed_ < addresses) return true;
  addresses_failed_ = 0;
  return false;
}

void Breaker::on_failed_beside_others(std::string why, uint64_t now_ns) {
  not_before_ns_ = now_ns + kReconnectGapNs;
  why_ = std::move(why);
}

void Breaker::on_lost(std::string why, uint64_t lived_ns, uint64_t now_ns) {
  MEMKV_ASSERT(!is_open());
  why_ = std::move(why);
  const bool short_lived = lived_ns < kShortLifeNs;
  reconnect_gap_ns_ = short_lived ? std::clamp(2 * reconnect_gap_ns_, kReconnectGapNs, kReconnectGapMaxNs) : 0;
  not_before_ns_ = now_ns + reconnect_gap_ns_;
}

}  // namespace memkv::client
