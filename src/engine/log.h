#pragma once
/// One append stream: the segments of one shard on one drive. Extents go out in order, several in flight, and are
/// acknowledged in order.

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "engine/index.h"
#include "engine/store.h"
#include "format/format_check.h"

namespace memkv::engine {

/// Memory for extents that share records, handed out by the shard.
inline constexpr uint32_t kExtentBufferBytes = 512 * 1024;

constexpr uint32_t sectors_of(uint64_t bytes) {
  return static_cast<uint32_t>((bytes + base::kSectorBytes - 1) / base::kSectorBytes);
}

/// One record on its way into a log. Owned by the op that appends it, borrowed until on_done (exactly once, never
/// inside append()).
struct Append {
  using Fn = void (*)(Append& append);
  format::RecordHeader
      header{};  ///< digest, namespace, sequence, kind, checksum ... set by the owner; sizes by the log
  std::string_view key;
  std::byte* payload = nullptr;  ///< lone records: 4 KiB aligned, 4 KiB of room in front, capacity rounded up to 4 KiB
  std::span<const uint64_t> sums;
  std::span<const format::PresentRange> ranges;
  bool lone = false;             ///< an extent of its own, header in front of the payload
  bool move = false;             ///< of reclaim: may use the last free segment
  uint64_t reserved_sector = 0;  ///< memory mode: the record lies in the segment already (block of its header); 0 = not
  uint64_t reserved_epoch = 0;
  uint64_t deadline_ns = ~uint64_t{0};
  Fn on_done = nullptr;
  void* context = nullptr;
  Status status = Status::kInternal;
  Place place;  ///< of the payload, when kOk
  uint64_t epoch = 0;
  Append* next = nullptr;
};

/// First in, first out list of appends.
struct AppendQueue {
  Append* head = nullptr;
  Append* tail = nullptr;
  uint64_t bytes = 0;
  bool empty() const { return head == nullptr; }
  void push(Append& a);
  Append* pop();
  void prepend(AppendQueue& other);
};

/// What the log asks of its shard.
class LogOwner {
 public:
  virtual ~LogOwner() = default;
  virtual std::byte* take_extent_buffer() = 0;  ///< null: none free; pump() comes again
  virtual void give_extent_buffer(std::byte* b) = 0;
  virtual void on_segment_needed(uint8_t drive) = 0;   ///< free segments are getting few: reclaim
  virtual void on_oldest_unpinned(uint8_t drive) = 0;  ///< or its last room closed: reclaim may have waited for that
  virtual void on_log_failed(uint8_t drive, const char* why) = 0;
  virtual bool is_last_drive(uint8_t drive) const = 0;  ///< no other one is left: it is never given up
};

/// What a log tells its anchors (format.h): facts that only grow.
struct LogFacts {
  uint64_t complete_epoch = 0, oldest_epoch = 0, cut_epoch = 0;
  uint32_t complete_sector = 0, cut_sector = 0;
  friend bool operator==(const LogFacts&, const LogFacts&) = default;
};

/// Thread: worker.
class Log {
 public:
  struct Config {
    DriveSlice slice;
    uint32_t shard = 0;
    uint8_t store_id[16] = {};
    uint32_t writes_max = 4;
    uint32_t buffers_max = 4;  ///< of the shard's extent buffers: a drive that hangs must not hold them all
    bool memory_mode = false;
  };
  Log(io::Reactor& reactor, const Config& config, LogOwner& owner, StoreCounters& counters);
  ~Log();

  /// Start of a log that was never written, or where recovery ended.
  struct Position {
    uint64_t newest_epoch = 0;  ///< 0: no segment was ever opened
    uint64_t oldest_epoch = 1;
    uint32_t cursor_sector = 0;  ///< next free block of the newest segment
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
  void pump();
  /// Fails what waits and is past its deadline; closes the tail of a log that has been idle for a tick.
  void tick(uint64_t now_ns);
  /// There is more for tick() to do, though nothing waits and nothing is in flight.
  bool wants_mark() const { return !marked_ && phase_ == Phase::kOpen && !out() && refusal_ == Status::kOk; }
  /// Behind what was written last: a closing mark, which says that it was complete. Only while nothing is in flight;
  /// also after stop(). False: there is nothing to be said, or no room to say it.
  bool write_mark();
  /// No more writes: everything waiting fails with `status`; what is in flight ends by itself.
  void stop(Status status);
  bool idle() const { return in_flight_ == 0 && fresh_.empty() && moves_.empty() && phase_io_idle(); }
  bool out() const { return out_ || stopped_; }
  /// Recovery: the drive cannot be used.
  void give_up(const char* why) { fail(why); }
  /// The drive is the store's last one and does not take writes: they fail with this until one succeeds again.
  Status refusal() const { return refusal_; }

