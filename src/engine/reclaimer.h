#pragma once
/// Reclaim = eviction: the oldest segment of a log goes. What is worth it is appended again, the rest is dropped.

#include <memory>
#include <vector>

#include "engine/moves.h"
#include "engine/parts.h"
#include "engine/segment_walk.h"

namespace memkv::engine {

/// Frees segments of the logs that ask for it: one segment at a time, the logs in turn. What is kept is decided in
/// eviction_policy.h.
///
/// Owns the walk through that segment, and walks that a drive which is out has not given back. Knows the drives, the
/// blocks and the uploads. Thread: worker.
class Reclaimer final : public Drives::Listener, public SegmentWalk::Owner {
 public:
  /// Throws std::bad_alloc.
  explicit Reclaimer(Parts& parts);
  /// The drive's log is to free segments.
  void want(uint8_t drive) { on_segment_needed(drive); }
  /// Begins with a log that wants it, unless a segment is being freed. Every tick, and whenever one may be ready.
  void start();
  bool active() const { return walk_->active(); }
  /// No drive has anything of its memory.
  bool at_rest() const { return !walk_->stuck() && left_walks_.empty(); }

 private:
  void on_segment_needed(uint8_t drive) override;
  void on_oldest_unpinned(uint8_t drive) override;
  void on_drives_stopped() override;
  void on_walk_ended(SegmentWalk& walk) override;
  void on_left_walk_returned(SegmentWalk& walk) override;
  bool renew_walk();
  bool is_ready(uint8_t drive);
  bool helps_index() const;

  Parts& parts_;
  Moves moves_;
  std::unique_ptr<SegmentWalk> walk_;
  std::vector<std::unique_ptr<SegmentWalk>> left_walks_;
  std::vector<uint8_t> wanted_;  // by drive
  size_t next_drive_ = 0;        // whose turn it is
};

}  // namespace memkv::engine
