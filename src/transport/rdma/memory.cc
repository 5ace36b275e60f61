#include "transport/rdma/memory.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.h"

namespace memkv::transport::rdma {

Registration::~Registration() {
  for (size_t rail = 0; rail < kRailsMax; rail++) drop(rail);
  for (OnDevice* on = buried_.load(); on;) delete std::exchange(on, on->next);
}

void Registration::drop(size_t rail) { bury(on_[rail].exchange(nullptr)); }

/// Takes the registration from the device. The keys stay: another thread may be reading them right now.
void Registration::bury(OnDevice* on) {
  if (!on) return;
  on->device->verbs().dereg_mr(on->mr);  // of a device that is gone it fails, and only frees
  on->device.reset();
  on->next = buried_.load();
  while (!buried_.compare_exchange_weak(on->next, on)) {
  }
}

Result<ibv_mr*> Registration::register_on(const Device& device) const {
  int access = IBV_ACCESS_LOCAL_WRITE;
  if (access_ == Access::kRemote) access |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
  const Verbs& verbs = device.verbs();
  if (!dmabuf_) {
    if (ibv_mr* mr = verbs.reg_mr(device.pd(), data_, size_, access)) return mr;
    return Error{Status::kNoSpace, errno, "memory cannot be registered with an RDMA device (see ulimit -l)"};
  }
  if (!verbs.reg_dmabuf_mr) return Error{Status::kUnsupported, 0, "libibverbs is too old for dma-buf"};
  const auto address = reinterpret_cast<uint64_t>(data_);
  if (ibv_mr* mr = verbs.reg_dmabuf_mr(device.pd(), dmabuf_->offset, size_, address, dmabuf_->fd.get(), access)) {
    return mr;
  }
  return Error{Status::kUnsupported, errno, "it does not register a dma-buf"};
}

Result<void> Registration::add(size_t rail, std::shared_ptr<Device> device) {
  MEMKV_ASSERT(rail < kRailsMax);
  auto mr = register_on(*device);
  if (!mr) return mr.error();
  auto on = std::make_unique<OnDevice>();
  on->keys = {(*mr)->lkey, (*mr)->rkey};
  on->mr = *mr;
  on->device = std::move(device);
  on->identity = on->device.get();
  OnDevice* before = on_[rail].load();
  do {
    if (before && before->identity == on->identity) {  // another thread was faster: a peer may know its keys
      on->device->verbs().dereg_mr(on->mr);
      return {};
    }
  } while (!on_[rail].compare_exchange_weak(before, on.get()));
  on.release();
  bury(before);
  return {};
}

void Registration::let_go() {
  MEMKV_ASSERT(retired_.load());
  for (size_t rail = 0; rail < kRailsMax; rail++) drop(rail);
  if (dmabuf_) dmabuf_->fd.reset();
}

const MemoryKeys* Registration::keys(size_t rail, const Device& device) const {
  const OnDevice* on = on_[rail].load(std::memory_order_acquire);
  return on && on->identity == &device ? &on->keys : nullptr;
}

bool Registration::use() {
  users_.fetch_add(1);
  if (!retired_.load()) return true;
  unuse();
  return false;
}

MemoryTable::MemoryTable() : snapshot_(std::make_shared<const Snapshot>()) {}

template <typename Change>
void MemoryTable::change(Change&& apply) {
  std::shared_ptr<const Snapshot> before = snapshot_.load();
  std::shared_ptr<const Snapshot> after;
  do {
    auto next = std::make_shared<Snapshot>(*before);
    apply(*next);
    after = std::move(next);
  } while (!snapshot_.compare_exchange_weak(before, after));
  version_.fetch_add(1, std::memory_order_release);
}

void MemoryTable::add(std::shared_ptr<Registration> registration) {
  if (registration->gpu()) gpu_.fetch_add(1, std::memory_order_release);
  change([&](Snapshot& all) {
    const auto at = std::upper_bound(all.begin(), all.end(), registration->data(),
                                     [](const std::byte* data, const auto& other) { return data < other->data(); });
    all.insert(at, registration);
  });
}

void MemoryTable::remove(const Registration& registration) {
  change([&](Snapshot& all) { std::erase_if(all, [&](const auto& other) { return other.get() == &registration; }); });
  if (registration.gpu()) gpu_.fetch_sub(1, std::memory_order_release);
}

Registration* MemoryView::find(const void* at, size_t bytes) {
  if (const uint64_t version = table_.version(); version != version_) {
    snapshot_ = table_.snapshot();
    version_ = version;
  }
  const auto* begin = static_cast<const std::byte*>(at);
  auto next = std::upper_bound(snapshot_->begin(), snapshot_->end(), begin,
                               [](const std::byte* data, const auto& other) { return data < other->data(); });
  while (next != snapshot_->begin()) {
    --next;
    if ((*next)->covers(at, bytes)) return next->get();
  }
  return nullptr;
}

}  // namespace memkv::transport::rdma