  LogFacts facts() const { return {told_epoch_, oldest_, cut_epoch_, told_sector_, cut_sector_}; }
  /// An anchor that says so is durable.
  void anchored(const LogFacts& facts);
  /// The anchors do not know yet how far the log is complete.
  bool wants_anchor() const;

  // Memory mode: room that is filled in place. It is open until it is abandoned, or until on_done of its append has
  // run.
  struct Room {
    std::byte* data = nullptr;
    uint64_t sector = 0;
    uint64_t epoch = 0;
  };
  Room reserve(uint32_t bytes);
  void close_room(uint64_t epoch);

  // Segments.
  uint64_t oldest_epoch() const { return oldest_; }
  uint64_t newest_epoch() const { return newest_; }
  uint64_t segments() const { return segments_.size(); }
  uint64_t free_segments() const { return newest_ == 0 ? segments() : segments() - (newest_ - oldest_ + 1); }
  uint64_t segment_start(uint64_t epoch) const;    ///< offset on the drive
  uint64_t epoch_at(uint64_t drive_offset) const;  ///< 0: nothing live there
  void pin(uint64_t epoch) { ++segment_of(epoch).pins; }
  void unpin(uint64_t epoch);
  uint32_t pins(uint64_t epoch) { return segment_of(epoch).pins; }
  uint32_t data_end(uint64_t epoch) { return epoch == newest_ ? cursor_ : segment_of(epoch).data_end; }
  void set_data_end(uint64_t epoch, uint32_t sector) { segment_of(epoch).data_end = sector; }
  /// Reclaim has decided about each record of the oldest segment, which is still being read.
  void oldest_is_decided() { segment_of(oldest_).decided = true; }
  /// Nothing is to be done about the oldest segment before on_oldest_unpinned: it is decided about and still being
  /// read, or has open rooms (a walk would pass them, and miss the records that are still to come).
  bool oldest_waits() const {
    const Segment& s = segments_[oldest_ % segments_.size()];
    return s.rooms > 0 || (s.decided && s.pins > 0);
  }
  /// The oldest segment is free for writing again. Its pins and rooms are 0 and it is not the newest.
  void free_oldest();
  /// Reclaim drops what is in this epoch, the oldest.
  void evicting(uint64_t epoch);
  /// Evicted records may be found again after a restart: it is not yet written in two places that their segment is
  /// free.
  bool evicted_may_return() const { return evicted_ > durable_oldest_; }
  /// A block with a record here was dropped from the index, and no tombstone says so.
  void note_evicted(Digest digest) {
    evicted_filter_[filter_bit(digest) / 64] |= uint64_t{1} << filter_bit(digest) % 64;
  }
  /// The block may be one of those whose records may be found again. Wrong in a few cases of a hundred, one way only.
  bool may_return(Digest digest) const {
    return evicted_may_return() && (evicted_filter_[filter_bit(digest) / 64] >> filter_bit(digest) % 64 & 1) != 0;
  }
  bool can_reclaim() const { return newest_ > oldest_; }
  uint64_t queued_bytes() const { return fresh_.bytes + flight_bytes_; }
  uint64_t usable_bytes() const { return segments() * (config_.slice.segment_bytes - 2 * base::kSectorBytes); }
  const Config& config() const { return config_; }
  io::BlockDevice& device() { return *config_.slice.device; }
  uint64_t seed() const { return seed_; }                    ///< of the checksums of its structures
  uint64_t moved_sectors() const { return moved_sectors_; }  ///< that moves took so far, headers and gaps included

 private:
  /// Device writes that fail one after another until the drive is given up.
  static constexpr uint32_t kErrorsMax = 3;
  static constexpr uint64_t kRefusesNs = 1'000'000'000;  ///< then a drive that takes no writes is tried again
  static constexpr size_t kNoteMax = 128;
  static constexpr size_t kFilterBits = 1 << 17;

  enum class Phase : uint8_t { kOpen, kDrain, kFooter, kNeedSegment, kHeader };
  struct Segment {
    uint32_t pins = 0;
    uint32_t rooms = 0;  // open
    uint32_t data_end = 1;
    bool decided = false;  // by reclaim: what was to be moved is, the rest is dropped
  };
  struct DeviceWrite {
    io::IoOp io;
    iovec piece{};
    uint64_t offset = 0;
    io::Timer again;  // while the device has no room for one more op
    Log* log = nullptr;
    bool pending() const { return io.pending() || again.armed(); }
  };
  struct Write : DeviceWrite {
    Append* records = nullptr;
    std::byte* buffer = nullptr;
    uint64_t chain_before = 0;
    uint32_t start_sector = 0;
    uint32_t sectors = 0;
    uint32_t footer_bytes = 0;
    uint64_t oldest = 0;  ///< as its header says
    int32_t result = 0;
    bool done = false;
  };

