#include <algorithm>
#include <cstring>

#include "base/chunk_seed.h"
#include "engine/store_impl.h"

namespace memkv::engine {

UploadState* StoreImpl::upload_of(uint64_t id) {
  const auto it = uploads_.find(id);
  return it == uploads_.end() || it->second->closing ? nullptr : it->second.get();
}

Status StoreImpl::begin(Upload& upload, uint64_t total_bytes, bool if_absent, bool range_write) {
  if (upload.key.key.empty() || upload.key.key.size() > kKeyBytesMax || total_bytes == 0) return Status::kInvalid;
  if (total_bytes > block_bytes_max()) return Status::kTooLarge;
  if (closing_) return Status::kCanceled;
  if (if_absent && live(upload.key.digest) != nullptr) return Status::kExists;
  const bool has_room = index_has_room(upload.key.namespace_id, chunk_count(total_bytes) + 1);
  if (waits_for_drive(upload.key.digest) || !has_room) return Status::kBusy;
  auto u = std::make_unique<UploadState>();
  u->id = next_upload_++;
  u->key = upload.key;
  u->key_bytes.assign(upload.key.key);
  u->key.key = u->key_bytes;
  u->total = total_bytes;
  u->if_absent = if_absent;
  u->range_write = range_write;
  upload.key.key = u->key_bytes;
  upload.id = u->id;
  uploads_[u->id] = std::move(u);
  return Status::kOk;
}

void StoreImpl::close_upload(UploadState& u) {
  u.closing = true;
  if (u.in_flight == 0) uploads_.erase(u.id);
}

void StoreImpl::abort(Upload& upload) {
  UploadState* u = upload_of(upload.id);
  upload.id = 0;
  if (u != nullptr) close_upload(*u);  // its records are dead: nothing names their sequences
}

/// A chunk of an upload: appended, but outside the index until the commit.
void StoreImpl::put_chunk(ChunkOp& op) {
  UploadState* u = op.upload == nullptr ? nullptr : upload_of(op.upload->id);
  if (u == nullptr || u->committing) return complete(op, Status::kInvalid);
  const uint64_t end = uint64_t{op.chunk_number} * base::kChunkBytes + op.offset_in_chunk + op.payload.size;
  const bool fits = uint64_t{op.offset_in_chunk} + op.payload.size <= base::kChunkBytes && end <= u->total;
  const bool whole = op.offset_in_chunk == 0 && (op.payload.size == base::kChunkBytes || end == u->total);
  if (!fits || op.payload.size == 0 || (!u->range_write && !whole)) return complete(op, Status::kInvalid);
  if (op.offset_in_chunk != 0) {  // staged as a chunk whose beginning is a hole
    OpState* st = take_state(op);
    if (st == nullptr) return;
    ++u->in_flight;
    start_tick();
    op.private_state[0] = u->id;
    st->left = 1;
    return queue_merge(*st);
  }
  OpState* st = take_state(op);
  if (st == nullptr) return;
  ++u->in_flight;
  start_tick();
  Append& a = st->append;
  a.header.digest[0] = u->key.digest.lo;
  a.header.digest[1] = u->key.digest.hi;
  a.header.namespace_id = u->key.namespace_id;
  a.header.kind = format::RecordKind::kChunk;
  a.header.sequence = next_sequence();
  a.header.chunk_number = op.chunk_number;
  a.header.payload_bytes = op.payload.size;
  const size_t grains = base::grain_count(op.payload.size);
  const uint64_t seed = base::chunk_seed(u->key.namespace_id, u->key.key, op.chunk_number);
  a.header.checksum = base::chunk_checksum(op.payload.grain_sums, grains, op.payload.size, seed);
  a.key = u->key.key;
  a.payload = op.payload.data;
  a.sums = {op.payload.grain_sums, grains};
  a.deadline_ns = op.deadline_ns;
  a.on_done = staged;
  a.context = st;
  st->digest = u->key.digest;
  stage_append(*st);
}

void StoreImpl::stage_append(OpState& st) { put_append(st); }

void StoreImpl::staged(Append& a) {
  OpState& st = *static_cast<OpState*>(a.context);
  StoreImpl& s = *st.store;
  Status status = s.landed(a);
  if (status == Status::kIo && st.attempts++ < s.logs_.size()) return s.stage_append(st);
  ChunkOp& op = static_cast<ChunkOp&>(*st.op);
  const uint64_t id = op.upload->id;
  const auto it = std::find_if(s.uploads_.begin(), s.uploads_.end(),
                               [&](const auto& u) { return u.second->key.key.data() == a.key.data(); });
  if (it != s.uploads_.end()) {
    UploadState& u = *it->second;
    --u.in_flight;
    if (status == Status::kOk) {
      u.chunks[op.chunk_number] = {a.place, a.header.sequence, a.header.checksum, a.header.payload_bytes,
                                   !a.ranges.empty()};
      op.generation = a.header.sequence;
    } else {
      u.failed = true;
    }
    if (u.closing || id == 0) {
      status = Status::kCanceled;
      s.close_upload(u);
    }
  }
  s.finish(st, status);
}

void StoreImpl::commit(CommitOp& op) {
  UploadState* u = op.upload == nullptr ? nullptr : upload_of(op.upload->id);
  if (u == nullptr) return complete(op, Status::kInvalid);
  if (u->in_flight > 0) return complete(op, Status::kInvalid);  // commit comes after the replies of its chunks
  OpState* st = take_state(op);
  if (st == nullptr) return;
  start_tick();
  lock(*st, u->key.digest, commit_locked);
}

void StoreImpl::commit_locked(OpState& st) {
  StoreImpl& s = *st.store;
  CommitOp& op = static_cast<CommitOp&>(*st.op);
  if (const Status no = s.refusal_of(op); no != Status::kOk) return s.finish(st, no);  // the upload stays open
  UploadState* u = s.upload_of(op.upload->id);
  const auto fail = [&](Status status) {
    if (u != nullptr) s.abort(*op.upload);
    s.finish(st, status);
  };
  if (u == nullptr) return fail(Status::kInvalid);
  if (u->failed || s.waits_for_drive(st.digest)) return fail(Status::kIo);
  if (u->if_absent) {
    if (const Entry* old = s.live(st.digest)) {
      op.generation = old->sequence();
      return fail(Status::kExists);
    }
  }
  if (u->range_write) return s.queue_merge(st);
  const uint32_t count = s.chunk_count(u->total);
  if (u->chunks.size() != count || u->in_flight > 0) return fail(Status::kInvalid);
  ++s.counters_.puts;
  // Apart from the merges: one of them may hang on a drive that this block has nothing to do with.
  if (format::head_payload_bytes(count) <= kLoneOver) return s.commit_whole(st, *u);
  s.queue_merge(st);
}

/// All chunks are durable, and the new block keeps nothing of the old one: the head commits them.
void StoreImpl::commit_whole(OpState& st, UploadState& u) {
  std::vector<uint64_t> sequences(u.chunks.size());
  for (const auto& [n, ref] : u.chunks) sequences[n] = ref.sequence;
  u.head.resize(format::head_payload_bytes(sequences.size()));
  ++u.in_flight;
  u.committing = true;
  st.upload = &u;
  set_head(st, u.key, u.total, sequences, u.head, u.head_sums);
  st.append.on_done = whole_appended;
  Log* log = choose_log(st.digest, 0, 0);
  if (log != nullptr) return log->append(st.append);
  st.status = Status::kIo;
  whole_done(st);
}

void StoreImpl::whole_appended(Append& a) {
  OpState& st = *static_cast<OpState*>(a.context);
  StoreImpl& s = *st.store;
  st.status = s.landed(a);
  if (st.status != Status::kOk) return whole_done(st);
  UploadState& u = *st.upload;
  st.op->generation = a.header.sequence;
  const std::vector<std::pair<uint32_t, RecordRef>> parts(u.chunks.begin(), u.chunks.end());
  const bool lost = u.failed || std::any_of(parts.begin(), parts.end(), [&](const auto& part) {
                      return s.usable_log(part.second.place.drive) == nullptr;
                    });
  const Leftover old = s.leftover_of(st.digest, a);
  const RecordRef ref{a.place, a.header.sequence, a.header.checksum, a.header.payload_bytes, false};
  const bool installed = s.install_block(st, ref, true, u.key.namespace_id, 0, u.total, parts);
  if (!installed) st.status = Status::kNoSpace;
  if (lost) {
    s.drop_block(st.digest, s.counters_.dropped_drive_out);
    st.status = Status::kIo;
  }
  s.bury_then(st, old, a, installed && !lost, whole_done);
}

void StoreImpl::whole_done(OpState& st) {
  StoreImpl& s = *st.store;
  UploadState& u = *st.upload;
  --u.in_flight;
  s.close_upload(u);  // committed or failed: closed either way
  static_cast<CommitOp&>(*st.op).upload->id = 0;
  s.finish(st, st.status);
}

}  // namespace memkv::engine
