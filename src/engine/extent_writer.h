#pragma once
/// The extents of a log: made of what waits, written, acknowledged in order.

#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "engine/append.h"
#include "engine/device_write.h"
#include "engine/extent_note.h"
#include "engine/recent_evictions.h"
#include "engine/segment_footer.h"
#include "engine/segments.h"
#include "engine/store.h"

namespace memkv::engine {

/// Memory for extents that share records, handed out by the shard.
inline constexpr uint32_t kExtentBufferBytes = 512 * 1024;

class ExtentBuffers {
 public:
  virtual ~ExtentBuffers() = default;
  virtual std::byte* take_extent_buffer() = 0;  ///< null: none free; pump() comes again
  virtual void give_extent_buffer(std::byte* b) = 0;
};

constexpr uint32_t sectors_of(uint64_t bytes) {
  return static_cast<uint32_t>((bytes + base::kSectorBytes - 1) / base::kSectorBytes);
}

/// Where a payload of this size may start in an extent.
constexpr uint64_t payload_start(uint64_t at, uint32_t bytes) {
  return base::align_up(at, bytes != 0 && bytes % base::kSectorBytes == 0 ? base::kSectorBytes : format::kPackBytes);
}

struct LogConfig {
  DriveSlice slice;
  uint32_t shard = 0;
  uint8_t store_id[16] = {};
  uint32_t writes_max = 4;
  uint32_t buffers_max = 4;  ///< of the shard's extent buffers: a drive that hangs must not hold them all
  bool memory_mode = false;
};

/// How far a log is complete, and how far it was dropped.
struct LogProgress {
  uint64_t complete_epoch = 0;   ///< all before it, and
  uint32_t complete_sector = 0;  ///< all before that in it, was written
  uint64_t told_epoch = 0;       ///< end of the last extent with records that is complete: marks may be lost
  uint32_t told_sector = 0;
  uint64_t cut_epoch = 0;  ///< all before it was dropped for good
  uint32_t cut_sector = 0;
};

/// Writes extents behind one another, several in flight, each with the checksum of the one before in its header.
///
/// Owns the writes in flight, and the place where the next extent goes. Part of a Log, which says when a segment begins
/// and ends. Thread: worker.
class ExtentWriter {
 public:
  class Owner {
   public:
    virtual void on_extent_written() = 0;  ///< then comes complete()

   protected:
    ~Owner() = default;
  };
  enum class Submitted : uint8_t { kYes, kNoBuffer, kSegmentIsFull };
  struct Completed {
    bool some = false;          ///< were written, and are acknowledged
    bool failed = false;        ///< one failed; those behind it are not all back yet
    bool all_are_back = false;  ///< or they are
  };

  ExtentWriter(io::Reactor& reactor, const LogConfig& config, Segments& segments, SegmentFooter& footer,
               RecentEvictions& evictions, FinishedAppends& finished, ExtentBuffers& buffers, Owner& owner,
               StoreCounters& counters);

  /// Where recovery ended.
  void start(uint32_t sector, uint64_t chain, bool marked, const LogProgress& progress);
  void set_note(uint32_t sector, std::span<const format::NoteEntry> entries) { note_.set(sector, entries); }
  /// The segment's header has this checksum.
  void begin_segment(uint64_t header_checksum);
  /// It is durable.
  void segment_begun();
  /// The footer says as much as a mark.
  void footer_written() { marked_ = true; }

  /// One extent of what waits in the queue, which is not empty. Those of moves count as such.
  Submitted submit(AppendQueue& queue, bool moves);
  /// Behind what was written last: a closing mark, which says that it was complete.
  void submit_mark();
  /// A closing mark, or a footer, stands behind the last extent with records.
  bool marked() const { return marked_; }
  /// Completes what has been written, in order.
  Completed complete();
  /// After a failed write, when all are back: their records, in order; what comes next goes where the failed one was.
  /// Returns the failed write's result.
  int32_t take_failed(AppendQueue& fresh, AppendQueue& moves);

  /// The segment has room for so many sectors, and for the footer with so many bytes of entries more.
  bool fits(uint32_t sectors, uint32_t footer_more) const;
  /// Memory mode: room that is filled in place, at sector().
  void skip(uint32_t sectors) { tail_.sector += sectors; }
  bool full() const { return in_flight_ == writes_.size(); }
  bool idle() const { return in_flight_ == 0; }
  uint32_t shared_in_flight() const { return buffers_; }  ///< extents that several records may share
  uint64_t bytes_in_flight() const { return bytes_in_flight_; }
  uint64_t moved_sectors() const { return moved_sectors_; }  ///< that moves took so far, headers and gaps included
  uint32_t sector() const { return tail_.sector; }           ///< where the next extent goes
  uint64_t chain() const { return tail_.chain; }             ///< checksum of the last header
  const LogProgress& progress() const { return progress_; }
  uint64_t seed() const { return seed_; }

 private:
  struct Write {
    ExtentWriter* writer = nullptr;
    DeviceWrite device;
    Append* records = nullptr;
    std::byte* buffer = nullptr;  // of the shard's, to be given back
    uint64_t chain_before = 0;
    uint32_t start_sector = 0;
    uint32_t sectors = 0;
    uint32_t footer_bytes = 0;
    uint64_t oldest = 0;  // epoch, as its header says
    int32_t result = 0;
    bool done = false;
  };
  /// Which records share the next extent, and how large it is.
  struct Group {
    uint64_t count = 0;
    uint32_t header_bytes = 0;
    uint32_t extent_bytes = 0;
    uint32_t footer_bytes = 0;
  };
  Submitted submit_lone(AppendQueue& queue, bool moves);
  Submitted submit_group(AppendQueue& queue, bool moves);
  Group choose_group(const AppendQueue& queue) const;
  Append* fill_group(const Group& group, AppendQueue& queue, std::byte* memory, format::ExtentBuilder& builder);
  void submit_extent(format::ExtentBuilder& builder, const Group& extent, Append* records, std::byte* memory,
                     std::byte* buffer);
  uint64_t finish_header(format::ExtentBuilder& builder, uint32_t header_bytes, uint32_t extent_bytes);
  static void on_write(io::IoOp& op, int32_t result);
  Write& front() { return writes_[first_]; }
  void pop_front();
  void acknowledge(Write& w);

  const LogConfig& config_;
  Segments& segments_;
  SegmentFooter& footer_;
  RecentEvictions& evictions_;
  FinishedAppends& finished_;
  ExtentBuffers& extent_buffers_;
  Owner& owner_;
  StoreCounters& counters_;
  const uint64_t seed_;  // of the checksums of the log's structures
  struct Tail {
    uint32_t sector = 0;
    uint64_t chain = 0;
  };
  Tail tail_;
  LogProgress progress_;
  ExtentNote note_;
  bool marked_ = true;
  std::vector<Write> writes_;  // ring: [first_, first_ + in_flight_)
  uint32_t first_ = 0, in_flight_ = 0;
  uint32_t buffers_ = 0;  // taken for what is in flight
  uint64_t bytes_in_flight_ = 0;
  uint64_t moved_sectors_ = 0;
  alignas(base::kSectorBytes) std::byte mark_[base::kSectorBytes]{};
};

}  // namespace memkv::engine
