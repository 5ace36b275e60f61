#include "engine/ops/range_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/chunk_seed.h"
#include "engine/ops/record_append.h"
#include "engine/ops/remove.h"

namespace memkv::engine {
namespace {

/// Union of present ranges: sorted, disjoint, not touching.
void add_range(std::vector<format::PresentRange>& ranges, format::PresentRange r) {
  MEMKV_ASSERT(r.begin <= r.end);
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

// --- turns

void RangeWriter::queue(Job& job) {
  job.next_job_ = nullptr;
  (first_ == nullptr ? first_ : last_->next_job_) = &job;
  last_ = &job;
  start_next();
}

void RangeWriter::start_next() {
  if (job_ != nullptr || first_ == nullptr) return;
  MEMKV_ASSERT(step_ == Step::kIdle);
  job_ = first_;
  first_ = job_->next_job_;
  step_ = Step::kStarting;
  job_->on_turn();
}

void RangeWriter::leave_turn() {
  MEMKV_ASSERT(job_ != nullptr && step_ == Step::kStarting, "it has begun to write");
  job_ = nullptr;
  step_ = Step::kIdle;
  start_next();
}

void RangeWriter::end(Status status) {
  MEMKV_ASSERT(job_ != nullptr && step_ != Step::kIdle);
  Job& job = *std::exchange(job_, nullptr);
  step_ = Step::kIdle;
  parts_.uploads.set_merging(nullptr);
  job.on_range_written(status);
  start_next();
}

// --- jobs

void RangeWriter::begin(Kind kind, StoreOp& op, const BlockKey& key) {
  MEMKV_ASSERT(step_ == Step::kStarting, "it is not its turn");
  merge_ = {};
  merge_.kind = kind;
  merge_.op = &op;
  merge_.made.digest = key.digest;
  merge_.namespace_id = key.namespace_id;
  merge_.key.assign(key.key);
  status_ = Status::kOk;
  parts_.uploads.set_merging(&merge_.made);
}

void RangeWriter::stage(ChunkOp& op, OpenUpload& upload) {
  begin(Kind::kStage, op, upload.key);
  merge_.upload = &upload;
  if (upload.closing) return end(Status::kCanceled);
  merge_.chunk = op.chunk_number;
  merge_.in_chunk = op.offset_in_chunk;
  merge_.source = {op.payload.data, op.payload.size};
  merge_chunk();
}

void RangeWriter::commit(CommitOp& op, OpenUpload* upload) {
  if (upload == nullptr) return end(Status::kInvalid);
  begin(Kind::kCommit, op, upload->key);
  merge_.upload = upload;
  if (upload->failed) return end(Status::kIo);  // a chunk was evicted while the commit waited for its turn
  const Entry* old = parts_.blocks.find_usable(digest());
  const bool grows = upload->range_write && old != nullptr;
  merge_.block_bytes = grows ? std::max(upload->total, Blocks::block_bytes_of(*old)) : upload->total;
  merge_.made.chunks.assign(upload->chunks.begin(), upload->chunks.end());
  if (upload->range_write) {
    for (const auto& chunk : merge_.made.chunks) merge_.todo.push_back(chunk.first);
  }
  merge_next_chunk();
}

void RangeWriter::write(WriteOp& op) {
  begin(Kind::kWrite, op, op.key);
  const Entry* old = parts_.blocks.find_usable(digest());
  merge_.chunk = static_cast<uint32_t>(op.offset / base::kChunkBytes);
  merge_.in_chunk = op.offset % base::kChunkBytes;
  merge_.source = {op.payload.data, op.payload.size};
  merge_.block_bytes = std::max(op.offset + op.payload.size, old != nullptr ? Blocks::block_bytes_of(*old) : 0);
  merge_.whole_result = merge_.chunk == 0 && (old == nullptr || !old->has(kHead));
  merge_chunk();
}

// --- merging

/// Commit of a range write: staged chunks that leave a part of the old chunk in place are merged with it, one after
/// another. Behind the last one comes the head.
void RangeWriter::merge_next_chunk() {
  if (!merge_.todo.empty()) {
    merge_.chunk = merge_.todo.back();
    merge_.todo.pop_back();
    merge_.source = {};
    return merge_chunk();
  }
  // A block that was one record becomes chunk 0, unless this change replaced it.
  const Entry* old = parts_.blocks.find_usable(digest());
  const bool grows = old != nullptr && !old->has(kHead) && !merge_.whole_result && keeps_old() && old->length() > 0;
  if (grows && made_chunk(0) == nullptr) return grow_from_one_record(Blocks::ref_of(*old));
  append_head();
}

/// The old chunk, unless the new bytes cover it, is loaded into buffer 0; then the new ones are laid over it.
void RangeWriter::merge_chunk() {
  Merge& m = merge_;
  m.ranges.clear();
  m.old = m.kind == Kind::kStage ? RecordRef{} : old_chunk(m.chunk);
  if (m.source.empty()) {
    const RecordRef* staged = made_chunk(m.chunk);
    MEMKV_ASSERT(staged != nullptr);
    const bool covers = !staged->has_holes && staged->length >= m.old.length;
    if (m.old.length == 0 || covers) return merge_next_chunk();
  } else if (m.in_chunk == 0 && m.source.size() >= m.old.length) {
    m.old = {};
  }
  if (m.old.length == 0) return overlay_source();
  load(Step::kLoadingOld, m.old, 0, Then::of<&RangeWriter::old_loaded>(*this));
}

/// A chunk of the present block; length 0: there is none.
RecordRef RangeWriter::old_chunk(uint32_t chunk) const {
  const Entry* e = parts_.blocks.find_usable(digest());
  if (e == nullptr) return {};
  if (e->has(kHead))
    e = parts_.blocks.find_usable_chunk(digest(), chunk);
  else if (chunk != 0)
    return {};
  return e == nullptr ? RecordRef{} : Blocks::ref_of(*e);
}

RecordRef* RangeWriter::made_chunk(uint32_t chunk) {
  for (auto& [n, ref] : merge_.made.chunks) {
    if (n == chunk) return &ref;
  }
  return nullptr;
}

/// Reads a record whole; `then` ends it with check_loaded().
void RangeWriter::load(Step step, const RecordRef& record, size_t buffer, Then then) {
  MEMKV_ASSERT(record.length > 0);
  step_ = step;
  const GrainSpan whole{0, base::align_up(record.length, base::kSectorBytes)};
  std::byte* data = parts_.buffers.merge_data(buffer);
  if (load_.start(parts_.drives, record, whole, data, record.lone(), then) != RecordLoad::Started::kYes)
    end(Status::kBusy);
}

/// The loaded record's bytes stand at the buffer's start, and `ranges` tells which of them are present. kCorrupt: they
/// are not its bytes.
Status RangeWriter::check_loaded(size_t buffer, uint32_t chunk, std::vector<format::PresentRange>& ranges) {
  load_.release();
  if (!load_.succeeded()) return Status::kIo;
  const RecordRef& r = load_.record();
  std::byte* data = parts_.buffers.merge_data(buffer);
  if (!r.lone()) std::memmove(data, data + load_.offset() % base::kSectorBytes, r.length);
  const uint64_t seed = base::chunk_seed(merge_.namespace_id, merge_.key, chunk);
  if (base::chunk_checksum_of({data, r.length}, seed) != r.checksum) return Status::kCorrupt;
  ranges.assign(1, {0, r.length});
  if (!r.has_holes) return Status::kOk;
  return load_.read_header(data - base::kSectorBytes, digest(), chunk, nullptr, &ranges) ? Status::kOk
                                                                                         : Status::kCorrupt;
}

/// The old block cannot be read: what was to be changed is lost.
void RangeWriter::old_is_bad(Status status) {
  if (const Entry* e = parts_.blocks.find_usable(digest())) {
    Remove::drop_durably(parts_, digest(), merge_.namespace_id, e->sequence(), &StoreCounters::dropped_corrupt);
  }
  end(status);
}

void RangeWriter::old_loaded() {
  MEMKV_ASSERT(step_ == Step::kLoadingOld);
  const Status status = check_loaded(0, merge_.chunk, merge_.ranges);
  if (status != Status::kOk) return old_is_bad(status);
  if (!merge_.source.empty()) return overlay_source();
  load(Step::kLoadingNew, *made_chunk(merge_.chunk), 1, Then::of<&RangeWriter::new_loaded>(*this));
}

/// The op's own bytes over the old ones in buffer 0.
void RangeWriter::overlay_source() {
  Merge& m = merge_;
  std::byte* data = parts_.buffers.merge_data(0);
  const uint32_t old_length = m.old.length;
  const auto end = static_cast<uint32_t>(m.in_chunk + m.source.size());
  MEMKV_ASSERT(end <= base::kChunkBytes && !m.source.empty());
  if (old_length < m.in_chunk) std::memset(data + old_length, 0, m.in_chunk - old_length);
  std::memcpy(data + m.in_chunk, m.source.data(), m.source.size());
  add_range(m.ranges, {static_cast<uint32_t>(m.in_chunk), end});
  const bool whole = m.whole_result && m.kind == Kind::kWrite;
  append_chunk(Step::kAppendingMerged, whole ? format::RecordKind::kWhole : format::RecordKind::kChunk, m.chunk,
               std::max(old_length, end));
}

/// The staged chunk, in buffer 1, over the old one in buffer 0.
void RangeWriter::new_loaded() {
  MEMKV_ASSERT(step_ == Step::kLoadingNew);
  Merge& m = merge_;
  std::vector<format::PresentRange> fresh_ranges;
  const Status status = check_loaded(1, m.chunk, fresh_ranges);
  if (status != Status::kOk) return end(status);
  std::byte* data = parts_.buffers.merge_data(0);
  const std::byte* fresh = parts_.buffers.merge_data(1);
  const uint32_t old_length = m.old.length, new_length = load_.record().length;
  if (old_length < new_length) std::memset(data + old_length, 0, new_length - old_length);
  for (const format::PresentRange& r : fresh_ranges) {
    std::memcpy(data + r.begin, fresh + r.begin, r.end - r.begin);
    add_range(m.ranges, r);
  }
  append_chunk(Step::kAppendingMerged, format::RecordKind::kChunk, m.chunk, std::max(old_length, new_length));
}

/// The block was one record: it becomes chunk 0 of one that has several.
void RangeWriter::grow_from_one_record(const RecordRef& record) {
  merge_.old = record;
  load(Step::kLoadingWhole, record, 0, Then::of<&RangeWriter::whole_loaded>(*this));
}

void RangeWriter::whole_loaded() {
  MEMKV_ASSERT(step_ == Step::kLoadingWhole);
  const Status status = check_loaded(0, 0, merge_.ranges);
  if (status != Status::kOk) return old_is_bad(status);
  merge_.source = {};
  append_chunk(Step::kAppendingWhole, format::RecordKind::kChunk, 0, merge_.old.length);
}

// --- appending

/// Appends what stands in buffer 0 as a chunk (or whole record), with fresh sums, and its present ranges where it has
/// holes.
void RangeWriter::append_chunk(Step step, format::RecordKind kind, uint32_t chunk, uint32_t length) {
  Merge& m = merge_;
  if (m.ranges.size() == 1 && m.ranges[0].begin == 0 && m.ranges[0].end == length) m.ranges.clear();
  if (m.ranges.size() > format::kRangesMax) return end(Status::kTooLarge);
  std::byte* data = parts_.buffers.merge_data(0);
  const uint64_t seed = base::chunk_seed(m.namespace_id, m.key, chunk);
  m.sums.resize(base::grain_count(length));
  base::grain_sums({data, length}, seed, m.sums.data());
  Append& a = append_;
  a = {};
  a.header.digest[0] = digest().lo;
  a.header.digest[1] = digest().hi;
  a.header.namespace_id = m.namespace_id;
  a.header.kind = kind;
  a.header.sequence = parts_.sequences.next();
  a.header.chunk_number = chunk;
  a.header.payload_bytes = length;
  a.header.checksum = base::chunk_checksum(m.sums.data(), m.sums.size(), length, seed);
  a.key = m.key;
  a.payload = data;
  a.sums = m.sums;
  a.ranges = m.ranges;
  submit(step, chunk, m.source.size());
}

void RangeWriter::submit(Step step, uint32_t chunk, uint64_t user_bytes) {
  step_ = step;
  append_.deadline_ns = merge_.op->deadline_ns;
  append_.on_done = on_appended;
  append_.context = this;
  Log* log = parts_.drives.choose_log(digest(), chunk, 0);
  if (log == nullptr) return end(Status::kIo);
  parts_.counters.user_bytes_written += user_bytes;
  log->append(append_);
}

void RangeWriter::on_appended(Append& append) {
  RangeWriter& w = *static_cast<RangeWriter*>(append.context);
  const Status status = w.parts_.drives.status_unless_drive_left(append);
  if (status != Status::kOk) return w.end(status);
  if (w.step_ == Step::kAppendingMerged) return w.merged_appended();
  if (w.step_ == Step::kAppendingWhole) return w.whole_appended();
  MEMKV_ASSERT(w.step_ == Step::kAppendingHead);
  w.head_appended();
}

void RangeWriter::merged_appended() {
  const RecordRef ref = ref_of(append_);
  if (merge_.kind == Kind::kStage) {
    merge_.upload->chunks[merge_.chunk] = ref;
    return end(Status::kOk);
  }
  if (append_.header.kind == format::RecordKind::kWhole) return install_whole(ref);
  std::erase_if(merge_.made.chunks, [&](const auto& made) { return made.first == merge_.chunk; });
  merge_.made.chunks.emplace_back(merge_.chunk, ref);
  merge_next_chunk();
}

void RangeWriter::whole_appended() {
  merge_.made.chunks.emplace_back(0, ref_of(append_));
  append_head();
}

/// The sequences of the block's chunks: those of this change, and those that it keeps. 0: there is none.
std::vector<uint64_t> RangeWriter::head_sequences() {
  std::vector<uint64_t> sequences(chunk_count(merge_.block_bytes), 0);
  const Entry* old = parts_.blocks.find_usable(digest());
  if (keeps_old() && old != nullptr && old->has(kHead)) {
    for (uint32_t n = 0; n < sequences.size(); ++n) {
      if (const Entry* c = parts_.blocks.find_chunk(digest(), n)) sequences[n] = c->sequence();
    }
  }
  for (const auto& [n, ref] : merge_.made.chunks) {
    MEMKV_ASSERT(n < sequences.size());
    sequences[n] = ref.sequence;
  }
  return sequences;
}

/// All chunks are durable: the head commits them.
void RangeWriter::append_head() {
  const std::vector<uint64_t> sequences = head_sequences();
  const uint32_t bytes = format::head_payload_bytes(sequences.size());
  if (bytes > base::kChunkBytes) return end(Status::kTooLarge);
  const BlockKey key{digest(), merge_.namespace_id, merge_.key};
  describe_head(append_, key, parts_.sequences.next(), merge_.block_bytes, sequences,
                {parts_.buffers.merge_data(1), bytes}, merge_.sums);
  submit(Step::kAppendingHead, 0, 0);
}

// --- installing

/// A chunk that the new head keeps from the old block is not in the index any more.
bool RangeWriter::kept_chunk_is_gone() const {
  const auto view = format::parse_head({append_.payload, append_.header.payload_bytes});
  MEMKV_ASSERT(view.ok());
  const ChunkRefs& made = merge_.made.chunks;
  for (uint32_t n = 0; n < view->head.chunk_count; ++n) {
    const uint64_t sequence = view->sequence(n);
    if (sequence == 0 || std::any_of(made.begin(), made.end(), [n](const auto& m) { return m.first == n; })) continue;
    const Entry* c = parts_.blocks.find_chunk(digest(), n);
    if (c == nullptr || c->sequence() != sequence) return true;
  }
  return false;
}

/// A chunk of this change went with its drive, or with its segment.
bool RangeWriter::made_chunk_is_lost() const {
  const ChunkRefs& made = merge_.made.chunks;
  return merge_.made.lost || std::any_of(made.begin(), made.end(), [this](const auto& m) {
           return parts_.drives.usable_log(m.second.place.drive) == nullptr;
         });
}

void RangeWriter::install_whole(const RecordRef& ref) {
  step_ = Step::kBurying;
  merge_.op->generation = ref.sequence;
  const Blocks::Leftover old = parts_.blocks.leftover_of(digest(), ref.place, merge_.namespace_id);
  const bool installed = parts_.blocks.install_block(digest(), ref, false, merge_.namespace_id, 0, ref.length, {});
  if (!installed) status_ = Status::kNoSpace;
  burial_.bury(digest(), old, append_, installed, Then::of<&RangeWriter::buried>(*this));
}

void RangeWriter::head_appended() {
  step_ = Step::kBurying;
  const RecordRef ref = ref_of(append_);
  merge_.op->generation = ref.sequence;
  const bool lost = made_chunk_is_lost();
  const Blocks::Leftover old = parts_.blocks.leftover_of(digest(), ref.place, merge_.namespace_id);
  const bool evicted = kept_chunk_is_gone();
  const bool installed =
      parts_.blocks.install_block(digest(), ref, true, merge_.namespace_id, 0, merge_.block_bytes, merge_.made.chunks);
  if (!installed) status_ = Status::kNoSpace;
  // Old bytes went while the head was written.
  if (evicted && !lost) parts_.blocks.drop(digest(), &StoreCounters::dropped_evicted);
  if (lost) {
    parts_.blocks.drop(digest(), &StoreCounters::dropped_drive_out);
    status_ = Status::kIo;
  }
  burial_.bury(digest(), old, append_, installed && !evicted && !lost, Then::of<&RangeWriter::buried>(*this));
}

void RangeWriter::buried() {
  MEMKV_ASSERT(step_ == Step::kBurying);
  end(burial_.status() == Status::kOk ? status_ : burial_.status());
}

}  // namespace memkv::engine
