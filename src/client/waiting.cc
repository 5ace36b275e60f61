#include "client/waiting.h"

#include "io/limits.h"

namespace memkv::client {
namespace {

constexpr uint64_t kSpinNs = 50'000;

}  // namespace

uint64_t spin_limit_ns() {
  static const uint64_t limit = io::process_limits().may_poll() ? kSpinNs : 0;
  return limit;
}

}  // namespace memkv::client
