#include "shard/worker_stores.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "shard/rdma_port.h"

namespace memkv::shard {

namespace {

constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, newer than the headers of Debian 12's kernel

/// Takes the pages of a memory device now: a first touch costs up to 0.27 ms for 2 MiB.
void prefault_pages(const engine::DriveSlice& slice) {
  std::byte* memory = slice.device->view(slice.offset_bytes, slice.size_bytes);
  if (memory == nullptr) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(memory) & ~(page - 1);
  const uintptr_t end = reinterpret_cast<uintptr_t>(memory) + slice.size_bytes;
  (void)madvise(reinterpret_cast<void*>(begin), end - begin,
                kPopulateWrite);  // a hint: without it pages come when touched
}

}  // namespace

WorkerStores::WorkerStores(io::Reactor& reactor, const Identity& identity) : reactor_(reactor), identity_(identity) {
  shards_.reserve(32);  // ops and uploads point into it
}

void WorkerStores::add(uint32_t number, std::unique_ptr<engine::Store> store) {
  MEMKV_ASSERT(number < shard_by_number_.size() && shards_.size() < shards_.capacity());
  MEMKV_ASSERT(shard_by_number_[number] == nullptr, "a shard has one store");
  block_bytes_max_ = shards_.empty() ? store->block_bytes_max() : std::min(block_bytes_max_, store->block_bytes_max());
  shards_.push_back({number, std::move(store)});
  shard_by_number_[number] = &shards_.back();
}

void WorkerStores::make_planned(bool prefault, RdmaPort* rdma) {
  for (ShardPlan& plan : plans_) {
    for (const engine::DriveSlice& slice : plan.options.slices) {
      if (slice.device == nullptr) continue;
      if (prefault) prefault_pages(slice);
      std::byte* memory = rdma != nullptr ? slice.device->view(slice.offset_bytes, slice.size_bytes) : nullptr;
      if (memory != nullptr) rdma->add_memory({memory, slice.size_bytes});
    }
    add(plan.number, engine::Store::make(reactor_, std::move(plan.options)));
    const std::span<std::byte> tier = shards_.back().store->tier_memory();
    if (rdma != nullptr && !tier.empty()) rdma->add_memory(tier);
  }
  plans_.clear();
}

void WorkerStores::open(bool prefault, RdmaPort* rdma, Fn on_done, void* context) {
  make_planned(prefault, rdma);
  begin(on_done, context);
  for (size_t i = 0; i < shards_.size(); i++) shards_[i].store->open(ops_[i]);
  if (shards_.empty()) on_done(context, Status::kOk);
}

void WorkerStores::close(Fn on_done, void* context) {
  begin(on_done, context);
  for (size_t i = 0; i < shards_.size(); i++) shards_[i].store->close(ops_[i]);
  if (shards_.empty()) on_done(context, Status::kOk);
}

void WorkerStores::begin(Fn on_done, void* context) {
  MEMKV_ASSERT(at_rest(), "stores that are opening are not closed");
  on_done_ = on_done;
  context_ = context;
  status_ = Status::kOk;
  left_ = shards_.size();
  ops_.resize(shards_.size());
  for (engine::StoreOp& op : ops_) {
    op = {};
    op.on_done = [](engine::StoreOp& done) { static_cast<WorkerStores*>(done.context)->one_done(done.status); };
    op.context = this;
  }
}

void WorkerStores::one_done(Status status) {
  MEMKV_ASSERT(left_ > 0, "more answers than stores");
  if (status != Status::kOk) status_ = status;
  if (--left_ == 0) on_done_(context_, status_);
}

void WorkerStores::destroy() {
  shards_.clear();
  devices_.clear();
}

Shard* WorkerStores::find(std::string_view key, uint64_t namespace_id) {
  return shard_by_number_[wire::shard_of(key, identity_.shard_seed, namespace_id, identity_.shard_count)];
}

void WorkerStores::take_drives_out(uint64_t drives) {
  for (Shard& shard : shards_) shard.store->take_drives_out(drives);
}

void WorkerStores::publish(WorkerStats& stats) const {
  engine::StoreCounters sum{};
  std::array<uint64_t, WorkerStats::kStoreWords> words{};
  uint64_t recovery_ns = 0;
  for (const Shard& shard : shards_) {
    std::array<uint64_t, WorkerStats::kStoreWords> one;
    const engine::StoreCounters& counters = shard.store->counters();
    std::memcpy(one.data(), &counters, sizeof counters);
    for (size_t i = 0; i < words.size(); i++) words[i] += one[i];
    recovery_ns = std::max(recovery_ns, counters.recovery_ns);
  }
  std::memcpy(&sum, words.data(), sizeof sum);
  sum.recovery_ns = recovery_ns;  // they recover side by side
  std::memcpy(words.data(), &sum, sizeof sum);
  for (size_t i = 0; i < words.size(); i++) stats.store[i].store(words[i], std::memory_order_relaxed);
}

void WorkerStores::check_whole() const {
  for (const Shard& shard : shards_) MEMKV_ASSERT(shard.store->ops_in_flight() == 0);
}

}  // namespace memkv::shard
