#pragma once
/// One append stream: the segments of one shard on one drive.

#include <cstdint>
#include <vector>

#include "engine/append.h"
#include "engine/device_write.h"
#include "engine/extent_writer.h"
#include "engine/recent_evictions.h"
#include "engine/room_extents.h"
#include "engine/segment_footer.h"
#include "engine/segments.h"
#include "engine/store.h"

namespace memkv::engine {

/// What the log asks of its shard.
class LogOwner : public ExtentBuffers {
 public:
  virtual void on_segment_needed(uint8_t drive) = 0;   ///< free segments are getting few: reclaim
  virtual void on_oldest_unpinned(uint8_t drive) = 0;  ///< or its last room closed: reclaim may have waited for that
  virtual void on_log_failed(uint8_t drive, const char* why) = 0;
  virtual bool is_last_drive(uint8_t drive) const = 0;  ///< no other one is left: it is never given up
  virtual void on_log_at_rest() = 0;                    ///< it was stopped, and nothing of it is in flight any more
};

/// What a log tells its anchors (format.h): facts that only grow.
struct LogFacts {
  uint64_t complete_epoch = 0, oldest_epoch = 0, cut_epoch = 0;
  uint32_t complete_sector = 0, cut_sector = 0;
  friend bool operator==(const LogFacts&, const LogFacts&) = default;
};

/// Queues appends, opens a segment with a header, has extents written into it, seals it with a footer when it is full,
/// and opens the next one. What fails goes to the next segment; a drive whose writes fail one after another is given up,
/// unless it is the last one.
///
/// Owns the queues, and the parts that know segments, footers and extents. Thread: worker.
class Log final : private FinishedAppends::Owner, private ExtentWriter::Owner {
 public:
  using Config = LogConfig;
  Log(io::Reactor& reactor, const Config& config, LogOwner& owner, StoreCounters& counters);

  /// Start of a log that was never written, or where recovery ended.
  struct Position {
    uint64_t newest_epoch = 0;  ///< 0: no segment was ever opened
    uint64_t oldest_epoch = 1;
    uint32_t cursor_sector = 0;  ///< next free sector of the newest segment
    uint64_t chain = 0;          ///< checksum of the last header
    bool sealed = false;         ///< nothing more goes into the newest segment
    bool marked = true;          ///< behind the last extent with records lies a closing mark, or a footer
    uint32_t told_sector = 0;    ///< end of the last extent with records of the newest segment
    uint64_t cut_epoch = 0;      ///< all before (cut_epoch, cut_sector) was dropped for good
    uint32_t cut_sector = 0;
    uint32_t last_sector = 0;                  ///< of the last extent; 0: there is none
    std::vector<format::NoteEntry> last_note;  ///< of its records, for the next extent's note
  };
  void start(const Position& position);
  /// Recovery: a record of the newest, still open segment, for its footer.
  void add_footer_entry(const format::RecordHeader& header, base::Bytes head_payload);

  void append(Append& append);
  /// Without submitting: pump() follows when all that belongs together is in.
  void enqueue(Append& append);
  void pump() override;
  /// Fails what waits and is past its deadline; closes the tail of a log that has been idle for a tick.
  void tick(uint64_t now_ns);
  /// There is more for tick() to do, though nothing waits and nothing is in flight.
  bool wants_mark() const;
  /// Behind what was written last: a closing mark, which says that it was complete. Only while nothing is in flight;
  /// also after stop(). False: there is nothing to be said, or no room to say it.
  bool write_mark();
  /// No more writes: everything waiting fails with `status`; what is in flight ends by itself.
  void stop(Status status);
  /// The drive cannot be used.
  void give_up(const char* why);
  bool idle() const;
  bool out() const { return out_ || stopped_; }
  /// The drive is the store's last one and does not take writes: they fail with this until one succeeds again.
  Status refusal() const { return trouble_.refusal; }

  LogFacts facts() const;
  /// An anchor that says so is durable.
  void anchored(const LogFacts& facts);
  /// The anchors do not know yet how far the log is complete.
  bool wants_anchor() const;

  // Memory mode: room that is filled in place. It is open until it is abandoned, or until on_done of its append has
  // run.
  using Room = RoomExtents::Room;
  Room reserve(uint32_t bytes, size_t key_bytes);
  void close_room(uint64_t epoch, uint64_t sector) override;

  Segments& segments() { return segments_; }
  const Segments& segments() const { return segments_; }
  void unpin(uint64_t epoch);
  /// The oldest segment is free for writing again.
  void free_oldest();
  RecentEvictions& evictions() { return evictions_; }
  const RecentEvictions& evictions() const { return evictions_; }
  const ExtentWriter& extents() const { return extents_; }
  uint64_t queued_bytes() const { return fresh_.bytes + extents_.bytes_in_flight(); }
  const Config& config() const { return config_; }
  io::BlockDevice& device() { return *config_.slice.device; }

 private:
  enum class Phase : uint8_t { kOpen, kDrain, kFooter, kNeedSegment, kHeader };
  /// Device writes that failed, and what follows from them.
  struct Trouble {
    uint32_t errors = 0;  // one after another
    Status refusal = Status::kOk;
    uint64_t retry_at_ns = 0;
    bool refuses(io::Reactor& reactor) const { return refusal != Status::kOk && reactor.now_ns() < retry_at_ns; }
    void end(const LogConfig& config);  ///< a write was done
  };

  /// Of what stands before and behind the extents.
  struct SegmentWrites {
    DeviceWrite header, footer;
  };

  bool yields_to_reads() const;
  void on_extent_written() override;
  void append_failed_again();
  void seal();
  void write_footer();
  static void on_footer(io::IoOp& op, int32_t result);
  void request_reclaim();
  void need_segment();
  void open_segment();
  static void on_header(io::IoOp& op, int32_t result);
  bool refuses_instead(int32_t result);

  io::Reactor& reactor_;
  const Config config_;
  LogOwner& owner_;
  StoreCounters& counters_;
  FinishedAppends finished_;
  Segments segments_;
  RecentEvictions evictions_;
  SegmentFooter footer_;
  ExtentWriter extents_;
  RoomExtents rooms_;
  AppendQueue fresh_, moves_;  // waiting; those of reclaim go first
  Phase phase_ = Phase::kNeedSegment;
  bool out_ = false, stopped_ = false;
  Trouble trouble_;
  LogFacts anchored_;
  uint64_t idle_since_ns_ = 0;
  SegmentWrites segment_writes_;
  alignas(base::kSectorBytes) std::byte header_[base::kSectorBytes]{};
};

}  // namespace memkv::engine
