#pragma once
/// The segments of a log: a ring of places on the drive that are written and freed in turn.

#include <cstdint>
#include <vector>

#include "engine/store.h"

namespace memkv::engine {

/// Each segment that is opened gets the next epoch; its place is the epoch modulo the number of places. Those from the
/// oldest to the newest epoch hold records, the others are free.
///
/// Owns what is known of each segment. Part of a Log. Thread: worker.
class Segments {
 public:
  explicit Segments(const DriveSlice& slice);
  /// As recovery found them. newest 0: none was ever opened.
  void start(uint64_t newest, uint64_t oldest);

  uint64_t count() const { return segments_.size(); }
  uint64_t newest() const { return newest_; }
  uint64_t oldest() const { return oldest_; }
  uint64_t free() const { return newest_ == 0 ? count() : count() - (newest_ - oldest_ + 1); }
  /// The newest one is in the last place.
  bool full() const { return newest_ != 0 && free() == 0; }
  uint64_t bytes() const { return bytes_; }  ///< of each
  uint32_t sectors() const;                  ///< likewise
  uint64_t usable_bytes() const;             ///< of all, less their first and last sector
  uint64_t place_of(uint64_t epoch) const;   ///< offset on the drive
  uint64_t end_of(uint64_t epoch) const { return place_of(epoch) + bytes_; }
  uint64_t epoch_at(uint64_t drive_offset) const;  ///< 0: nothing live there
  uint64_t place_of_sector(uint64_t epoch, uint32_t sector) const;
  uint64_t number_of(uint64_t drive_offset) const;  ///< of the place that it lies in; count(): none

  /// The next epoch, in a free place.
  void open_next();
  /// Something besides the newest segment holds records.
  bool can_free() const { return newest_ > oldest_; }
  /// The oldest segment's place is free for writing again. Nothing reads it, no room in it is open, and it is not the
  /// newest.
  void free_oldest();

  void pin(uint64_t epoch) { ++at(epoch).pins; }
  /// True: it was the last pin of the oldest segment.
  [[nodiscard]] bool unpin(uint64_t epoch);
  uint32_t pins(uint64_t epoch) const { return at(epoch).pins; }
  void open_room(uint64_t epoch) { ++at(epoch).rooms; }
  /// True: it was the last room of the oldest segment.
  [[nodiscard]] bool close_room(uint64_t epoch);
  uint32_t data_end(uint64_t epoch) const { return at(epoch).data_end; }  ///< sectors; of a sealed one
  void set_data_end(uint64_t epoch, uint32_t sector) { at(epoch).data_end = sector; }
  /// Memory mode: the pages of this segment are to be other ones before its place is written again.
  void renew(uint64_t epoch) { at(epoch).renew = true; }
  bool renews(uint64_t epoch) const { return at(epoch).renew; }
  /// Reclaim has decided about each record of the oldest segment, which is still being read.
  void decide_oldest() { at(oldest_).decided = true; }
  /// Nothing is to be done about the oldest segment now: it is decided about and still being read, or has open rooms (a
  /// walk would pass them, and miss the records that are still to come).
  bool oldest_waits() const;

 private:
  struct Segment {
    uint32_t pins = 0;
    uint32_t rooms = 0;  // open
    uint32_t data_end = 1;
    bool renew = false;
    bool decided = false;  // by reclaim: what was to be moved is, the rest is dropped
  };
  Segment& at(uint64_t epoch) { return segments_[epoch % segments_.size()]; }
  const Segment& at(uint64_t epoch) const { return segments_[epoch % segments_.size()]; }

  const uint64_t first_place_;  // offset on the drive, behind the anchors
  const uint64_t bytes_;
  std::vector<Segment> segments_;  // by place
  uint64_t newest_ = 0, oldest_ = 1;
};

}  // namespace memkv::engine
