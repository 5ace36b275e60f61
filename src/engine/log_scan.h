#pragma once
/// Reads one log at start. Whatever is unreadable or wrong in it is noticed: the log's parts vouch for each other. A
/// segment is known by its header, its first extent or its footer; what a footer lists, extent headers say as well; an
/// extent that is lost is missed by those behind it, a lost tail by the anchors; and what one block says nobody else
/// does is only what may be forgotten.

#include <optional>
#include <vector>

#include "engine/recovery.h"
#include "engine/scan_reads.h"

namespace memkv::engine {

/// One use: look_ahead(), begin(), step() until it says false, end(). Logs take turns between the steps, and all drives
/// read meanwhile. Thread: worker.
class LogScan {
 public:
  static constexpr uint64_t kWindowBytes = 2 << 20;

  /// `window` is memory of that size, which several may share: nobody needs it from one call to the next.
  LogScan(Recovery& recovery, Log& log, std::byte* window);
  /// Begins to read. `bytes_max`: of what is read before it is looked at.
  void look_ahead(uint64_t bytes_max);
  /// Anchors, and which segments there are.
  void begin();
  /// Begins to read records, as look_ahead() does.
  void look_ahead_at_records(uint64_t bytes_max);
  /// About how many records footers tell of.
  uint64_t records_told() const;
  /// step() would not wait.
  bool ready() const { return reads_.ahead().ready(); }
  /// Hands the records of a segment, or of a part of the newest one, to Recovery::take. False: there are no more.
  bool step();
  /// Where the log goes on.
  Log::Position end();
  /// Too much of the drive cannot be read: what was found is not to be relied upon.
  bool unreadable() const { return reads_.unreadable(); }
  Log& log() const { return log_; }

 private:
  struct Segment {
    uint64_t epoch = 0;
    bool has_header = false;
    format::SegmentHeader header{};
    uint32_t footer_bytes = 0;  // as its last sector said; 0: it did not
    uint32_t record_count = 0;  // likewise
    bool footer_ahead = false;  // its footer is being read
  };
  struct Extent {
    uint32_t sector = 0;
    format::ExtentHeader header{};
    std::vector<std::byte> bytes;  // of the header: records, and the note behind them; the zeros between are left out
    uint32_t end() const { return sector + header.extent_bytes / base::kSectorBytes; }
    std::vector<std::byte> whole_header() const;  ///< as it was read
  };
  struct Mark {
    uint64_t epoch = 0;
    uint32_t sector = 0;
    bool covers(uint64_t e, uint32_t b) const { return e < epoch || (e == epoch && b < sector); }
    void raise(uint64_t e, uint32_t b) {
      if (e > epoch || (e == epoch && b > sector)) *this = {e, b};
    }
  };
  struct Hole {
    uint32_t begin = 0;
    size_t next = 0;  // the extent behind it
  };
  /// The extents of a segment as far as they go.
  struct Walk {
    std::vector<Extent> extents;
    std::vector<Hole> holes;
    uint32_t end = 1;
    uint64_t chain = 0;
    bool chained = false;     // `chain` is known
    bool unreadable = false;  // and there may be more: the block behind them cannot be read
    Mark mark;                // all before it had completed
  };

  void read_anchors();
  Segment look_at(uint64_t position);
  void look_at_footer(uint64_t position, Segment& segment);
  std::vector<Segment> find_run();
  Log::Position lost_position(uint64_t newest);
  bool tail_is_lost(uint64_t newest) const;
  void see_sequences(const std::vector<Segment>& run);
  void lost_header(uint64_t epoch);
  void lose_all(uint64_t epoch, uint32_t sector);
  uint32_t first_sector(uint64_t epoch) const { return epoch == cut_.epoch && cut_.sector > 1 ? cut_.sector : 1; }
  void plan_footers(size_t first);
  bool read_footer(const Segment& segment, Log::Position& end);
  bool use_footer(uint64_t epoch, const format::FooterTrailer& trailer, base::Bytes bytes, Log::Position& end);
  bool footer_trailer(uint64_t position, format::FooterTrailer& out);
  void read_sealed(const Segment& segment, const Segment& next);
  bool step_newest(const Segment& segment);
  bool has_stretch(uint64_t epoch, const Walk& walk);
  Log::Position take_newest(const Segment& segment, const Walk& walk);
  Walk begin_walk(const Segment& segment) const;
  bool walk_on(uint64_t epoch, const uint64_t* chain_end, Walk& walk);
  Walk walk(const Segment& segment, const uint64_t* chain_end);
  std::optional<Extent> read_extent(uint64_t epoch, uint32_t sector, bool early = false);
  uint32_t header_sectors_at(uint64_t epoch, uint32_t sector);
  std::optional<uint32_t> find_next(uint64_t epoch, uint32_t sector);
  bool verify(uint64_t epoch, const Extent& extent);
  void lose_extent(uint64_t epoch, const Extent& extent);
  static std::vector<format::NoteEntry> note_of(const Extent& extent, uint32_t& sector);
  void settle_holes(uint64_t epoch, const Walk& walk);
  void take(uint64_t epoch, const Extent& extent, bool open_segment);
  std::vector<std::byte> head_payload(uint64_t offset, const format::RecordView& record);

  Recovery& recovery_;
  Log& log_;
  const uint32_t sectors_;  // of a segment
  std::byte* const window_;
  ScanReads reads_;
  uint64_t ahead_bytes_max_ = 0;
  bool anchored_ = false;  // an anchor could be read
  uint64_t reserved_ = 0;  // sequences, by any life of the log
  Mark complete_;          // as anchors say
  Mark cut_;               // all before it was dropped
  uint64_t oldest_ = 1;
  std::vector<Segment> run_;   // newest first
  size_t next_ = 0;            // of them
  bool nothing_ = false;       // is live: `position_` is all there is to say
  std::optional<Walk> tail_;   // through the newest
  bool by_stretches_ = false;  // what is read ahead are parts of the newest segment
  uint64_t stretch_end_ = 0;   // up to there, from the segment's start
  Log::Position position_;
};

}  // namespace memkv::engine