  Segment& segment_of(uint64_t epoch) { return segments_[epoch % segments_.size()]; }
  bool phase_io_idle() const { return !footer_write_.pending() && !header_write_.pending(); }
  uint32_t segment_sectors() const { return static_cast<uint32_t>(config_.slice.segment_bytes / base::kSectorBytes); }
  bool fits(uint32_t sectors, uint32_t footer_more) const;
  /// The last segment is open: room for what reclaim moves, and nothing else may seal it.
  bool only_moves() const { return newest_ != 0 && free_segments() == 0; }
  AppendQueue& next_queue();
  bool submit_next();
  bool submit_lone(Append& a);
  bool submit_group();
  bool submit(Write& w, std::byte* memory);
  uint64_t finish_header(format::ExtentBuilder& builder, uint32_t header_bytes, uint32_t extent_bytes);
  void note_records(const Append* records);
  void start_write(DeviceWrite& w);
  void fill_extent_header(format::ExtentHeader& h, uint32_t header_bytes, uint32_t extent_bytes, uint32_t sector) const;
  void set_sizes(Append& a, uint32_t place_in_extent);
  void complete_front();
  void acknowledge(Write& w);
  void fail_from_front();
  void give_buffer(const Write& w);
  void seal();
  void write_footer();
  void need_segment();
  void write_header();
  void fail(const char* why);
  void fail_queue(AppendQueue& q, Status status);
  void finish(Append& a, Status status);
  void request_reclaim();
  bool refuses_instead(int32_t result);
  bool refuses() const { return refusal_ != Status::kOk && reactor_.now_ns() < retry_at_ns_; }
  void takes_writes_again();
  bool waits_for_room() const;
  void update_durable_oldest();
  static size_t filter_bit(Digest digest) { return digest.lo % kFilterBits; }
  static void on_write(io::IoOp& op, int32_t result);
  static void on_footer(io::IoOp& op, int32_t result);
  static void on_header(io::IoOp& op, int32_t result);
  static void on_post(io::IoOp& op, int32_t result);
  static uint32_t entry_bytes(const Append& a);

  io::Reactor& reactor_;
  Config config_;
  LogOwner& owner_;
  StoreCounters& counters_;
  uint64_t seed_;
  std::vector<Segment> segments_;
  uint64_t newest_ = 0, oldest_ = 1;
  uint64_t evicted_ = 1;  // epochs below it were dropped from the index
  // Oldest epoch as the newest header, extent and anchor say that are durable. What two of them say survives the loss
  // of any one block.
  uint64_t header_oldest_ = 1, extent_oldest_ = 1, anchor_oldest_ = 1;
  uint64_t durable_oldest_ = 1;
  std::vector<uint64_t> evicted_filter_;  // digests that went since what is durable
  uint64_t told_epoch_ = 0;               // end of the last extent with records that is complete: marks may be lost
  uint32_t told_sector_ = 0;
  uint64_t cut_epoch_ = 0;
  uint32_t cut_sector_ = 0;
  LogFacts anchored_;
  bool marked_ = true;
  uint64_t idle_since_ns_ = 0;
  std::array<format::NoteEntry, kNoteMax> note_{};  // of the last extent's records
  size_t note_count_ = 0;
  uint32_t note_sector_ = 0;  // of the last extent; 0: nothing is told of it
  Status refusal_ = Status::kOk;
  uint64_t retry_at_ns_ = 0;
  uint32_t cursor_ = 0;
  uint64_t chain_ = 0;
  uint64_t complete_epoch_ = 0;
  uint32_t complete_sector_ = 0;
  Phase phase_ = Phase::kNeedSegment;
  bool out_ = false, stopped_ = false, posted_ = false;
  uint32_t errors_ = 0;
  AppendQueue fresh_, moves_, done_;
  std::vector<Write> writes_;  // ring: [first_, first_ + in_flight_)
  uint32_t first_ = 0, in_flight_ = 0;
  uint32_t buffers_ = 0;  // taken for what is in flight
  uint64_t flight_bytes_ = 0;
  uint64_t moved_sectors_ = 0;
  std::unique_ptr<std::byte[]> footer_memory_;
  uint32_t footer_capacity_ = 0;
  std::unique_ptr<format::FooterBuilder> footer_;
  uint32_t footer_used_ = 0;  // entries acknowledged and in flight
  uint64_t sequence_max_ = 0;
  std::byte* header_sector_ = nullptr;  // 4 KiB aligned
  std::byte* footer_sector_ = nullptr;  // aligned copy of the footer on its way
  std::byte* mark_sector_ = nullptr;
  DeviceWrite footer_write_, header_write_;
  io::IoOp post_io_;
};

}  // namespace memkv::engine
