#pragma once
/// Uploads under way, and the chunks that stand outside the index until their commit.

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/log.h"
#include "engine/record_ref.h"
#include "engine/store.h"

namespace memkv::engine {

/// An upload under way. It stays while an op of it is in flight, whatever its owner does.
struct OpenUpload {
  uint64_t id = 0;
  BlockKey key;  ///< its text is `key_bytes`
  std::string key_bytes;
  uint64_t total = 0;  ///< bytes of the block, or end of the range that is written
  bool if_absent = false;
  bool range_write = false;
  bool failed = false;      ///< a chunk is lost: it cannot be committed
  bool closing = false;     ///< goes when nothing of it is in flight
  bool committing = false;  ///< its head is being written: no chunk may change any more
  uint32_t in_flight = 0;
  std::unordered_map<uint32_t, RecordRef> chunks;  ///< durable ones, by number
};

/// Chunks that a merge has made or taken over, and not committed yet.
struct MergeChunks {
  Digest digest{};
  ChunkRefs chunks;
  bool lost = false;  ///< reclaim could not keep one
};

/// Uploads by id, and what reclaim must know of chunks that no index names: it keeps their places up to date, or says
/// that they are lost.
///
/// Owns the uploads; borrows the chunks of the merges under way. Thread: worker.
class Uploads {
 public:
  OpenUpload& open(Upload& upload, uint64_t total_bytes, bool if_absent, bool range_write);
  OpenUpload* find(uint64_t id);  ///< null: closed, or about to be
  void close(OpenUpload& upload);
  void abort(Upload& upload);
  size_t count() const { return uploads_.size(); }

  /// From here to remove_merging() reclaim looks after them.
  void add_merging(MergeChunks& merging) { merging_.push_back(&merging); }
  void remove_merging(MergeChunks& merging) { std::erase(merging_, &merging); }
  /// Calls fn(RecordRef& chunk, bool& lost) for the chunk that this is the record of, where it is not committed yet.
  template <typename Fn>
  void for_each_uncommitted_chunk(const format::RecordHeader& header, Fn&& fn);
  /// What lies in this segment is lost.
  void lose_chunks_in(const Log& log, uint64_t epoch);

 private:
  std::unordered_map<uint64_t, std::unique_ptr<OpenUpload>> uploads_;
  uint64_t next_id_ = 1;
  std::vector<MergeChunks*> merging_;
};

template <typename Fn>
void Uploads::for_each_uncommitted_chunk(const format::RecordHeader& header, Fn&& fn) {
  const Digest digest{header.digest[0], header.digest[1]};
  for (auto& [id, u] : uploads_) {
    const auto chunk = u->chunks.find(header.chunk_number);
    if (u->key.digest == digest && chunk != u->chunks.end() && chunk->second.sequence == header.sequence)
      fn(chunk->second, u->failed);
  }
  for (MergeChunks* merging : merging_) {
    if (merging->digest != digest) continue;
    for (auto& [n, ref] : merging->chunks) {
      if (n == header.chunk_number && ref.sequence == header.sequence) fn(ref, merging->lost);
    }
  }
}

}  // namespace memkv::engine
