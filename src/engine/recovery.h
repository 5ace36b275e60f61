#pragma once
/// Brings a shard's index back: anchors, footers, tails. Runs the reactor itself until it is done; nothing else is
/// under way then.

#include <unordered_map>
#include <vector>

#include "engine/store_impl.h"

namespace memkv::engine {

/// One use: Recovery(store).run().
class Recovery {
 public:
  explicit Recovery(StoreImpl& store) : s_(store) {}
  Status run();
  /// Writes the sequence reservation on every online drive of the shard. False: on none.
  bool write_anchors(uint64_t sequence_end);
  Anchor make_anchor(const Log& log, uint64_t sequence_end) const;
  static uint64_t anchor_offset(const Log& log, uint64_t sequence_end);

 private:
  struct Found {
    RecordHeader header;
    Place place;
    uint64_t epoch = 0;
    std::vector<uint64_t> chunks;  // heads: sequences
    uint64_t block_bytes = 0;
  };
  struct Tombs {
    /// A log keeps its last tombstone longest: what lies behind it needs another.
    struct Tomb {
      uint64_t highest = 0;  // sequence
      uint64_t last = 0;     // sequence of the one furthest on in the log
      uint64_t last_epoch = 0, last_offset = 0;
      void add(uint64_t sequence, uint64_t epoch, uint64_t offset);
      bool kills(const Found& f) const { return f.header.sequence < highest; }
      bool covers(const Found& f) const;
    };
    std::unordered_map<uint64_t, Tomb> by_digest;  // digest folded
    std::unordered_map<uint64_t, Tomb> by_namespace;
    const Tomb* of_digest(const Found& f) const;
    const Tomb* of_namespace(const Found& f) const;
  };
  struct Mark {
    uint64_t epoch = 0;
    uint32_t block = 0;
    bool covers(uint64_t e, uint32_t b) const { return e < epoch || (e == epoch && b < block); }
  };

  int32_t wait(Log& log, uint64_t offset, std::byte* memory, uint64_t bytes, bool write);
  uint64_t read_anchors();
  void scan_log(Log& log);
  std::vector<SegmentHeader> read_segment_headers(Log& log);
  bool read_footer(Log& log, uint64_t epoch, uint32_t& data_end, uint64_t& chain);
  /// Walks extents from block 1; returns where it ended.
  Log::Position walk(Log& log, const SegmentHeader& header, bool newest);
  bool verify(Log& log, uint64_t epoch, uint32_t block, const ExtentHeader& extent, base::Bytes header);
  bool torn_is_rot(Log& log, uint64_t epoch, uint32_t block, uint32_t& next);
  void take(Log& log, uint64_t epoch, const RecordHeader& h, uint64_t payload_offset, base::Bytes head_payload);
  void take_extent(Log& log, uint64_t epoch, uint32_t block, const ExtentHeader& extent, base::Bytes header,
                   bool open_segment);
  base::Bytes head_payload(Log& log, uint64_t offset, uint32_t bytes);
  void resolve();
  void missing_tombstones();

  StoreImpl& s_;
  std::vector<Found> commits_, chunks_;
  std::vector<Tombs> tombs_;  // by drive
  Mark mark_;
  std::vector<std::byte> head_memory_;
  std::byte* buffer_ = nullptr;
  uint64_t buffer_bytes_ = 0;
  struct Missing {
    uint8_t drive;
    Digest digest;
    uint64_t sequence;
  };
  std::vector<Missing> missing_;
  uint64_t sequence_max_ = 0;
};

}  // namespace memkv::engine
