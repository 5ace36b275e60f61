#include "shard/worker_slots.h"

#include <algorithm>

#include "base/assert.h"

namespace memkv::shard {

namespace {

constexpr uint64_t kCreditMin = kChunkBytesMax / base::kGrainBytes * 2, kCreditMax = 512;
/// Ops: enough to keep a link and drives busy with small ones. More would only stand in front of what comes next.
constexpr uint64_t kCreditOpsMin = 8, kCreditOpsMax = 256;

/// By a quarter, or more.
bool moved(uint32_t a, uint32_t b) { return a * 4 <= b * 3 || a * 3 >= b * 4; }

}  // namespace

WorkerSlots::WorkerSlots(std::unique_ptr<io::SlotArena> arena, const WorkerOptions& options, Tenants& tenants)
    : tenants_(tenants),
      arena_(std::move(arena)),
      scratch_(new std::byte[kChunkBytesMax]),
      ops_max_(options.ops_max),
      lends_(options.tcp_one_copy && options.rdma == nullptr && !arena_->reserved()) {
  for (const io::SlotClass& shape : options.slots) {
    count_ += shape.count;
    bytes_ += uint64_t{shape.payload_bytes} * shape.count;
  }
}

io::Slot WorkerSlots::take(Holder& holder, uint32_t bytes) {
  const io::Slot slot = arena_->take(bytes);
  if (!slot) return slot;
  const size_t pool = kPooledSlots + slot.size_class;
  if (!tenants_.fits(holder, pool)) {
    arena_->give_back(slot);
    return {};
  }
  tenants_.take(holder, pool);
  holder.slots++;
  return slot;
}

void WorkerSlots::give(Holder& holder, io::Slot slot) {
  MEMKV_ASSERT(holder.slots > 0, "its client holds none");
  tenants_.give(holder, kPooledSlots + slot.size_class);
  holder.slots--;
  arena_->give_back(slot);
}

bool WorkerSlots::room_in_log(const Holder& holder, uint32_t bytes) const {
  const uint64_t of_tenant = bytes_ / std::max(1u, tenants_.active());
  const uint64_t of_client = holder.tenant->clients.size() > 1 ? of_tenant / 2 : of_tenant;
  return holder.tenant->room_bytes + bytes <= of_tenant && holder.room_bytes + bytes <= of_client;
}

/// Every connection's part of its client's part of its tenant's: of the slots, one half of them for puts and one for
/// gets, and of half of the ops. What finds no slot of its size waits.
wire::Credit WorkerSlots::compute_credit(const Holder& holder) const {
  // Who is alone with few connections has as much as four would share.
  const uint64_t clients = std::max(1u, tenants_.active()) * std::max<uint64_t>(1, holder.tenant->clients.size());
  const uint64_t connections = std::max<uint64_t>(holder.held[kPooledConnections] * clients, 4);
  const uint64_t grains = std::clamp(bytes_ / 2 / connections / base::kGrainBytes, kCreditMin, kCreditMax);
  const uint64_t ops = std::clamp(ops_max_ / 2 / connections, kCreditOpsMin, kCreditOpsMax);
  return {
      .puts = static_cast<uint16_t>(grains), .gets = static_cast<uint16_t>(grains), .ops = static_cast<uint16_t>(ops)};
}

void WorkerSlots::renew_credits() {
  for (Tenant& tenant : tenants_.all()) {
    for (Holder& holder : tenant.clients) {
      const wire::Credit credit = compute_credit(holder), before = holder.credit;
      if (moved(credit.puts, before.puts) || moved(credit.gets, before.gets) || moved(credit.ops, before.ops)) {
        holder.credit = credit;
      }
    }
  }
}

}  // namespace memkv::shard
