#pragma once
/// The drives of a store, and its log on each.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/buffers.h"
#include "engine/drive_watch.h"
#include "engine/log.h"
#include "engine/store.h"
#include "engine/tick.h"

namespace memkv::engine {

/// Which log takes a record, and what happens when a drive leaves.
///
/// A drive that failed here is *leaving* until the other drives' superblocks say durably that it is out: until then it
/// may come back after a restart, with what was replaced meanwhile. So no change is acknowledged before (rule 7).
///
/// Owns the logs and the acknowledgements that are held. Knows the buffers and the tick; whoever frees segments hears
/// of the logs' needs by Listener. Thread: worker.
class Drives final : public LogOwner {
 public:
  /// Who frees segments.
  class Listener {
   public:
    virtual void on_segment_needed(uint8_t drive) = 0;
    /// The oldest segment is not read any more, or its last room closed.
    virtual void on_oldest_unpinned(uint8_t drive) = 0;
    /// Some logs were stopped a moment ago.
    virtual void on_drives_stopped() = 0;

   protected:
    ~Listener() = default;
  };
  /// A change that is done, and may not be acknowledged while a drive leaves.
  class Held {
   public:
    virtual void on_drives_left() = 0;
    /// Instead of what it would have been acknowledged with: the drive may come back with what was replaced.
    virtual void make_unknown() = 0;

   protected:
    ~Held() = default;

   private:
    friend class Drives;
    Held* next_held_ = nullptr;
  };

  Drives(io::Reactor& reactor, const StoreOptions& options, Buffers& buffers, Tick& tick, StoreCounters& counters);
  void set_listener(Listener& listener) { listener_ = &listener; }

  size_t count() const { return logs_.size(); }
  /// Of all drives; null where a member is missing.
  std::span<const std::unique_ptr<Log>> logs() const { return logs_; }
  Log* log_of(uint8_t drive) const { return drive < logs_.size() ? logs_[drive].get() : nullptr; }
  /// nullptr: the drive is missing or out.
  Log* usable_log(uint8_t drive) const {
    Log* log = log_of(drive);
    return log != nullptr && !log->out() ? log : nullptr;
  }
  /// The log for a chunk of a block; `attempt` counts the drives that were tried before. nullptr: none is left.
  Log* choose_log(Digest digest, uint32_t chunk, uint32_t attempt) const;
  /// The log for a whole record whose home would be `home`: another one where that has too much queued.
  Log* less_busy(Log* home) const;
  /// What became of an append: kIo also when its drive went out while it was written.
  Status status_unless_drive_left(const Append& append) const;
  /// The old record, `old`, may stay in a log longer than what replaces or kills it, at `fresh`.
  bool needs_own_tombstone(Place old, Place fresh) const;
  /// Some log may show the block again after a restart, though it was evicted.
  bool evicted_may_return(Digest digest) const;
  uint64_t block_bytes_max() const { return usable_bytes_ / 4; }

  // Late drives.
  void watch();
  /// Names each drive that has not answered an op for long, once an op. Also while the store is being closed.
  void tell_of_silence();
  void forget_lagging() { watch_.forget(); }
  bool any_lags() const { return watch_.any_lags(); }
  bool lags(uint8_t drive) const { return watch_.lags(drive); }
  bool lags(const Log& log) const { return lags(log.config().slice.drive_index); }
  bool at_lagging_limit(uint8_t drive) const { return watch_.at_lagging_limit(drive); }

  // Drives that leave.
  bool all_out() const;
  bool any_leaving() const { return leaving_ != 0; }
  void hold(Held& change);
  /// They are out durably, a bit each.
  void take_out(uint64_t drives);
  /// The store is being closed: what is held is acknowledged as unknown, and the logs take no more appends. Returns
  /// those whose end is still to be told.
  std::vector<Log*> begin_closing();

 private:
  std::byte* take_extent_buffer() override { return buffers_.take_extent(); }
  void give_extent_buffer(std::byte* buffer) override { buffers_.give_extent(buffer); }
  void on_segment_needed(uint8_t drive) override { listener_->on_segment_needed(drive); }
  void on_oldest_unpinned(uint8_t drive) override { listener_->on_oldest_unpinned(drive); }
  void on_log_failed(uint8_t drive, const char* why) override;
  bool is_last_drive(uint8_t drive) const override;
  void on_log_at_rest() override { tick_.ended(); }
  void release_held();

  io::Reactor& reactor_;
  const StoreOptions& options_;
  Buffers& buffers_;
  Tick& tick_;
  Listener* listener_ = nullptr;
  std::vector<std::unique_ptr<Log>> logs_;
  DriveWatch watch_{logs_};
  uint64_t usable_bytes_ = 0;                                 // of all slices, in or out
  std::array<uint64_t, format::kDrivesMax> told_since_ns_{};  // of each drive: the op that was told of last
  uint64_t leaving_ = 0;    // drives that failed here and are not yet out durably, a bit each
  uint64_t taken_out_ = 0;  // drives that are out durably
  Held* held_head_ = nullptr;
  Held* held_tail_ = nullptr;
};

}  // namespace memkv::engine
