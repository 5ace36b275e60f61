/// Changes that need the merge buffers: range writes with their read-modify-write, and commits with a very long head.
/// One at a time in a shard; the key is locked meanwhile.

#include <algorithm>
#include <cstring>

#include "base/chunk_seed.h"
#include "base/log.h"
#include "engine/store_impl.h"

namespace memkv::engine {
namespace {

/// Union of present ranges: sorted, disjoint, not touching.
void add_range(std::vector<format::PresentRange>& ranges, format::PresentRange r) {
  if (r.begin == r.end) return;
  std::vector<format::PresentRange> out;
  for (const format::PresentRange& o : ranges) {
    if (o.end < r.begin || o.begin > r.end) {
      out.push_back(o);
    } else {
      r.begin = std::min(r.begin, o.begin);
      r.end = std::max(r.end, o.end);
    }
  }
  out.push_back(r);
  std::sort(out.begin(), out.end(),
            [](const format::PresentRange& a, const format::PresentRange& b) { return a.begin < b.begin; });
  ranges = std::move(out);
}

}  // namespace

void StoreImpl::write(WriteOp& op) {
  const uint64_t in_chunk = op.offset % base::kChunkBytes;
  if (op.key.key.empty() || op.key.key.size() > kKeyBytesMax || in_chunk + op.payload.size > base::kChunkBytes) {
    return complete(op, Status::kInvalid);
  }
  if (op.payload.size == 0) return complete(op, Status::kInvalid);  // it would make zeros out of a hole
  if (op.offset + op.payload.size > block_bytes_max()) return complete(op, Status::kTooLarge);
  if (!index_has_room(op.key.namespace_id, 4)) return complete(op, Status::kBusy);
  OpState* st = take_state(op);
  if (st == nullptr) return;
  start_tick();
  st->left = 2;
  lock(*st, op.key.digest, write_locked);
}

void StoreImpl::write_locked(OpState& st) {
  StoreImpl& s = *st.store;
  if (const Status no = s.refusal_of(*st.op); no != Status::kOk) return s.finish(st, no);
  s.waits_for_drive(st.digest) ? s.finish(st, Status::kBusy) : s.queue_merge(st);
}

void StoreImpl::queue_merge(OpState& st) {
  merge_queue_.push_back(&st);
  start_merge();
}

/// `left` tells what waits: 0 a commit, 1 a chunk to be staged at an offset, 2 a write, 3 a flush.
void StoreImpl::start_merge() {
  if (merge_.st != nullptr || merge_queue_.empty()) return;
  OpState& st = *merge_queue_.front();
  merge_queue_.pop_front();
  if (st.left == 3) {
    const Status no = refusal_of(*st.op);
    no == Status::kOk ? start_flush(&st) : finish(st, no);
    return start_merge();
  }
  merge_ = {};
  merge_.st = &st;
  if (st.left == 1) {
    ChunkOp& op = static_cast<ChunkOp&>(*st.op);
    UploadState* u = uploads_.at(op.private_state[0]).get();  // its chunk in flight keeps it
    st.digest = u->key.digest;
    merge_.upload = u;
    if (u->closing) return end_merge(Status::kCanceled);
    merge_.namespace_id = u->key.namespace_id;
    merge_.key = u->key_bytes;
    merge_.chunk = op.chunk_number;
    merge_.in_chunk = op.offset_in_chunk;
    merge_.source = op.payload.data;
    merge_.source_bytes = op.payload.size;
    return merge_chunk();
  }
  const Entry* old = live(st.digest);
  if (st.left == 0) {
    CommitOp& op = static_cast<CommitOp&>(*st.op);
    UploadState* u = upload_of(op.upload->id);
    if (u == nullptr) return end_merge(Status::kInvalid);
    merge_.upload = u;
    if (u->failed) return end_merge(Status::kIo);  // a chunk was evicted while the commit waited for its turn
    merge_.namespace_id = u->key.namespace_id;
    merge_.key = u->key_bytes;
    merge_.block_bytes = u->range_write && old != nullptr ? std::max(u->total, block_bytes_of(*old)) : u->total;
    for (const auto& [n, ref] : u->chunks) merge_.parts.emplace_back(n, ref);
    if (u->range_write) {
      for (const auto& part : merge_.parts) merge_.todo.push_back(part.first);
    }
    return merge_next();
  }
  WriteOp& op = static_cast<WriteOp&>(*st.op);
  merge_.namespace_id = op.key.namespace_id;
  merge_.key.assign(op.key.key);
  merge_.chunk = static_cast<uint32_t>(op.offset / base::kChunkBytes);
  merge_.in_chunk = op.offset % base::kChunkBytes;
  merge_.source = op.payload.data;
  merge_.source_bytes = op.payload.size;
  merge_.block_bytes = std::max(op.offset + op.payload.size, old != nullptr ? block_bytes_of(*old) : 0);
  merge_.whole_result = merge_.chunk == 0 && (old == nullptr || !old->has(kHead));
  merge_chunk();
}

void StoreImpl::end_merge(Status status) {
  OpState& st = *merge_.st;
  const bool is_chunk = st.left == 1;
  UploadState* u = merge_.upload;
  merge_.st = nullptr;
  if (u != nullptr && is_chunk) {
    --u->in_flight;
    if (status != Status::kOk) u->failed = true;
    if (u->closing) {
      status = Status::kCanceled;
      close_upload(*u);
    }
  }
  if (u != nullptr && !is_chunk)
    abort(*static_cast<CommitOp&>(*st.op).upload);  // committed or failed: closed either way
  finish(st, status);
  start_merge();
}

/// Commit of a range write: staged chunks that leave a part of the old chunk in place are merged with it, one after
/// another.
void StoreImpl::merge_next() {
  if (merge_.todo.empty()) {
    // A block that was one record becomes chunk 0, unless this change replaced it.
    const Entry* old = live(merge_.st->digest);
    const bool grows = old != nullptr && !old->has(kHead) && !merge_.whole_result &&
                       (merge_.upload == nullptr || merge_.upload->range_write);
    const bool replaced =
        std::any_of(merge_.parts.begin(), merge_.parts.end(), [](const auto& p) { return p.first == 0; });
    if (grows && !replaced && old->length() > 0) {
      merge_.old_record = ref_of(*old);
      return load(merge_.old_record, merge_buffers_[0].data(), grown_loaded);
    }
    return merge_head();
  }
  merge_.chunk = merge_.todo.back();
  merge_.todo.pop_back();
  merge_.source = nullptr;
  merge_chunk();
}

/// The old chunk, unless the new bytes cover it, is loaded into buffer 0; then the new ones are laid over it.
void StoreImpl::merge_chunk() {
  Merge& m = merge_;
  OpState& st = *m.st;
  m.ranges.clear();
  m.old_record = {};
  if (st.left != 1) m.old_record = old_chunk(st.digest, m.chunk);
  if (m.source == nullptr) {
    const RecordRef& staged = *find_part(m.chunk);
    const bool covers = !staged.has_holes && staged.length >= m.old_record.length;
    if (m.old_record.length == 0 || covers) return merge_next();
  } else if (m.in_chunk == 0 && m.source_bytes >= m.old_record.length) {
    m.old_record = {};
  }
  if (m.old_record.length == 0) return lay_source();
  load(m.old_record, merge_buffers_[0].data(), old_loaded);
}

/// A chunk of the present block; length 0: there is none.
RecordRef StoreImpl::old_chunk(Digest digest, uint32_t chunk) {
  const Entry* e = live(digest);
  if (e == nullptr) return {};
  if (e->has(kHead))
    e = live_chunk(digest, chunk);
  else if (chunk != 0)
    return {};
  return e == nullptr ? RecordRef{} : ref_of(*e);
}

RecordRef* StoreImpl::find_part(uint32_t chunk) {
  for (auto& [n, ref] : merge_.parts) {
    if (n == chunk) return &ref;
  }
  return nullptr;
}

/// Reads a record whole; `step` ends it with loaded().
void StoreImpl::load(const RecordRef& ref, std::byte* data, void (*step)(OpState&)) {
  OpState& st = *merge_.st;
  st.record = ref;
  const uint64_t padded = base::align_up(ref.length, base::kSectorBytes);
  if (!start_read(st, ref, 0, padded, data, ref.lone(), step)) end_merge(Status::kBusy);
}

/// The record's bytes stand at `data`, and `ranges` tells which of them are present; kCorrupt: they are not its bytes.
Status StoreImpl::loaded(OpState& st, std::byte* data, uint32_t chunk, std::vector<format::PresentRange>& ranges) {
  st.log->unpin(st.epoch);
  st.epoch = 0;
  if (st.io_result < 0) return Status::kIo;
  const RecordRef& r = st.record;
  if (!r.lone()) std::memmove(data, data + r.place.pack * format::kPackBytes % base::kSectorBytes, r.length);
  const uint64_t seed = base::chunk_seed(merge_.namespace_id, merge_.key, chunk);
  if (base::chunk_checksum_of({data, r.length}, seed) != r.checksum) return Status::kCorrupt;
  ranges.assign(1, {0, r.length});
  if (!r.has_holes) return Status::kOk;
  format::RecordHeader h;
  return header_record(st, data - base::kSectorBytes, chunk, h, nullptr, &ranges) ? Status::kOk : Status::kCorrupt;
}

/// The old block cannot be read: what was to be changed is lost.
void StoreImpl::old_is_bad(Status status) {
  const Digest digest = merge_.st->digest;
  if (const Entry* e = live(digest))
    drop_durably(digest, merge_.namespace_id, e->sequence(), counters_.dropped_corrupt);
  end_merge(status);
}

void StoreImpl::old_loaded(OpState& st) {
  StoreImpl& s = *st.store;
  Merge& m = s.merge_;
  const Status status = s.loaded(st, s.merge_buffers_[0].data(), m.chunk, m.ranges);
  if (status != Status::kOk) return s.old_is_bad(status);
  if (m.source != nullptr) return s.lay_source();
  s.load(*s.find_part(m.chunk), s.merge_buffers_[1].data(), new_loaded);
}

/// The op's own bytes over the old ones in buffer 0.
void StoreImpl::lay_source() {
  Merge& m = merge_;
  std::byte* data = merge_buffers_[0].data();
  const uint32_t old_length = m.old_record.length;
  const auto end = static_cast<uint32_t>(m.in_chunk + m.source_bytes);
  if (old_length < m.in_chunk) std::memset(data + old_length, 0, m.in_chunk - old_length);
  std::memcpy(data + m.in_chunk, m.source, m.source_bytes);
  add_range(m.ranges, {static_cast<uint32_t>(m.in_chunk), end});
  const bool whole = m.whole_result && m.st->left == 2;
  append_merged(whole ? format::RecordKind::kWhole : format::RecordKind::kChunk, m.chunk, std::max(old_length, end),
                data, merged_appended);
}

/// The staged chunk, in buffer 1, over the old one in buffer 0.
void StoreImpl::new_loaded(OpState& st) {
  StoreImpl& s = *st.store;
  Merge& m = s.merge_;
  std::byte* data = s.merge_buffers_[0].data();
  std::byte* fresh = s.merge_buffers_[1].data();
  std::vector<format::PresentRange> fresh_ranges;
  const Status status = s.loaded(st, fresh, m.chunk, fresh_ranges);
  if (status != Status::kOk) return s.end_merge(status);
  const uint32_t old_length = m.old_record.length, new_length = st.record.length;
  if (old_length < new_length) std::memset(data + old_length, 0, new_length - old_length);
  for (const format::PresentRange& r : fresh_ranges) {
    std::memcpy(data + r.begin, fresh + r.begin, r.end - r.begin);
    add_range(m.ranges, r);
  }
  s.append_merged(format::RecordKind::kChunk, m.chunk, std::max(old_length, new_length), data, merged_appended);
}

/// Appends what stands in `data` as a chunk (or whole record), with fresh sums, and its present ranges where it has
/// holes.
void StoreImpl::append_merged(format::RecordKind kind, uint32_t chunk, uint32_t length, std::byte* data,
                              void (*done)(Append&)) {
  Merge& m = merge_;
  OpState& st = *m.st;
  if (m.ranges.size() == 1 && m.ranges[0].begin == 0 && m.ranges[0].end == length) m.ranges.clear();
  if (m.ranges.size() > format::kRangesMax) return end_merge(Status::kTooLarge);
  const uint64_t seed = base::chunk_seed(m.namespace_id, m.key, chunk);
  m.sums.resize(base::grain_count(length));
  base::grain_sums({data, length}, seed, m.sums.data());
  Append& a = st.append;
  a = {};
  a.header.digest[0] = st.digest.lo;
  a.header.digest[1] = st.digest.hi;
  a.header.namespace_id = m.namespace_id;
  a.header.kind = kind;
  a.header.sequence = next_sequence();
  a.header.chunk_number = chunk;
  a.header.payload_bytes = length;
  a.header.checksum = base::chunk_checksum(m.sums.data(), m.sums.size(), length, seed);
  a.key = m.key;
  a.payload = data;
  a.sums = m.sums;
  a.ranges = m.ranges;
  a.deadline_ns = st.op->deadline_ns;
  a.on_done = done;
  a.context = &st;
  Log* log = choose_log(st.digest, chunk, 0);
  if (log == nullptr) return end_merge(Status::kIo);
  counters_.user_bytes_written += m.source != nullptr ? m.source_bytes : 0;
  log->append(a);
}

void StoreImpl::merged_appended(Append& a) {
  OpState& st = *static_cast<OpState*>(a.context);
  StoreImpl& s = *st.store;
  Merge& m = s.merge_;
  if (const Status status = s.landed(a); status != Status::kOk) return s.end_merge(status);
  const RecordRef ref{a.place, a.header.sequence, a.header.checksum, a.header.payload_bytes, !a.ranges.empty()};
  if (st.left == 1) {
    m.upload->chunks[m.chunk] = ref;
    return s.end_merge(Status::kOk);
  }
  if (a.header.kind == format::RecordKind::kWhole) {
    st.op->generation = ref.sequence;
    const Leftover old = s.leftover_of(st.digest, a);
    const bool installed = s.install_block(st, ref, false, a.header.namespace_id, 0, ref.length, {});
    if (!installed) st.status = Status::kNoSpace;
    return s.bury_then(st, old, a, installed, commit_done);
  }
  std::erase_if(m.parts, [&](const auto& p) { return p.first == m.chunk; });
  m.parts.emplace_back(m.chunk, ref);
  s.merge_next();
}

/// The old block was one record: it is in buffer 0 and becomes chunk 0.
void StoreImpl::grown_loaded(OpState& st) {
  StoreImpl& s = *st.store;
  Merge& m = s.merge_;
  std::byte* data = s.merge_buffers_[0].data();
  const Status status = s.loaded(st, data, 0, m.ranges);
  if (status != Status::kOk) return s.old_is_bad(status);
  m.source = nullptr;
  s.append_merged(format::RecordKind::kChunk, 0, m.old_record.length, data, grown_appended);
}

void StoreImpl::grown_appended(Append& a) {
  OpState& st = *static_cast<OpState*>(a.context);
  StoreImpl& s = *st.store;
  if (const Status status = s.landed(a); status != Status::kOk) return s.end_merge(status);
  s.merge_.parts.emplace_back(
      0, RecordRef{a.place, a.header.sequence, a.header.checksum, a.header.payload_bytes, !a.ranges.empty()});
  s.merge_head();
}

/// All chunks are durable: the head commits them.
void StoreImpl::merge_head() {
  Merge& m = merge_;
  const uint32_t count = chunk_count(m.block_bytes);
  std::vector<uint64_t> sequences(count, 0);
  const bool keeps = m.upload == nullptr || m.upload->range_write;
  const Entry* old = live(m.st->digest);
  if (keeps && old != nullptr && old->has(kHead)) {
    for (uint32_t n = 0; n < count; ++n) {
      if (const Entry* c = index_.find(chunk_digest(m.st->digest, n))) sequences[n] = c->sequence();
    }
  }
  for (const auto& [n, ref] : m.parts) sequences[n] = ref.sequence;
  append_head(*m.st, m.block_bytes, sequences);
}

void StoreImpl::append_head(OpState& st, uint64_t block_bytes, std::span<const uint64_t> sequences) {
  Merge& m = merge_;
  const uint32_t bytes = format::head_payload_bytes(sequences.size());
  if (bytes > base::kChunkBytes) return end_merge(Status::kTooLarge);
  const std::span<std::byte> data(merge_buffers_[1].data(), bytes);
  set_head(st, {st.digest, m.namespace_id, m.key}, block_bytes, sequences, data, m.sums);
  st.append.on_done = head_appended;
  Log* log = choose_log(st.digest, 0, 0);
  if (log == nullptr) return end_merge(Status::kIo);
  log->append(st.append);
}

/// Makes the op's append one of a head record. `data`, `sums` and the key's text stay until it is done.
void StoreImpl::set_head(OpState& st, const BlockKey& key, uint64_t block_bytes, std::span<const uint64_t> sequences,
                         std::span<std::byte> data, std::vector<uint64_t>& sums) {
  const format::HeadPayload head{block_bytes, static_cast<uint32_t>(sequences.size()), 0};
  std::memcpy(data.data(), &head, sizeof head);
  std::memcpy(data.data() + sizeof head, sequences.data(), sequences.size_bytes());
  const uint64_t seed = base::chunk_seed(key.namespace_id, key.key, 0);
  sums.resize(base::grain_count(data.size()));
  base::grain_sums(data, seed, sums.data());
  Append& a = st.append;
  a = {};
  a.header.digest[0] = key.digest.lo;
  a.header.digest[1] = key.digest.hi;
  a.header.namespace_id = key.namespace_id;
  a.header.kind = format::RecordKind::kHead;
  a.header.sequence = next_sequence();
  a.header.payload_bytes = static_cast<uint32_t>(data.size());
  a.header.checksum = base::chunk_checksum(sums.data(), sums.size(), data.size(), seed);
  a.key = key.key;
  a.payload = data.data();
  a.sums = sums;
  a.deadline_ns = st.op->deadline_ns;
  a.context = &st;
}

/// A chunk that the new head keeps from the old block is not in the index any more.
bool StoreImpl::kept_chunk_is_gone(const Append& head) const {
  const auto view = format::parse_head({head.payload, head.header.payload_bytes});
  MEMKV_ASSERT(view.ok());
  const auto& parts = merge_.parts;
  for (uint32_t n = 0; n < view->head.chunk_count; ++n) {
    const uint64_t sequence = view->sequence(n);
    if (sequence == 0 || std::any_of(parts.begin(), parts.end(), [n](const auto& p) { return p.first == n; })) continue;
    const Entry* c = index_.find(chunk_digest(merge_.st->digest, n));
    if (c == nullptr || c->sequence() != sequence) return true;
  }
  return false;
}

void StoreImpl::head_appended(Append& a) {
  OpState& st = *static_cast<OpState*>(a.context);
  StoreImpl& s = *st.store;
  Merge& m = s.merge_;
  if (const Status status = s.landed(a); status != Status::kOk) return s.end_merge(status);
  st.op->generation = a.header.sequence;
  const bool lost = std::any_of(m.parts.begin(), m.parts.end(),
                                [&](const auto& p) { return s.usable_log(p.second.place.drive) == nullptr; }) ||
                    m.part_lost;
  const Leftover old = s.leftover_of(st.digest, a);
  const RecordRef ref{a.place, a.header.sequence, a.header.checksum, a.header.payload_bytes, false};
  const bool evicted = s.kept_chunk_is_gone(a);
  const bool installed = s.install_block(st, ref, true, a.header.namespace_id, 0, m.block_bytes, m.parts);
  if (!installed) st.status = Status::kNoSpace;
  if (evicted && !lost)
    s.drop_block(st.digest, s.counters_.dropped_evicted);  // old bytes went while the head was written
  if (lost) {
    s.drop_block(st.digest, s.counters_.dropped_drive_out);
    st.status = Status::kIo;
  }
  s.bury_then(st, old, a, installed && !evicted && !lost, commit_done);
}

void StoreImpl::commit_done(OpState& st) { st.store->end_merge(st.status); }

}  // namespace memkv::engine
