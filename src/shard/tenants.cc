#include "shard/tenants.h"

#include <utility>

#include "base/assert.h"
#include "shard/worker.h"

namespace memkv::shard {
namespace {

constexpr int64_t kTurnBytes = kChunkBytesMax;

}  // namespace

Tenants::Tenants(std::vector<uint32_t> totals, std::span<const uint64_t> namespaces) : totals_(std::move(totals)) {
  MEMKV_ASSERT(totals_.size() <= kPoolsMax);
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
  rebalance();
  return tenant;
}

/// Connections are kept for all tenants that may come, the other pools for those that are here.
void Tenants::rebalance() {
  const uint32_t here = std::max(1u, active_);
  for (size_t pool = 0; pool < totals_.size(); pool++) {
    const bool for_all = pool == kPooledConnections;
    shares_[pool].set(totals_[pool], for_all ? static_cast<uint32_t>(all_.size()) : here);
    for (const Tenant& tenant : all_) shares_[pool].count(tenant.held[pool]);
  }
}

void Tenants::take_connection(Tenant& tenant) {
  take(tenant, kPooledConnections);
  if (tenant.held[kPooledConnections] > 1) return;
  active_++;
  rebalance();
}

void Tenants::give_connection(Tenant& tenant) {
  give(tenant, kPooledConnections);
  if (tenant.held[kPooledConnections] > 0) return;
  active_--;
  rebalance();
}

// Waiting.

void Tenants::update(Tenant& tenant) {
  const bool waits = !tenant.gets.empty() || !tenant.puts.empty();
  if (waits == tenant.link.linked()) return;
  if (waits) return waiting_.push_back(tenant);
  waiting_.remove(tenant);
  tenant.deficit_bytes = 0;
}

/// A get that still finds no slot goes back to the head of the queue, so it keeps its turn.
void Tenants::wait(Connection& connection, Op& op) {
  Tenant& tenant = connection.tenant();
  const bool again = std::exchange(op.phase, Phase::kWaitsSlot) == Phase::kWaitsSlot;
  OpQueue& queue = connection.gets_that_wait();
  again ? queue.push_front(op) : queue.push_back(op);
  if (again && connection.gets_link.linked()) tenant.gets.remove(connection);
  if (!connection.gets_link.linked()) again ? tenant.gets.push_front(connection) : tenant.gets.push_back(connection);
  update(tenant);
}

void Tenants::wait(Connection& connection) {
  connection.tenant().puts.push_back(connection);
  update(connection.tenant());
}

void Tenants::stop_waiting(Connection& connection, Op& op) {
  OpQueue& queue = connection.gets_that_wait();
  queue.remove(op);
  if (queue.empty() && connection.gets_link.linked()) connection.tenant().gets.remove(connection);
  update(connection.tenant());
}

void Tenants::stop_waiting(Connection& connection) {
  if (connection.waiting_link.linked()) connection.tenant().puts.remove(connection);
  update(connection.tenant());
}

bool Tenants::serve() {
  bool served = false;
  round_.clear();
  for (Tenant& tenant : waiting_) round_.push_back(&tenant);
  for (Tenant* tenant : round_) served = serve(*tenant) || served;
  return served;
}

/// A tenant whose turn it is goes to the end of the line once it has had its bytes.
bool Tenants::serve(Tenant& tenant) {
  if (tenant.deficit_bytes <= 0) tenant.deficit_bytes += kTurnBytes;
  bool served = false;
  while (tenant.deficit_bytes > 0 && tenant.link.linked() && serve_one(tenant)) served = true;
  if (tenant.deficit_bytes > 0 || !tenant.link.linked()) return served;
  waiting_.remove(tenant);
  waiting_.push_back(tenant);
  return served;
}

bool Tenants::serve_one(Tenant& tenant) {
  tenant.puts_first = !tenant.puts_first;
  return tenant.puts_first ? serve_put(tenant) || serve_get(tenant) : serve_get(tenant) || serve_put(tenant);
}

bool Tenants::serve_get(Tenant& tenant) {
  Connection* connection = tenant.gets.pop_front();
  if (connection == nullptr) return false;
  OpQueue& queue = connection->gets_that_wait();
  Op& op = *queue.pop_front();
  if (!queue.empty()) tenant.gets.push_back(*connection);
  const uint32_t bytes = op.length;
  start_get(op);
  const bool served = queue.front() != &op;
  if (served) tenant.deficit_bytes -= bytes;
  update(tenant);
  return served;
}

bool Tenants::serve_put(Tenant& tenant) {
  Connection* connection = tenant.puts.front();
  if (connection == nullptr) return false;
  const uint32_t bytes = connection->bytes_that_wait();
  if (!connection->try_room()) return false;
  stop_waiting(*connection);
  tenant.deficit_bytes -= bytes;
  return true;
}

}  // namespace memkv::shard
