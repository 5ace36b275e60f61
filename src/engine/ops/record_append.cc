#include "engine/ops/record_append.h"

#include <cstring>

#include "base/chunk_seed.h"

namespace memkv::engine {
namespace {

void name_record(format::RecordHeader& h, const BlockKey& key, format::RecordKind kind, uint64_t sequence,
                 uint32_t chunk) {
  h.digest[0] = key.digest.lo;
  h.digest[1] = key.digest.hi;
  h.namespace_id = key.namespace_id;
  h.kind = kind;
  h.sequence = sequence;
  h.chunk_number = chunk;
}

}  // namespace

void RecordAppend::describe(const BlockKey& key, format::RecordKind kind, uint32_t chunk, const PayloadIn& payload,
                            uint64_t deadline_ns) {
  MEMKV_ASSERT(payload.size <= base::kChunkBytes);
  Append& a = append_;
  name_record(a.header, key, kind, parts_.sequences.next(), chunk);
  a.header.payload_bytes = payload.size;
  const size_t grains = base::grain_count(payload.size);
  const uint64_t seed = base::chunk_seed(key.namespace_id, key.key, chunk);
  a.header.checksum = base::chunk_checksum(payload.grain_sums, grains, payload.size, seed);
  a.key = key.key;
  a.payload = payload.data;
  a.sums = {payload.grain_sums, grains};
  a.deadline_ns = deadline_ns;
}

void RecordAppend::call_when_done(Append::Fn on_done, void* context) {
  append_.on_done = on_done;
  append_.context = context;
}

/// The log of the room that the payload lies in already, or one by digest.
Log* RecordAppend::choose_log() {
  if (const auto room = parts_.reservations.use(append_.payload)) {
    append_.reserved_sector = room->sector;
    append_.reserved_epoch = room->epoch;
    return parts_.drives.log_of(room->drive);
  }
  append_.reserved_sector = 0;  // it has no room, or the log of its room is out
  Log* log = parts_.drives.choose_log(digest(), append_.header.chunk_number, static_cast<uint32_t>(attempts_));
  return append_.header.kind == format::RecordKind::kWhole ? parts_.drives.less_busy(log) : log;
}

void RecordAppend::submit() {
  MEMKV_ASSERT(append_.on_done != nullptr);
  Log* log = choose_log();
  if (log == nullptr) {  // no drive is left
    attempts_ = parts_.drives.count();
    append_.status = Status::kIo;
    return append_.on_done(append_);
  }
  if (attempts_ == 0) parts_.counters.user_bytes_written += append_.header.payload_bytes;
  log->append(append_);
}

bool RecordAppend::try_elsewhere(Status status) {
  if (status != Status::kIo || attempts_++ >= parts_.drives.count()) return false;
  submit();
  return true;
}

RecordRef RecordAppend::ref() const { return ref_of(append_); }

RecordRef ref_of(const Append& append) {
  MEMKV_ASSERT(append.status == Status::kOk, "it lies nowhere");
  const format::RecordHeader& h = append.header;
  return {append.place, h.sequence, h.checksum, h.payload_bytes, !append.ranges.empty()};
}

void describe_head(Append& append, const BlockKey& key, uint64_t sequence, uint64_t block_bytes,
                   std::span<const uint64_t> sequences, std::span<std::byte> data, std::vector<uint64_t>& sums) {
  MEMKV_ASSERT(data.size() == format::head_payload_bytes(sequences.size()) && data.size() <= base::kChunkBytes);
  const format::HeadPayload head{block_bytes, static_cast<uint32_t>(sequences.size()), 0};
  std::memcpy(data.data(), &head, sizeof head);
  std::memcpy(data.data() + sizeof head, sequences.data(), sequences.size_bytes());
  const uint64_t seed = base::chunk_seed(key.namespace_id, key.key, 0);
  sums.resize(base::grain_count(data.size()));
  base::grain_sums(data, seed, sums.data());
  append = {};
  name_record(append.header, key, format::RecordKind::kHead, sequence, 0);
  append.header.payload_bytes = static_cast<uint32_t>(data.size());
  append.header.checksum = base::chunk_checksum(sums.data(), sums.size(), data.size(), seed);
  append.key = key.key;
  append.payload = data.data();
  append.sums = sums;
}

}  // namespace memkv::engine
