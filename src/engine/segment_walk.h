#pragma once
/// A walk through one segment that is to be freed.

#include "engine/eviction_policy.h"
#include "engine/moves.h"
#include "engine/parts.h"
#include "io/huge_memory.h"

namespace memkv::engine {

/// Looks at each record of a log's oldest segment, and keeps or drops it as the eviction policy says. The footer names
/// all records: where none of them is kept, nothing else is read.
///
/// Owns the buffer that is read into, and moved from. Knows the blocks, the uploads and the moves. Thread: worker.
class SegmentWalk {
 public:
  /// Who walks.
  class Owner {
   public:
    /// Everything in the segment was decided, or the store is being closed, or the drive is out.
    virtual void on_walk_ended(SegmentWalk& walk) = 0;
    /// The drive has given back the last of what it had of a walk that was left, which may be deleted inside.
    virtual void on_left_walk_returned(SegmentWalk& walk) = 0;

   protected:
    ~Owner() = default;
  };

  SegmentWalk(Parts& parts, Moves& moves, Owner& owner) : parts_(parts), moves_(moves), owner_(owner) {}
  /// False: there is no memory for the buffer now.
  bool take_buffer();
  bool has_buffer() const { return buffer_.size() > 0; }

  void begin(Log& log);
  bool active() const { return active_; }
  /// The drive has some of the buffer.
  bool stuck() const { return io_.pending() || moves_in_flight_ > 0; }
  /// The drive is out. What comes back from it ends the walk.
  void leave();
  Log& log() const { return *log_; }
  uint64_t epoch() const { return epoch_; }
  /// Records could not be read: entries that point into the segment are to be dropped, whatever they are.
  bool blind() const { return blind_; }

 private:
  bool ended_by_return();
  void end();
  // By the footer.
  void read_footer(uint64_t bytes, io::IoOp::Fn on_done);
  static void on_footer_start(io::IoOp& op, int32_t result);
  static void on_footer(io::IoOp& op, int32_t result);
  void use_footer();
  bool evict_by_footer();
  // By the extents.
  void walk_extents();
  uint64_t small_window() const;
  void read_window();
  static void on_window(io::IoOp& op, int32_t result);
  void go_blind();
  void look_at_extents();
  bool keeps_any_of(base::Bytes extent);
  void look_at_records(base::Bytes extent);
  // Records.
  Place place_of(const format::RecordHeader& header) const;
  bool keeps_record(const format::RecordHeader& header);
  void evict(const format::RecordHeader& header);
  void move(const format::RecordView& record, std::byte* payload);
  void move_returned();

  Parts& parts_;
  Moves& moves_;
  Owner& owner_;
  io::HugeMemory buffer_;
  bool active_ = false;
  bool left_ = false;
  // Of the segment.
  Log* log_ = nullptr;
  uint64_t epoch_ = 0;
  uint32_t sector_ = 0, end_ = 0;  // next to look at, and where its records end
  bool blind_ = false;
  uint64_t kept_payload_bytes_ = 0;
  uint64_t moved_sectors_before_ = 0;  // by the log, when this walk began
  uint64_t extent_kept_bytes_ = 0;     // of the present extent, each record in an extent of its own at worst
  uint64_t window_bytes_ = 0;          // to be read next
  uint32_t moves_in_flight_ = 0;
  io::IoOp io_;
  iovec piece_{};
};

}  // namespace memkv::engine
