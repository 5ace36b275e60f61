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
  if (u == nullptr) return complete(op, Status::kInvalid);
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
  a.header.kind = RecordKind::kChunk;
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
  if (u->chunks.size() != count) return fail(Status::kInvalid);
  ++s.counters_.puts;
  s.merge_queue_.push_back(&st);  // the head is made in the merge's memory: one at a time
  s.start_merge();
}

}  // namespace memkv::engine
