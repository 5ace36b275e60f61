#pragma once
/// Reads one log at start. Whatever is unreadable or wrong in it is noticed: the log's parts vouch for each other. A
/// segment is known by its header, its first extent or its footer; what a footer lists, extent headers say as well; an
/// extent that is lost is missed by those behind it, a lost tail by the anchors; and what one block says nobody else
/// does is only what may be forgotten.

#include <cstdlib>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "engine/recovery.h"

namespace memkv::engine {

/// One use: LogScan(recovery, log).run(). Thread: worker.
class LogScan {
 public:
  LogScan(Recovery& recovery, Log& log);
  /// Hands all records to Recovery::take and says where the log goes on.
  Log::Position run();
  /// Too much of the drive cannot be read: what was found is not to be relied upon.
  bool unreadable() const { return bad_.size() > kUnreadableMax; }

 private:
  static constexpr size_t kUnreadableMax = 16;
  static constexpr uint64_t kWindowBytes = 2 << 20;

  struct Segment {
    uint64_t epoch = 0;
    bool has_header = false;
    format::SegmentHeader header{};
  };
  struct Extent {
    uint32_t sector = 0;
    format::ExtentHeader header{};
    std::vector<std::byte> bytes;  // of the header
    uint32_t end() const { return sector + header.extent_bytes / base::kSectorBytes; }
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
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  using Memory = std::unique_ptr<std::byte, Free>;

  void read(uint64_t offset, std::byte* memory, uint64_t bytes);
  void read_anchors();
  Segment look_at(uint64_t position);
  std::vector<Segment> find_run();
  Log::Position lost_position(uint64_t newest);
  bool tail_is_lost(uint64_t newest) const;
  void see_sequences(const std::vector<Segment>& run);
  void lost_header(uint64_t epoch);
  void lose_all(uint64_t epoch, uint32_t sector);
  uint32_t first_sector(uint64_t epoch) const { return epoch == cut_.epoch && cut_.sector > 1 ? cut_.sector : 1; }
  bool read_footer(uint64_t epoch, Log::Position& end);
  bool footer_trailer(uint64_t position, format::FooterTrailer& out);
  void read_sealed(const Segment& segment, const Segment& next);
  Log::Position read_newest(const Segment& segment);
  Walk walk(const Segment& segment, const uint64_t* chain_end);
  std::optional<Extent> read_extent(uint64_t epoch, uint32_t sector);
  uint32_t header_sectors_at(uint64_t epoch, uint32_t sector);
  std::optional<uint32_t> find_next(uint64_t epoch, uint32_t sector);
  bool verify(uint64_t epoch, const Extent& extent);
  bool cannot_be_read(uint64_t epoch, uint32_t begin, uint32_t end) const;
  void lose_extent(uint64_t epoch, const Extent& extent);
  static std::vector<format::NoteEntry> note_of(const Extent& extent, uint32_t& sector);
  void settle_holes(uint64_t epoch, const Walk& walk);
  void take(uint64_t epoch, const Extent& extent, bool open_segment);
  std::vector<std::byte> head_payload(uint64_t offset, const format::RecordView& record);
  uint64_t place_of(uint64_t epoch, uint32_t sector) const {
    return log_.segments().place_of(epoch) + uint64_t{sector} * base::kSectorBytes;
  }

  Recovery& recovery_;
  Log& log_;
  const uint32_t sectors_;  // of a segment
  Memory window_;
  std::set<uint64_t> bad_;  // blocks that cannot be read
  bool anchored_ = false;   // an anchor could be read
  uint64_t reserved_ = 0;   // sequences, by any life of the log
  Mark complete_;           // as anchors say
  Mark cut_;                // all before it was dropped
  uint64_t oldest_ = 1;
};

}  // namespace memkv::engine
