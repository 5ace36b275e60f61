/// Registered memory: known to the NICs where there are some; tcp and shm need none, and nothing is kept for them.

#include "client/region.h"

#include <unistd.h>

namespace memkv {
namespace {

constexpr useconds_t kWaitUs = 100;

Error failure(const char* what) { return {.status = Status::kInvalid, .sys_errno = 0, .what = what}; }

}  // namespace

struct Region::State {
  std::shared_ptr<transport::rdma::Host> host;
  std::shared_ptr<transport::rdma::Registration> registration;
  std::shared_ptr<client::Context*> driven;

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
Region& Region::operator=(Region&&) noexcept = default;
Region::~Region() = default;

Result<Region> client::make_region(void* data, size_t size, MemoryKind kind,
                                   std::shared_ptr<transport::rdma::Host> host, std::shared_ptr<Context*> driven) {
  if (data == nullptr || size == 0) return failure("register_memory needs memory of at least a byte");
  if (kind != MemoryKind::kHost) return failure("only host memory moves without staging");
  Region region;
  if (!host) return region;
  auto registration = host->add_memory(data, size, transport::rdma::Access::kRemote);
  if (!registration) return registration.error();
  region.state_.reset(new Region::State{std::move(host), std::move(*registration), std::move(driven)});
  return region;
}

}  // namespace memkv
