#pragma once
/// Prefetches that were answered, and whose chunks are still to be read.

#include <cstdint>

#include "base/intrusive_list.h"
#include "shard/op.h"
#include "shard/request_ops.h"
#include "shard/tenant.h"

namespace memkv::shard {

/// Hints of clients, carried out behind their ops. Few reads are with the drives at a time, so that a get never waits
/// behind many of them; tenants take turns, chunk by chunk. Whatever would be in the way is dropped: where gets wait for
/// slots, where the pool or the tenant's share of it is used up, past the deadline, and when the connection closes.
///
/// Thread: worker.
class Prefetches {
 public:
  Prefetches() = default;
  Prefetches(const Prefetches&) = delete;
  Prefetches& operator=(const Prefetches&) = delete;

  /// Of the op's block, which has so many bytes. False: it is dropped.
  bool add(const Op& op, uint64_t block_bytes);
  /// At every tick: a drive that hangs keeps those that wait from their turn.
  void drop_unwanted();
  bool at_rest() const { return reads_ == 0 && turns_.empty(); }

 private:
  static constexpr uint32_t kReadsMax = 32;
  static constexpr uint64_t kReadBytesMax = uint64_t{8} << 20;
  static constexpr uint32_t kTurnsMax = 64;  ///< in one go; the rest waits for what is with the drives

  void queue(Prefetch& prefetch);
  void pump();
  bool may_read() const { return reads_ < kReadsMax && read_bytes_ < kReadBytesMax; }
  static bool unwanted(const Prefetch& prefetch);
  void read(Prefetch& prefetch);
  void on_read(Prefetch& prefetch);
  static void end(Prefetch& prefetch);

  base::IntrusiveList<Tenant, &Tenant::prefetch_link> turns_;  ///< tenants with prefetches that wait
  uint32_t reads_ = 0;
  uint64_t read_bytes_ = 0;
};

}  // namespace memkv::shard
