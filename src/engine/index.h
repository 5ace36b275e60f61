#pragma once
/// The shard's index: from a digest to where its bytes lie. Fixed memory, one probe run a lookup, never touches a
/// drive.

#include <cstdint>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "base/siphash.h"
#include "memkv/error.h"

namespace memkv::engine {

using Digest = base::Hash128;

/// Digest under which chunk `n` of a block stands in the index. Different for every n, never the block's own.
Digest chunk_digest(Digest block, uint32_t n);

/// Where a record's payload starts: a drive and a 64-byte pack on it.
struct Place {
  uint8_t drive = 0;  ///< 6 bits
  uint64_t pack = 0;  ///< 42 bits: offset on the drive / 64 (up to 256 TiB)
  friend bool operator==(const Place&, const Place&) = default;
};

inline constexpr uint64_t kPlacePackMax = (uint64_t{1} << 42) - 1;

enum EntryFlags : uint16_t {
  kHead = 1,      ///< of a block of several chunks; they stand under chunk_digest()
  kHasHoles = 2,  ///< of the bytes [0, length) some are absent
  kHit = 4,       ///< read since it was written
  kChunk = 16,    ///< one chunk of a block
};

/// 48 bytes. Read and written through its accessors; digest and namespace are the index's and never change.
///
/// | bytes | field |
/// |---|---|
/// | 0  | digest 16 |
/// | 16 | checksum 8 |
/// | 24 | sequence 6 |
/// | 30 | place 6: pack 42 bits, drive 6 bits |
/// | 36 | length 4 |
/// | 40 | expiry 4, unix seconds, 0 = never |
/// | 44 | namespace 2, position in the shard's table |
/// | 46 | flags 2 |
class Entry {
 public:
  Digest digest() const { return digest_; }
  uint64_t checksum() const { return checksum_; }
  uint64_t sequence() const { return base::load_u48(sequence_); }
  Place place() const {
    const uint64_t packed = base::load_u48(place_);
    return {static_cast<uint8_t>(packed >> 42), packed & kPlacePackMax};
  }
  uint32_t length() const { return length_; }
  uint32_t expiry_s() const { return expiry_s_; }
  uint16_t namespace_index() const { return namespace_; }
  bool has(EntryFlags flag) const { return (flags_ & flag) != 0; }

  void set_checksum(uint64_t checksum) { checksum_ = checksum; }
  void set_sequence(uint64_t sequence);  ///< 48 bits
  void set_place(Place place);
  void set_length(uint32_t length) { length_ = length; }
  void set_expiry_s(uint32_t expiry_s) { expiry_s_ = expiry_s; }
  void set(EntryFlags flag, bool on = true) { flags_ = static_cast<uint16_t>(on ? flags_ | flag : flags_ & ~flag); }

 private:
  friend class Index;
  static constexpr uint16_t kUsed = 0x8000;
  bool used() const { return (flags_ & kUsed) != 0; }

  Digest digest_;
  uint64_t checksum_;
  uint8_t sequence_[6];
  uint8_t place_[6];
  uint32_t length_;
  uint32_t expiry_s_;
  uint16_t namespace_;
  uint16_t flags_;
};
static_assert(sizeof(Entry) == 48 && std::is_trivially_copyable_v<Entry>);

/// Open addressing with linear probing, richest first (robin hood), backward-shift deletion: no tombstones, short
/// misses. Every insert and every erase may move entries: no Entry* outlives one. Thread: worker.
class Index {
 public:
  /// Maps the memory for `entries_max` entries (at least 1): 64 bytes each. Throws std::bad_alloc.
  explicit Index(uint64_t entries_max);
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  Entry* find(Digest digest);
  const Entry* find(Digest digest) const { return const_cast<Index*>(this)->find(digest); }
  /// find() is to come: the memory that it looks at first is on its way meanwhile.
  void prefetch(Digest digest) const {
    const Entry* entry = &slots_[home(digest)];
    __builtin_prefetch(entry);
    __builtin_prefetch(entry + 1);  // 48 bytes: on the same line of the cache, or the next
  }
  /// A new entry, all other fields zero. The digest is not there yet (asserted). kNoSpace at entries_max.
  Result<Entry*> insert(Digest digest, uint16_t namespace_index = 0);
  /// The entry of the digest, or else a new one, as insert() makes it: `fresh` says which.
  Result<Entry*> find_or_insert(Digest digest, uint16_t namespace_index, bool& fresh);
  void erase(Entry* entry);

  uint64_t size() const { return size_; }
  uint64_t size_of(uint16_t namespace_index) const {
    return namespace_index < sizes_.size() ? sizes_[namespace_index] : 0;
  }
  uint64_t entries_max() const { return entries_max_; }
  uint64_t bytes() const { return slot_count_ * sizeof(Entry); }

  /// Walks the slots: the first entry at or behind `cursor` (0 at first), and moves the cursor behind it; null at the
  /// end. To erase what was returned, go on at the cursor from before: the next entry may have moved there. A walk that
  /// is interrupted by inserts and erases may meet a moved entry twice or not at all.
  Entry* next(uint64_t& cursor) { return next(cursor, slot_count_); }
  /// The same, up to the slot `end` (at most slot_count()).
  Entry* next(uint64_t& cursor, uint64_t end);
  uint64_t slot_count() const { return slot_count_; }

 private:
  uint64_t home(Digest digest) const {
    __extension__ using Wide = unsigned __int128;
    return static_cast<uint64_t>((Wide{digest.lo} * slot_count_) >> 64);
  }
  uint64_t after(uint64_t slot) const { return slot + 1 == slot_count_ ? 0 : slot + 1; }
  /// How far an entry sits from its home.
  uint64_t displacement(uint64_t slot) const;
  void open_gap(uint64_t slot);
  Result<Entry*> insert_at(uint64_t slot, Digest digest, uint16_t namespace_index);

  uint64_t entries_max_;
  uint64_t slot_count_;
  uint64_t size_ = 0;
  std::vector<uint64_t> sizes_;  // by namespace; grows when the first entry of one comes
  Entry* slots_ = nullptr;
};

}  // namespace memkv::engine
