#pragma once
/// The tenants of a worker: what each holds, and who waits for a slot.

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "shard/connection.h"
#include "shard/shares.h"

namespace memkv::shard {

/// A namespace as a worker sees it. It is active while it has a connection. Thread: worker.
struct Tenant {
  uint64_t namespace_id = 0;
  Held held{};
  uint32_t slots = 0;       ///< of all classes
  uint64_t room_bytes = 0;  ///< of payloads that are received straight into a log (memory mode)
  wire::Credit credit;

  /// Connections whose gets wait for a slot, and whose payload does. Each is served in turn.
  base::IntrusiveList<Connection, &Connection::gets_link> gets;
  base::IntrusiveList<Connection, &Connection::waiting_link> puts;
  int64_t deficit_bytes = 0;  ///< that may still be served before it is the next tenant's turn
  bool puts_first = false;    ///< it was a get's turn
  base::ListLink<Tenant> link;
};

/// All tenants of a worker. Thread: worker.
class Tenants {
 public:
  /// `totals` by Pooled. `namespaces`: those that may come; others are added when they do.
  Tenants(std::vector<uint32_t> totals, std::span<const uint64_t> namespaces);

  Tenant& of(uint64_t namespace_id);
  /// Of one pool, one piece. False: it would be another tenant's.
  bool fits(const Tenant& tenant, size_t pool) const { return shares_[pool].fits(tenant.held[pool]); }
  void take(Tenant& tenant, size_t pool) { shares_[pool].take(tenant.held[pool]); }
  void give(Tenant& tenant, size_t pool) { shares_[pool].give(tenant.held[pool]); }
  const Share& share(size_t pool) const { return shares_[pool]; }
  uint32_t total(size_t pool) const { return totals_[pool]; }
  void take_connection(Tenant& tenant);
  void give_connection(Tenant& tenant);
  uint32_t active() const { return active_; }
  std::deque<Tenant>& all() { return all_; }

  // Who waits for a slot.
  void wait(Connection& connection, Op& op);
  void wait(Connection& connection);
  void stop_waiting(Connection& connection, Op& op);
  void stop_waiting(Connection& connection);
  bool anyone_waits() const { return !waiting_.empty(); }
  /// Deficit round robin by bytes over the tenants that wait, then over their connections, gets and puts in turn. True:
  /// somebody was served.
  bool serve();

 private:
  void rebalance();
  void update(Tenant& tenant);
  bool serve(Tenant& tenant);
  bool serve_one(Tenant& tenant);
  bool serve_get(Tenant& tenant);
  bool serve_put(Tenant& tenant);

  const std::vector<uint32_t> totals_;
  std::array<Share, kPoolsMax> shares_;
  std::deque<Tenant> all_;
  uint32_t active_ = 0;
  base::IntrusiveList<Tenant, &Tenant::link> waiting_;  ///< the first one's turn is next
  std::vector<Tenant*> round_;
};

}  // namespace memkv::shard
