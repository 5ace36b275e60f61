#pragma once
/// The slots of a worker, and what of them each client may have.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "io/arena.h"
#include "shard/tenants.h"
#include "shard/worker_types.h"
#include "wire/messages.h"

namespace memkv::shard {

/// Thread: worker.
class WorkerSlots {
 public:
  /// `tenants` outlives it.
  WorkerSlots(std::unique_ptr<io::SlotArena> arena, const WorkerOptions& options, Tenants& tenants);

  io::SlotArena& arena() { return *arena_; }
  const io::SlotArena& arena() const { return *arena_; }
  std::byte* scratch() { return scratch_.get(); }  ///< 2 MiB that nobody reads: payloads of rejected ops
  uint64_t count() const { return count_; }        ///< of all classes
  /// Payloads may be lent to sockets from here: the slots are registered with no drive's ring and no NIC, and can be
  /// given fresh pages.
  bool lends() const { return lends_; }
  uint64_t lent_bytes_max() const { return bytes_ / 4; }  ///< of one tenant, given to links and not yet back

  /// None: all are taken, or the free ones are others' share.
  io::Slot take(Holder& holder, uint32_t bytes);
  void give(Holder& holder, io::Slot slot);
  /// May so many more bytes of a client be in a log before they are complete? Its tenant has a part of what the slots
  /// hold, and of that one client at most half where there are others.
  bool room_in_log(const Holder& holder, uint32_t bytes) const;

  wire::Credit compute_credit(const Holder& holder) const;
  /// For all clients whose credit has moved by much: small moves are not worth a frame to everybody.
  void renew_credits();

 private:
  Tenants& tenants_;
  const std::unique_ptr<io::SlotArena> arena_;
  const std::unique_ptr<std::byte[]> scratch_;
  const uint32_t ops_max_;
  uint64_t count_ = 0;
  uint64_t bytes_ = 0;  ///< of all slots
  const bool lends_;
};

}  // namespace memkv::shard
