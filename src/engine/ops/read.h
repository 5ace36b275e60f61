#pragma once
/// Gets: what is there, and its bytes.

#include <cstdint>

#include "engine/parts.h"
#include "engine/record_load.h"

namespace memkv::engine {

/// Step 1 of a get: in memory alone.
Lookup look_up(Parts& parts, const BlockKey& key, uint64_t offset, uint32_t length, Generation if_generation);
/// The bytes of a read that was made in place are not needed any more.
void release_read(Parts& parts, ReadOp& op);

/// Step 2 of a get: brings the bytes of one range inside one chunk, with their checksums. A record that fails its
/// checksum, or cannot be read, takes its block with it, for good.
///
/// Thread: worker.
class Read final : public PooledOp {
 public:
  /// `over_holes`: to verify a record, not to deliver it, the bytes of its holes are fine too.
  static void start(Parts& parts, ReadOp& op, bool over_holes);

 private:
  friend class OpPool;
  friend Lookup look_up(Parts&, const BlockKey&, uint64_t, uint32_t, Generation);
  enum class Step : uint8_t {
    kStarted,  ///< the record is found; nothing is pinned yet
    kLoading,  ///< its segment is pinned, so that reclaim cannot reuse it; the drive is read (memory mode: at once). Or
               ///< the RAM tier's entry is held, and its bytes are there or on their way
    kLoaded,   ///< the bytes are there; memory mode keeps the pin, and the entry is held, until release()
  };

  /// What a range of a block means for the record behind it.
  struct Target {
    Status status = Status::kMiss;
    Generation generation = 0;
    uint64_t block_bytes = 0;
    RecordRef record;
    uint32_t chunk = 0;
    uint64_t from = 0, to = 0;  // in the record
    bool empty = false;
    bool is_whole() const { return from == 0 && to == record.length && !record.has_holes; }
  };
  /// Where the record's bytes lie in memory.
  struct Loaded {
    const std::byte* bytes = nullptr;  // from `begin` of the record on, which is a grain's
    uint64_t begin = 0;
    const std::byte* header = nullptr;  // the sector that holds it
  };
  static Target find_target(Parts& parts, const BlockKey& key, uint64_t offset, uint32_t length,
                            Generation if_generation);

  Read(Parts& parts, ReadOp& op, const Target& target, bool over_holes)
      : parts_(parts), op_(op), target_(target), over_holes_(over_holes) {}
  void read_in_place();
  void read_from_drive();
  void read_through_tier();
  void fill_tier();
  void filled();
  void leave_entry();
  void record_is_gone();
  void loaded();
  bool reads_itself() const;
  bool bytes_came() const;
  void keep_bytes(bool delivered);
  Loaded where_loaded() const;
  Status deliver();
  Status read_sums(const Loaded& loaded, uint64_t seed, uint64_t* sums) const;
  Status deliver_pieces(const Loaded& loaded, uint64_t seed, const uint64_t* sums);
  Status drop_damaged(const char* why);
  void finish(Status status);

  Parts& parts_;
  ReadOp& op_;
  const Target target_;
  const bool over_holes_;
  RecordLoad load_;
  TierEntry* entry_ = nullptr;  // held; null: the bytes come into the op's buffer, or lie on the device
  bool fills_ = false;          // this read brings the entry's bytes
  TierWait wait_;               // for another read that brings them
  Step step_ = Step::kStarted;
};

}  // namespace memkv::engine
