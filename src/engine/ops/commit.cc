#include "engine/ops/commit.h"

#include <algorithm>

#include "engine/ops/record_append.h"

namespace memkv::engine {

void Commit::start(Parts& parts, RangeWriter& writer, CommitOp& op) {
  OpenUpload* upload = op.upload == nullptr ? nullptr : parts.uploads.find(op.upload->id);
  // It comes after the replies of its chunks.
  if (upload == nullptr || upload->in_flight > 0) return parts.completions.add(op, Status::kInvalid);
  Commit* commit = parts.pool.make<Commit>(op, parts, writer, op);
  if (commit == nullptr) return;
  parts.tick.start();
  commit->lock(upload->key.digest);
}

void Commit::on_locked() {
  MEMKV_ASSERT(step_ == Step::kWaiting);
  if (const Status no = refusal(); no != Status::kOk) return finish(no);  // the upload stays open
  OpenUpload* u = parts_.uploads.find(commit_.upload->id);
  if (u == nullptr) return finish(Status::kInvalid);
  if (u->failed || parts_.blocks.waits_for_drive(u->key.digest)) return refuse(u, Status::kIo);
  if (u->if_absent) {
    if (const Entry* old = parts_.blocks.find_usable(u->key.digest)) {
      commit_.generation = old->sequence();
      return refuse(u, Status::kExists);
    }
  }
  if (u->range_write) return queue_merge();
  const uint32_t count = chunk_count(u->total);
  if (u->chunks.size() != count || u->in_flight > 0) return refuse(u, Status::kInvalid);
  ++parts_.counters.puts;
  format::head_payload_bytes(count) <= kLoneOver ? append_head(*u) : queue_merge();
}

void Commit::refuse(OpenUpload* upload, Status status) {
  MEMKV_ASSERT(upload != nullptr && step_ == Step::kWaiting);
  parts_.uploads.abort(*commit_.upload);
  finish(status);
}

void Commit::queue_merge() {
  step_ = Step::kQueued;
  writer_.queue(*this, commit_.deadline_ns);
}

MergeNeeds Commit::needs() const { return needs_of_commit(parts_, parts_.uploads.find(commit_.upload->id)); }

void Commit::on_turn(Merge& merge) {
  MEMKV_ASSERT(step_ == Step::kQueued);
  step_ = Step::kMerging;
  merge.commit(commit_, parts_.uploads.find(commit_.upload->id));
}

/// Committed or failed, and the upload is closed; or nothing was done, and it stays open.
void Commit::on_range_written(Status status) {
  const bool nothing_done = status == Status::kDeadline || status == Status::kBusy;
  MEMKV_ASSERT(step_ == Step::kMerging || nothing_done);
  if (!nothing_done) parts_.uploads.abort(*commit_.upload);
  finish(status);
}

/// All chunks are durable: the head commits them.
void Commit::append_head(OpenUpload& upload) {
  step_ = Step::kAppendingHead;
  upload_ = &upload;
  ++upload.in_flight;
  upload.committing = true;
  std::vector<uint64_t> sequences(upload.chunks.size());
  for (const auto& [n, ref] : upload.chunks) sequences[n] = ref.sequence;
  head_payload_.resize(format::head_payload_bytes(sequences.size()));
  describe_head(head_, upload.key, parts_.sequences.next(), upload.total, sequences, head_payload_, head_sums_);
  head_.deadline_ns = commit_.deadline_ns;
  head_.on_done = on_head;
  head_.context = this;
  Log* log = parts_.drives.choose_log(upload.key.digest, 0, 0);
  if (log != nullptr) return log->append(head_);
  status_ = Status::kIo;
  end();
}

void Commit::on_head(Append& head) { static_cast<Commit*>(head.context)->head_appended(); }

void Commit::head_appended() {
  MEMKV_ASSERT(step_ == Step::kAppendingHead && holds_lock());
  status_ = parts_.drives.status_unless_drive_left(head_);
  if (status_ != Status::kOk) return end();
  step_ = Step::kBurying;
  const OpenUpload& u = *upload_;
  commit_.generation = head_.header.sequence;
  const ChunkRefs chunks(u.chunks.begin(), u.chunks.end());
  const bool lost = u.failed || std::any_of(chunks.begin(), chunks.end(), [this](const auto& chunk) {
                      return parts_.drives.usable_log(chunk.second.place.drive) == nullptr;
                    });
  const Digest digest = u.key.digest;
  const Blocks::Leftover old = parts_.blocks.leftover_of(digest, head_.place, u.key.namespace_id);
  const bool installed =
      parts_.blocks.install_block(digest, ref_of(head_), true, u.key.namespace_id, 0, u.total, chunks);
  if (!installed) status_ = Status::kNoSpace;
  if (lost) {
    parts_.blocks.drop(digest, &StoreCounters::dropped_drive_out);
    status_ = Status::kIo;
  }
  burial_.bury(digest, old, head_, installed && !lost, Then::of<&Commit::buried>(*this));
}

void Commit::buried() {
  MEMKV_ASSERT(step_ == Step::kBurying);
  if (burial_.status() != Status::kOk) status_ = burial_.status();
  end();
}

/// Committed or failed: the upload is closed either way.
void Commit::end() {
  MEMKV_ASSERT(upload_ != nullptr && upload_->in_flight > 0);
  --upload_->in_flight;
  parts_.uploads.close(*upload_);
  commit_.upload->id = 0;
  finish(status_);
}

}  // namespace memkv::engine
