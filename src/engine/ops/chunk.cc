#include "engine/ops/chunk.h"

namespace memkv::engine {

/// It lies inside the upload, and chunks of a put are whole.
bool Chunk::is_valid(const OpenUpload& upload, const ChunkOp& op) {
  const uint64_t end = uint64_t{op.chunk_number} * base::kChunkBytes + op.offset_in_chunk + op.payload.size;
  const bool fits = uint64_t{op.offset_in_chunk} + op.payload.size <= base::kChunkBytes && end <= upload.total;
  const bool whole = op.offset_in_chunk == 0 && (op.payload.size == base::kChunkBytes || end == upload.total);
  return fits && op.payload.size != 0 && (upload.range_write || whole);
}

void Chunk::start(Parts& parts, RangeWriter& writer, ChunkOp& op) {
  OpenUpload* upload = op.upload == nullptr ? nullptr : parts.uploads.find(op.upload->id);
  if (upload == nullptr || upload->committing || !is_valid(*upload, op))
    return parts.completions.add(op, Status::kInvalid);
  Chunk* chunk = parts.pool.make<Chunk>(op, parts, writer, *upload, op);
  if (chunk == nullptr) return;
  ++upload->in_flight;
  parts.tick.start();
  if (op.offset_in_chunk == 0) return chunk->append();
  chunk->step_ = Step::kQueued;
  writer.queue(*chunk, op.deadline_ns);
}

void Chunk::append() {
  MEMKV_ASSERT(step_ == Step::kStarted);
  step_ = Step::kAppending;
  record_.describe(upload_.key, format::RecordKind::kChunk, chunk_.chunk_number, chunk_.payload, chunk_.deadline_ns);
  record_.call_when_done(on_appended, this);
  record_.submit();
}

void Chunk::on_appended(Append& append) { static_cast<Chunk*>(append.context)->appended(); }

void Chunk::appended() {
  MEMKV_ASSERT(step_ == Step::kAppending);
  const Status status = record_.status();
  if (record_.try_elsewhere(status)) return;
  if (status == Status::kOk) {
    upload_.chunks[chunk_.chunk_number] = record_.ref();
    chunk_.generation = record_.append().header.sequence;
  }
  end(status);
}

void Chunk::on_turn(Merge& merge) {
  MEMKV_ASSERT(step_ == Step::kQueued);
  step_ = Step::kStaging;
  merge.stage(chunk_, upload_);
}

void Chunk::on_range_written(Status status) {
  MEMKV_ASSERT(step_ == Step::kStaging || (step_ == Step::kQueued && status == Status::kDeadline));
  end(status);
}

void Chunk::end(Status status) {
  MEMKV_ASSERT(upload_.in_flight > 0);
  --upload_.in_flight;
  if (status != Status::kOk) upload_.failed = true;
  if (upload_.closing || (step_ == Step::kAppending && chunk_.upload->id == 0)) {
    status = Status::kCanceled;
    parts_.uploads.close(upload_);
  }
  Parts& parts = parts_;
  ChunkOp& op = chunk_;
  parts.pool.free(*this);
  parts.completions.add(op, status);
}

}  // namespace memkv::engine
