#include "shard/tenants.h"

#include <utility>

#include "base/assert.h"
#include "shard/worker.h"

namespace memkv::shard {
namespace {

constexpr int64_t kTurnBytes = kChunkBytesMax;

}  // namespace

Tenants::Tenants(std::vector<uint32_t> totals, size_t clients_max, std::span<const uint64_t> namespaces)
    : totals_(std::move(totals)), holders_(clients_max) {
  MEMKV_ASSERT(totals_.size() <= kPoolsMax);
  clients_round_.reserve(clients_max);
  for (const uint64_t id : namespaces) (void)of(id);
  rebalance();
}

/// There are few, and a connection looks once.
Tenant& Tenants::of(uint64_t namespace_id) {
  for (Tenant& tenant : all_) {
    if (tenant.namespace_id == namespace_id) return tenant;
  }
  Tenant& tenant = all_.emplace_back();
  tenant.namespace_id = namespace_id;
  tenant.unknown.tenant = &tenant;
  round_.reserve(all_.size());
  rebalance();
  return tenant;
}

Holder& Tenants::join(Tenant& tenant) {
  Holder* holder = holders_.take();
  MEMKV_ASSERT(holder != nullptr, "there is room for one client a connection");
  holder->tenant = &tenant;
  tenant.clients.push_back(*holder);
  divide_anew(tenant);
  return *holder;
}

void Tenants::leave(Holder& holder) {
  MEMKV_ASSERT(holder.held == Held{} && holder.slots == 0 && holder.room_bytes == 0,
               "a client left and holds something");
  MEMKV_ASSERT(!holder.waiting_link.linked());
  Tenant& tenant = *holder.tenant;
  tenant.clients.remove(holder);
  holders_.give_back(holder);
  divide_anew(tenant);
}

/// Connections are kept for all tenants that may come, the other pools for those that are here.
void Tenants::rebalance() {
  const uint32_t here = std::max(1u, active_);
  for (size_t pool = 0; pool < totals_.size(); pool++) {
    const bool for_all = pool == kPooledConnections;
    shares_[pool].set(totals_[pool], for_all ? static_cast<uint32_t>(all_.size()) : here);
  }
  for (Tenant& tenant : all_) divide(tenant);
}

void Tenants::divide_anew(Tenant& tenant) {
  for (size_t pool = 0; pool < totals_.size(); pool++) shares_[pool].forget(tenant.parts[pool]);
  divide(tenant);
}

/// Nobody is robbed: who holds too much takes no more.
void Tenants::divide(Tenant& tenant) {
  const auto clients = static_cast<uint32_t>(tenant.clients.size());
  for (size_t pool = 0; pool < totals_.size(); pool++) {
    Part& part = tenant.parts[pool];
    shares_[pool].divide(part, clients);
    Share::add(part, tenant.unknown.held[pool]);
    for (const Holder& holder : tenant.clients) Share::add(part, holder.held[pool]);
    shares_[pool].count(part);
  }
}

void Tenants::take_connection(Holder& holder) {
  take(holder, kPooledConnections);
  if (holder.tenant->held(kPooledConnections) > 1) return;
  active_++;
  rebalance();
}

void Tenants::give_connection(Holder& holder) {
  give(holder, kPooledConnections);
  if (holder.tenant->held(kPooledConnections) > 0) return;
  active_--;
  rebalance();
}

// Waiting.

void Tenants::update(Holder& holder) {
  const bool waits = !holder.gets.empty() || !holder.puts.empty();
  if (waits == holder.waiting_link.linked()) return;
  Tenant& tenant = *holder.tenant;
  if (waits) {
    tenant.waiting.push_back(holder);
    if (!tenant.link.linked()) waiting_.push_back(tenant);
    return;
  }
  tenant.waiting.remove(holder);
  holder.deficit_bytes = 0;
  if (!tenant.waiting.empty()) return;
  waiting_.remove(tenant);
  tenant.deficit_bytes = 0;
}

/// A get that still finds no slot goes back to the head of the queue, so it keeps its turn.
void Tenants::wait(Connection& connection, Op& op) {
  Holder& holder = connection.holder();
  const bool again = std::exchange(op.phase, Phase::kWaitsSlot) == Phase::kWaitsSlot;
  OpQueue& queue = connection.gets_that_wait();
  again ? queue.push_front(op) : queue.push_back(op);
  if (again && connection.gets_link.linked()) holder.gets.remove(connection);
  if (!connection.gets_link.linked()) again ? holder.gets.push_front(connection) : holder.gets.push_back(connection);
  update(holder);
}

void Tenants::wait(Connection& connection) {
  connection.holder().puts.push_back(connection);
  update(connection.holder());
}

void Tenants::stop_waiting(Connection& connection, Op& op) {
  OpQueue& queue = connection.gets_that_wait();
  queue.remove(op);
  if (queue.empty() && connection.gets_link.linked()) connection.holder().gets.remove(connection);
  update(connection.holder());
}

void Tenants::stop_waiting(Connection& connection) {
  if (connection.waiting_link.linked()) connection.holder().puts.remove(connection);
  update(connection.holder());
}

bool Tenants::serve() {
  bool served = false;
  round_.clear();
  for (Tenant& tenant : waiting_) round_.push_back(&tenant);
  for (Tenant* tenant : round_) served = serve(*tenant) || served;
  return served;
}

/// A tenant whose turn it is goes to the end of the line once it has had its bytes. A client that has all that it may
/// have does not hold up the others.
bool Tenants::serve(Tenant& tenant) {
  if (tenant.deficit_bytes <= 0) tenant.deficit_bytes += kTurnBytes;
  bool served = false;
  clients_round_.clear();
  for (Holder& holder : tenant.waiting) clients_round_.push_back(&holder);
  for (Holder* holder : clients_round_) {
    if (tenant.deficit_bytes <= 0) break;
    served = serve(*holder) || served;
  }
  if (tenant.deficit_bytes > 0 || !tenant.link.linked()) return served;
  waiting_.remove(tenant);
  waiting_.push_back(tenant);
  return served;
}

bool Tenants::serve(Holder& holder) {
  Tenant& tenant = *holder.tenant;
  if (holder.deficit_bytes <= 0) holder.deficit_bytes += kTurnBytes;
  bool served = false;
  while (holder.deficit_bytes > 0 && tenant.deficit_bytes > 0 && holder.waiting_link.linked() && serve_one(holder)) {
    served = true;
  }
  if (holder.deficit_bytes > 0 || !holder.waiting_link.linked()) return served;
  tenant.waiting.remove(holder);
  tenant.waiting.push_back(holder);
  return served;
}

bool Tenants::serve_one(Holder& holder) {
  holder.puts_first = !holder.puts_first;
  return holder.puts_first ? serve_put(holder) || serve_get(holder) : serve_get(holder) || serve_put(holder);
}

bool Tenants::serve_get(Holder& holder) {
  Connection* connection = holder.gets.front();
  if (connection == nullptr || connection->worker().slots().arena().free_of(1) == 0) return false;
  holder.gets.remove(*connection);
  OpQueue& queue = connection->gets_that_wait();
  Op& op = *queue.pop_front();
  if (!queue.empty()) holder.gets.push_back(*connection);
  const uint32_t bytes = op.request.length;
  start_get(op);
  const bool served = queue.front() != &op;
  if (served) {
    holder.deficit_bytes -= bytes;
    holder.tenant->deficit_bytes -= bytes;
  }
  update(holder);
  return served;
}

bool Tenants::serve_put(Holder& holder) {
  Connection* connection = holder.puts.front();
  if (connection == nullptr) return false;
  const uint32_t bytes = connection->receiver().bytes_that_wait();
  if (!connection->receiver().try_room()) return false;
  stop_waiting(*connection);
  holder.deficit_bytes -= bytes;
  holder.tenant->deficit_bytes -= bytes;
  return true;
}

}  // namespace memkv::shard
