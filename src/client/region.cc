/// Registered memory: known to the NICs where there are some; tcp and shm need none, and nothing is kept for them.

#include "client/region.h"

#include <unistd.h>

#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "base/fork_guard.h"

namespace memkv {
namespace {

constexpr useconds_t kWaitUs = 100;

Error failure(Status status, const char* what) { return {.status = status, .sys_errno = 0, .what = what}; }

/// An Error's sentence is never freed: each of the few that there are is kept once.
Error failure(Message message) {
  static std::mutex mutex;
  static auto& kept = *new std::set<std::string>;
  const std::lock_guard lock(mutex);
  return failure(message.status, kept.insert(std::move(message.text)).first->c_str());
}

using Registered = Result<std::shared_ptr<transport::rdma::Registration>>;

Registered add_gpu_memory(const client::Context& context, void* data, size_t size, int device) {
  if (!context.machine().rdma_host()) {
    const std::string& why = context.machine().why_no_rdma();
    return failure(Message{Status::kUnsupported,
                           "GPU memory goes over rdma only: " + (why.empty() ? "this client does not use it" : why)});
  }
  auto added = context.machine().rdma_host()->add_gpu_memory(data, size, device);
  if (!added) return failure(std::move(added.error()));
  return std::move(*added);
}

}  // namespace

struct Region::State {
  std::shared_ptr<transport::rdma::Devices> host;
  std::shared_ptr<transport::rdma::Registration> registration;
  std::shared_ptr<client::Context*> driven;
  const base::ForkGuard guard = {};

  /// Waits until no NIC touches the memory: ops in flight on it end by their deadlines.
  ~State() { host->remove_memory(std::move(registration), wait, this); }
  /// Who drives its own session must go on doing that here.
  static void wait(void* self) {
    const auto& driven = static_cast<State*>(self)->driven;
    if (driven && *driven) {
      (*driven)->adopt();
      (*driven)->run_once(uint64_t{kWaitUs} * 1000);
    } else {
      usleep(kWaitUs);
    }
  }
};
Region::Region(Region&&) noexcept = default;
Region& Region::operator=(Region&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}
Region::~Region() {
  // The parent's is kept for good: to end it would wait for the parent's ops.
  if (state_ && state_->guard.forked()) new std::shared_ptr(std::move(state_));
}

Result<Region> client::make_region(const Context& context, void* data, size_t size, MemoryKind kind, int device,
                                   std::shared_ptr<Context*> driven) {
  if (data == nullptr || size == 0) {
    return failure(Status::kInvalid, "register_memory needs memory of at least a byte");
  }
  const std::shared_ptr<transport::rdma::Devices>& host = context.machine().rdma_host();
  Region region;
  if (!host && kind == MemoryKind::kHost) return region;
  auto registration = kind == MemoryKind::kCuda ? add_gpu_memory(context, data, size, device)
                                                : host->add_memory(data, size, transport::rdma::Access::kRemote);
  if (!registration) return registration.error();
  region.state_.reset(new Region::State{host, std::move(*registration), std::move(driven)});
  return region;
}

}  // namespace memkv
