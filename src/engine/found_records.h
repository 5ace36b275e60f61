#pragma once
/// What recovery remembers of the records that it found, until it knows which of them are blocks.

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/index.h"
#include "format/format_check.h"

namespace memkv::engine {

/// 48 bytes. Words are packed so that a large store opens with little memory.
class FoundRecord {
 public:
  /// As on the drive, but for kLost: a note names the record, which itself cannot be read.
  enum class Kind : uint8_t { kWhole = 1, kChunk = 2, kHead = 3, kTombstone = 4, kLost = 5 };

  FoundRecord() = default;
  FoundRecord(Digest digest, Kind kind, uint64_t sequence, Place place)
      : digest_(digest),
        sequence_and_kind_(sequence << 16 | static_cast<uint64_t>(kind)),
        place_and_length_(place.pack << 22),
        others_(place.drive) {}
  /// A record of a block.
  FoundRecord(const format::RecordHeader& h, Place place, uint32_t namespace_number)
      : FoundRecord({h.digest[0], h.digest[1]}, static_cast<Kind>(h.kind), h.sequence, place) {
    checksum_ = h.checksum;
    if (h.range_count > 0) sequence_and_kind_ |= kHolesBit;
    if ((h.flags & format::kRecordMoved) != 0) sequence_and_kind_ |= kMovedBit;
    place_and_length_ |= h.payload_bytes;
    const uint64_t last = h.kind == format::RecordKind::kChunk ? h.chunk_number : h.expiry_s;
    others_ |= last << 32 | uint64_t{namespace_number} << 6;
  }

  Digest digest() const { return digest_; }
  Kind kind() const { return static_cast<Kind>(sequence_and_kind_ & 7); }
  bool is_commit() const { return kind() == Kind::kWhole || kind() == Kind::kHead; }
  bool is_tombstone() const { return kind() >= Kind::kTombstone; }
  bool has_holes() const { return (sequence_and_kind_ & kHolesBit) != 0; }
  bool moved() const { return (sequence_and_kind_ & kMovedBit) != 0; }
  uint64_t sequence() const { return sequence_and_kind_ >> 16; }
  uint8_t drive() const { return static_cast<uint8_t>(others_ & 63); }
  Place place() const { return {drive(), place_and_length_ >> 22}; }
  uint64_t offset() const { return (place_and_length_ >> 22) * format::kPackBytes; }  ///< on the drive
  uint32_t length() const { return static_cast<uint32_t>(place_and_length_ & kLengthMax); }
  uint32_t namespace_number() const { return static_cast<uint32_t>(others_ >> 6 & kNamespaceMax); }
  uint32_t expiry_s() const { return static_cast<uint32_t>(others_ >> 32); }      ///< of whole records and heads
  uint32_t chunk_number() const { return static_cast<uint32_t>(others_ >> 32); }  ///< of chunks
  uint64_t checksum() const { return checksum_; }                                 ///< of whole records and chunks
  size_t head() const { return checksum_; }                                       ///< of heads: FoundRecords::head()
  void set_head(size_t head) { checksum_ = head; }

  static constexpr uint32_t kNamespaceMax = (1u << 26) - 1;

 private:
  static constexpr uint64_t kHolesBit = 8, kMovedBit = 16, kLengthMax = (1u << 22) - 1;
  static_assert(base::kChunkBytes <= kLengthMax && kPlacePackMax < uint64_t{1} << 42);

  Digest digest_{};
  uint64_t checksum_ = 0;
  uint64_t sequence_and_kind_ = 0;  // 48 bits; flags; kind 3 bits
  uint64_t place_and_length_ = 0;   // pack 42 bits; length 22
  uint64_t others_ = 0;             // expiry or chunk number 32 bits; namespace 26; drive 6
};
static_assert(sizeof(FoundRecord) == 48);

/// All records that were found, in the order of their digests. A block's records so stand side by side: what became of
/// the block is decided from them alone; and the index is filled from its one end to the other.
///
/// Records are dealt out by their digest's first bits to partitions that fit a CPU's cache, and sorted there when they
/// are asked for. One thread.
class FoundRecords {
 public:
  /// What a head says of its block.
  struct Head {
    bool damaged = false;
    uint64_t block_bytes = 0;
    std::vector<uint64_t> chunks;  ///< the sequence of each; 0: absent
  };
  using Block = std::span<const FoundRecord* const>;  ///< its records, those of each log as they were added

