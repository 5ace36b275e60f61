#pragma once
/// The tenants of a worker and their clients: what each holds, and who waits for a slot.

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "shard/pool.h"
#include "shard/prefetches.h"
#include "shard/tenant.h"

namespace memkv::shard {

/// All tenants of a worker. Thread: worker.
class Tenants {
 public:
  /// `totals` by Pooled. `namespaces`: those that may come; others are added when they do.
  Tenants(std::vector<uint32_t> totals, size_t clients_max, std::span<const uint64_t> namespaces);

  Tenant& of(uint64_t namespace_id);
  /// A client has come, or gone: the parts of all of its tenant's clients change.
  Holder& join(Tenant& tenant);
  void leave(Holder& holder);
  /// Of one pool, one piece. False: it would be another's.
  bool fits(const Holder& holder, size_t pool) const {
    return shares_[pool].fits(holder.tenant->parts[pool], holder.held[pool]);
  }
  void take(Holder& holder, size_t pool) { shares_[pool].take(holder.tenant->parts[pool], holder.held[pool]); }
  void give(Holder& holder, size_t pool) { shares_[pool].give(holder.tenant->parts[pool], holder.held[pool]); }
  void take_connection(Holder& holder);
  void give_connection(Holder& holder);
  uint32_t active() const { return active_; }
  Prefetches& prefetches() { return prefetches_; }
  std::deque<Tenant>& all() { return all_; }

  // Who waits for a slot.
  void wait(Connection& connection, Op& op);
  void wait(Connection& connection);
  void stop_waiting(Connection& connection, Op& op);
  void stop_waiting(Connection& connection);
  bool anyone_waits() const { return !waiting_.empty(); }
  /// Deficit round robin by bytes over the tenants that wait, then over their clients, whose connections take turns,
  /// gets and puts as well. True: somebody was served.
  bool serve();

 private:
  void rebalance();
  void divide(Tenant& tenant);
  void divide_anew(Tenant& tenant);
  void update(Holder& holder);
  bool serve(Tenant& tenant);
  bool serve(Holder& holder);
  bool serve_one(Holder& holder);
  bool serve_get(Holder& holder);
  bool serve_put(Holder& holder);

  const std::vector<uint32_t> totals_;
  std::array<Share, kPoolsMax> shares_;
  Pool<Holder> holders_;
  std::deque<Tenant> all_;
  Prefetches prefetches_;
  uint32_t active_ = 0;
  base::IntrusiveList<Tenant, &Tenant::link> waiting_;  ///< the first one's turn is next
  std::vector<Tenant*> round_;
  std::vector<Holder*> clients_round_;
};

}  // namespace memkv::shard
