#include "client/remote/clock_bound.h"

#include <algorithm>

#include "base/assert.h"

namespace memkv::client {
namespace {

/// Beyond any honest clock; no sum of such numbers wraps.
constexpr int64_t kUnbounded = int64_t{1} << 60;

}  // namespace

void ClockBound::heard(uint64_t server_ns, uint64_t asked_ns, uint64_t now_ns) {
  MEMKV_ASSERT(asked_ns <= now_ns && found_ns_ <= now_ns, "our own clock does not go back");
  server_ns = std::min(server_ns, static_cast<uint64_t>(kUnbounded));  // whatever it says
  const auto at_least = static_cast<int64_t>(server_ns - now_ns);
  // The stamp may be as old as the question, and the clocks may have drifted since.
  const auto since = static_cast<int64_t>((now_ns - asked_ns) >> kDriftShift);
  const int64_t at_most = asked_ns == 0 ? kUnbounded : static_cast<int64_t>(server_ns - asked_ns) + since;
  int64_t low = known_ ? std::max(this->low(now_ns), at_least) : at_least;
  int64_t high = known_ ? std::min(this->high(now_ns), at_most) : at_most;
  // A clock has jumped (a machine that was suspended, say): only what was heard last is true.
  if (low > high) low = at_least, high = at_most;
  low_ = low;
  high_ = std::min(high, kUnbounded);
  found_ns_ = now_ns;
  known_ = true;
}

uint64_t ClockBound::on_server(uint64_t now_ns) const {
  MEMKV_ASSERT(known_, "the server tells its time before anything is sent to it");
  const int64_t there = static_cast<int64_t>(now_ns) + low(now_ns);
  return there > 0 ? static_cast<uint64_t>(there) : 0;
}

uint64_t ClockBound::slack_ns(uint64_t now_ns) const {
  return known_ ? static_cast<uint64_t>(high(now_ns) - low(now_ns)) : ~uint64_t{0};
}

}  // namespace memkv::client