  /// Before the first record: about how many will come.
  void expect(uint64_t records);
  void add(const FoundRecord& record) {
    Partition& to = partitions_[partition_of(record.digest())];
    if (to.next == to.end) add_piece(to);
    *to.next++ = record;
    if (!record.is_tombstone()) ++blocks_and_chunks_;
  }
  /// A head record; empty: its payload is damaged.
  void add_head(FoundRecord record, base::Bytes payload);
  Head head(const FoundRecord& record) const;
  uint64_t blocks_and_chunks() const { return blocks_and_chunks_; }  ///< records that could be entries of the index
  uint32_t number_of(uint64_t namespace_id) {
    if (!namespaces_.empty() && namespaces_[last_namespace_] == namespace_id) return last_namespace_;
    return last_namespace_ = find_number_of(namespace_id);
  }
  uint64_t namespace_id(uint32_t number) const { return namespaces_[number]; }

  /// Calls visit(Block) for each digest, in their order.
  template <typename Visit>
  void for_each_block(Visit&& visit) {
    for (size_t p = 0; p < partitions_.size(); ++p) {
      sort(partitions_[p]);
      const Partition* const following = p + 1 < partitions_.size() ? &partitions_[p + 1] : nullptr;
      for (size_t at = 0; at < sorted_.size();) {
        if (following != nullptr) following->prefetch(at);
        size_t end = at + 1;
        while (end < sorted_.size() && sorted_[end]->digest() == sorted_[at]->digest()) ++end;
        visit(Block(sorted_.data() + at, end - at));
        at = end;
      }
    }
  }
  /// The memory goes back.
  void clear();

 private:
  static constexpr size_t kPieceRecords = 64;
  static constexpr uint64_t kPartitionRecords = 4096, kPartitionBits = 12;
  struct Partition {
    FoundRecord* next = nullptr;  // the room that is left in the last piece
    FoundRecord* end = nullptr;
    std::vector<std::unique_ptr<FoundRecord[]>> pieces;
    /// Into the cache: partitions are looked at one behind the other.
    void prefetch(size_t record) const {
      if (record < pieces.size() * kPieceRecords)
        __builtin_prefetch(&pieces[record / kPieceRecords][record % kPieceRecords]);
    }
    size_t count() const { return pieces.size() * kPieceRecords - static_cast<size_t>(end - next); }
  };
  struct Ranked {
    uint64_t lo;
    const FoundRecord* record;
    uint32_t number;  // in the order of adding
  };
  /// The `bits` bits of the digest behind its first `skipped`.
  static uint64_t bits_of(uint64_t lo, uint32_t skipped, uint32_t bits) {
    return bits == 0 ? 0 : lo << skipped >> (64 - bits);
  }
  uint64_t partition_of(Digest digest) const { return bits_of(digest.lo, 0, bits_); }
  static void add_piece(Partition& to);
  uint32_t find_number_of(uint64_t namespace_id);
  static bool before(const Ranked& a, const Ranked& b);
  void sort(const Partition& partition);
  void rank(const Partition& partition);

  uint32_t bits_ = 0;  // of a digest that name its partition
  std::vector<Partition> partitions_ = std::vector<Partition>(1);
  uint64_t blocks_and_chunks_ = 0;
  std::deque<uint64_t> heads_;  // of each: block_bytes, how many chunks, their sequences
  std::vector<uint64_t> namespaces_;
  uint32_t last_namespace_ = 0;  // number of the one that was asked for last
  std::unordered_map<uint64_t, uint32_t> namespace_numbers_;
  // Of the partition that is being visited.
  std::vector<uint32_t> bucket_ends_;
  std::vector<Ranked> ranked_;
  std::vector<const FoundRecord*> sorted_;
};

}  // namespace memkv::engine
