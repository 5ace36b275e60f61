#pragma once
/// Brings a shard's index back: anchors, footers, tails. Runs the reactor itself until it is done; nothing else is
/// under way then.

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "engine/parts.h"

namespace memkv::engine {

/// A place in a log.
struct LogPlace {
  uint64_t epoch = 0;
  uint64_t offset = 0;  ///< on the drive
  friend auto operator<=>(const LogPlace&, const LogPlace&) = default;
};

struct DigestHash {
  size_t operator()(const Digest& d) const { return d.lo ^ (d.hi * 0x9E3779B97F4A7C15ull); }
};

/// One use: Recovery(parts).run(). Knows the drives, the blocks and the sequences. Thread: worker.
class Recovery {
 public:
  explicit Recovery(Parts& parts) : parts_(parts) {}
  Status run();

  // --- for LogScan
  /// A record that the log holds. `head` is the payload of a head record; empty: it is damaged, and the block with it.
  void take(Log& log, uint64_t epoch, const format::RecordHeader& h, uint64_t payload_offset, base::Bytes head);
  /// An extent is lost, and this is what the next one says of it: its records, and what they replaced or killed, are
  /// dead.
  void lose_records(Log& log, const format::NoteView& note);
  /// Something before `end` is lost, and nobody knows what: the log is cut there.
  void lose_all(Log& log, LogPlace end);
  /// One device op, waited for: nothing else is under way. 0, or -errno.
  int32_t wait(Log& log, uint64_t offset, std::byte* memory, uint64_t bytes, bool write);
  StoreCounters& counters() { return parts_.counters; }
  const StoreOptions& options() const { return parts_.options; }
  /// Sequences below `end` may have been used.
  void saw_sequence_end(uint64_t end) { anchored_end_ = std::max(anchored_end_, end); }
  Sequences::AnchorWrite& anchors_of(const Log& log) { return parts_.sequences.anchors_of(log); }

 private:
  struct Found {
    format::RecordHeader header;
    Place place;
    uint64_t epoch = 0;
    std::vector<uint64_t> chunks;  // heads: sequences
    uint64_t block_bytes = 0;
    bool damaged = false;  // a head whose payload is lost
    Digest digest() const { return {header.digest[0], header.digest[1]}; }
    LogPlace at() const { return {epoch, place.pack * format::kPackBytes}; }
  };
  /// The tombstones of one digest, or namespace, in one log.
  struct Tomb {
    uint64_t highest = 0;  // sequence
    uint64_t last = 0;     // sequence of the one furthest on in the log: it is kept longest
    LogPlace last_at;
    void add(uint64_t sequence, LogPlace at);
    bool kills(const Found& f) const { return f.header.sequence < highest; }
    bool covers(const Found& f) const { return last > f.header.sequence && last_at >= f.at(); }
  };
  struct LogTombs {
    std::unordered_map<Digest, Tomb, DigestHash> by_digest;
    std::unordered_map<uint64_t, Tomb> by_namespace;
    LogPlace cut;  // found now: moved records just behind it may be older than what it took
  };
  struct ChunkKey {
    Digest digest;
    uint64_t sequence;
    uint32_t number;
    friend bool operator==(const ChunkKey&, const ChunkKey&) = default;
  };
  struct ChunkHash {
    size_t operator()(const ChunkKey& k) const {
      return DigestHash()(k.digest) ^ (k.sequence * 0xD6E8FEB86659FD93ull) ^ (uint64_t{k.number} << 40);
    }
  };
  struct Missing {  // a tombstone to be written
    uint8_t drive;
    Digest digest;
    uint64_t sequence;
  };

  const Tomb* tomb_of_digest(const Found& f) const;
  const Tomb* tomb_of_namespace(const Found& f) const;
  bool killed(const Found& f) const;
  bool outlives_its_tombs(const Found& f) const;
  bool is_suspect(const Found& f) const;
  bool usable(const Found& f) const { return parts_.drives.usable_log(f.place.drive) != nullptr; }
  Status start_logs();
  bool write_anchors(Log& log);
  void resolve();
  void find_winners();
  void bury_losers();
  void find_chunks();
  void install_winners();
  bool find_chunks_of(const Found& head, ChunkRefs& chunks) const;
  void write_tombstones();
  void wait_for_tombstones();
  void close_tails();

  Parts& parts_;
  std::vector<Found> commits_, chunks_;
  std::vector<LogTombs> tombs_;  // by drive
  std::unordered_map<Digest, size_t, DigestHash> winner_;
  std::unordered_map<ChunkKey, size_t, ChunkHash> chunk_at_;
  std::vector<Missing> missing_;
  size_t tombstones_left_ = 0;
  uint64_t sequence_max_ = 0, anchored_end_ = 0;
};

}  // namespace memkv::engine
