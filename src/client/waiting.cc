#include "client/waiting.h"

#include "io/limits.h"

namespace memkv::client {
namespace {

constexpr uint64_t kPollNs = 50'000;

}  // namespace

uint64_t poll_least_ns() {
  static const uint64_t least = io::process_limits().may_poll() ? kPollNs : 0;
  return least;
}

}  // namespace memkv::client
