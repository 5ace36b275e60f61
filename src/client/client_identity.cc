#include "client/client_identity.h"

#include <memory>
#include <utility>

#include "base/bytes.h"
#include "base/fork_guard.h"
#include "base/random.h"

namespace memkv::client {
namespace {

/// Links of a chain that only grows: what a parent used must stay, for its objects exist in the child as well.
struct OfProcess {
  uint64_t forks = 0;
  OfProcess* parent = nullptr;
  ClientIdentity identity;
};

std::atomic<OfProcess*> newest{nullptr};

}  // namespace

ClientIdentity::ClientIdentity() { base::os_random(base::mut_bytes_of(id.data(), id.size())); }

/// Without a lock: another thread may hold one at the moment of a fork, and never give it back in the child.
ClientIdentity& process_identity() {
  const uint64_t forks = base::fork_count();
  OfProcess* present = newest.load(std::memory_order_acquire);
  while (present == nullptr || present->forks != forks) {
    auto made = std::make_unique<OfProcess>();
    made->forks = forks;
    made->parent = present;
    if (newest.compare_exchange_strong(present, made.get(), std::memory_order_acq_rel)) present = made.release();
  }
  return present->identity;
}

}  // namespace memkv::client
