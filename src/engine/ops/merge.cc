#include "engine/ops/merge.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/chunk_seed.h"
#include "engine/ops/record_append.h"
#include "engine/ops/remove.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kLateNs = 100'000'000;  // a merge that takes longer waits for a drive that has trouble

uint64_t bit_of(const Log* log) { return log == nullptr ? 0 : uint64_t{1} << log->config().slice.drive_index; }

uint64_t bit_of(const Parts& parts, const Entry* entry) {
  return entry == nullptr ? 0 : bit_of(parts.drives.usable_log(entry->place().drive));
}

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

/// Where a chunk of the block is, and where its next version goes.
uint64_t drives_of_chunk(const Parts& parts, Digest digest, uint32_t chunk) {
  const Entry* block = parts.blocks.find(digest);
  const bool large = block != nullptr && block->has(kHead);
  return bit_of(parts.drives.choose_log(digest, chunk, 0)) | bit_of(parts, block) |
         (large ? bit_of(parts, parts.blocks.find_chunk(digest, chunk)) : 0);
}

}  // namespace

// --- needs

MergeNeeds needs_of_stage(const Parts& parts, const ChunkOp& op, const OpenUpload& upload) {
  return {bit_of(parts.drives.choose_log(upload.key.digest, op.chunk_number, 0)), 1};
}

MergeNeeds needs_of_commit(const Parts& parts, const OpenUpload* upload) {
  MergeNeeds needs;
  if (upload == nullptr) return needs;
  const Digest digest = upload->key.digest;
  needs.drives = drives_of_chunk(parts, digest, 0);  // and of its head
  if (!upload->range_write) return needs;
  needs.buffers = 2;
  for (const auto& [n, ref] : upload->chunks)
    needs.drives |= drives_of_chunk(parts, digest, n) | bit_of(parts.drives.usable_log(ref.place.drive));
  return needs;
}

MergeNeeds needs_of_write(const Parts& parts, const WriteOp& op) {
  const auto chunk = static_cast<uint32_t>(op.offset / base::kChunkBytes);
  const Digest digest = op.key.digest;
  const Entry* block = parts.blocks.find(digest);
  const bool has_head = chunk > 0 || (block != nullptr && block->has(kHead));
  const uint64_t drives = drives_of_chunk(parts, digest, chunk);
  return {drives | (has_head ? bit_of(parts.drives.choose_log(digest, 0, 0)) : 0), 1};
}

// --- begin and end

void Merge::prepare(const MergeNeeds& needs) {
  MEMKV_ASSERT(free() && needs.buffers <= buffers_.size());
  step_ = Step::kStarting;
  needs_ = needs;
  begun_ns_ = parts_.reactor.now_ns();
  for (size_t i = 0; i < needs.buffers; ++i) buffers_[i] = parts_.buffers.take_merge();
}

bool Merge::is_late(uint64_t now_ns) const { return !free() && now_ns >= begun_ns_ + kLateNs; }

/// The change is done, and no drive has anything of it.
void Merge::end(Status status) {
  tell(status);
  leave();
}

void Merge::tell(Status status) {
  MEMKV_ASSERT(!free() && work_.op != nullptr, "once");
  work_.op = nullptr;
  parts_.uploads.remove_merging(work_.made);
  owner_.on_merged(*this, status);
}

void Merge::leave() {
  MEMKV_ASSERT(work_.op == nullptr, "nobody told it what came of it");
  for (std::byte*& buffer : buffers_) {
    if (buffer != nullptr) parts_.buffers.give_merge(std::exchange(buffer, nullptr));
  }
  step_ = Step::kIdle;
  owner_.on_merge_over(*this);
}

void Merge::end_if_late(uint64_t now_ns) {
  const bool loads = step_ == Step::kLoadingOld || step_ == Step::kLoadingNew || step_ == Step::kLoadingWhole;
  if (loads && work_.op != nullptr && work_.op->deadline_ns <= now_ns) tell(Status::kDeadline);
}

void Merge::flushed(uint64_t namespace_id) {
  if (!free() && work_.namespace_id == namespace_id && work_.kind != Kind::kStage) work_.flushed = true;
}

/// Chunks that it has appended are dead: no head will name them.
void Merge::begin_again() {
  MEMKV_ASSERT(work_.flushed && work_.op != nullptr);
  if (const Status no = owner_.refusal_of(*this); no != Status::kOk) return end(no);
  parts_.uploads.remove_merging(work_.made);
  step_ = Step::kStarting;
  StoreOp& op = *work_.op;
  if (work_.kind == Kind::kWrite) return write(static_cast<WriteOp&>(op));
  commit(static_cast<CommitOp&>(op), work_.upload);
}

void Merge::begin(Kind kind, StoreOp& op, const BlockKey& key) {
  MEMKV_ASSERT(step_ == Step::kStarting, "it is not its turn");
  work_ = {};
  work_.kind = kind;
  work_.op = &op;
  work_.made.digest = key.digest;
  work_.namespace_id = key.namespace_id;
  work_.key.assign(key.key);
  status_ = Status::kOk;
  parts_.uploads.add_merging(work_.made);
}

void Merge::stage(ChunkOp& op, OpenUpload& upload) {
  begin(Kind::kStage, op, upload.key);
  work_.upload = &upload;
  if (upload.closing) return end(Status::kCanceled);
  work_.chunk = op.chunk_number;
  work_.in_chunk = op.offset_in_chunk;
  work_.source = {op.payload.data, op.payload.size};
  merge_chunk();
}

void Merge::commit(CommitOp& op, OpenUpload* upload) {
  if (upload == nullptr) {
    begin(Kind::kCommit, op, {});
    return end(Status::kInvalid);
  }
  begin(Kind::kCommit, op, upload->key);
  work_.upload = upload;
  if (upload->failed) return end(Status::kIo);  // a chunk was evicted while the commit waited for its turn
  const Entry* old = parts_.blocks.find_usable(digest());
  const bool grows = upload->range_write && old != nullptr;
  work_.block_bytes = grows ? std::max(upload->total, Blocks::block_bytes_of(*old)) : upload->total;
  work_.made.chunks.assign(upload->chunks.begin(), upload->chunks.end());
  if (upload->range_write) {
    for (const auto& chunk : work_.made.chunks) work_.todo.push_back(chunk.first);
  }
  merge_next_chunk();
}

void Merge::write(WriteOp& op) {
  begin(Kind::kWrite, op, op.key);
  const Entry* old = parts_.blocks.find_usable(digest());
  work_.chunk = static_cast<uint32_t>(op.offset / base::kChunkBytes);
  work_.in_chunk = op.offset % base::kChunkBytes;
  work_.source = {op.payload.data, op.payload.size};
  work_.block_bytes = std::max(op.offset + op.payload.size, old != nullptr ? Blocks::block_bytes_of(*old) : 0);
  work_.whole_result = work_.chunk == 0 && (old == nullptr || !old->has(kHead));
  merge_chunk();
}

// --- merging

/// Commit of a range write: staged chunks that leave a part of the old chunk in place are merged with it, one after
/// another. Behind the last one comes the head.
void Merge::merge_next_chunk() {
  if (!work_.todo.empty()) {
    work_.chunk = work_.todo.back();
    work_.todo.pop_back();
    work_.source = {};
    return merge_chunk();
  }
  // A block that was one record becomes chunk 0, unless this change replaced it.
  const Entry* old = parts_.blocks.find_usable(digest());
  const bool grows = old != nullptr && !old->has(kHead) && !work_.whole_result && keeps_old() && old->length() > 0;
  if (!grows || made_chunk(0) != nullptr) return append_head();
  work_.old = Blocks::ref_of(*old);
  load(Step::kLoadingWhole, work_.old, 0);
}

/// The old chunk, unless the new bytes cover it, is loaded into buffer 0; then the new ones are laid over it.
void Merge::merge_chunk() {
  Work& m = work_;
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
  load(Step::kLoadingOld, m.old, 0);
}

/// A chunk of the present block; length 0: there is none.
RecordRef Merge::old_chunk(uint32_t chunk) const {
  const Entry* e = parts_.blocks.find_usable(digest());
  if (e == nullptr) return {};
  if (e->has(kHead))
    e = parts_.blocks.find_usable_chunk(digest(), chunk);
  else if (chunk != 0)
    return {};
  return e == nullptr ? RecordRef{} : Blocks::ref_of(*e);
}

RecordRef* Merge::made_chunk(uint32_t chunk) {
  for (auto& [n, ref] : work_.made.chunks) {
    if (n == chunk) return &ref;
  }
  return nullptr;
}

/// Reads a record whole, for the step that is given.
void Merge::load(Step step, const RecordRef& record, size_t buffer) {
  MEMKV_ASSERT(record.length > 0);
  step_ = step;
  waits_for_ = bit_of(parts_.drives.usable_log(record.place.drive));
  const GrainSpan whole{0, base::align_up(record.length, base::kSectorBytes)};
  std::byte* data = buffers_[buffer];
  const Then then = Then::of<&Merge::loaded>(*this);
  if (load_.start(parts_.drives, record, whole, data, record.lone(), then) != RecordLoad::Started::kYes)
    end(Status::kBusy);
}

void Merge::loaded() {
  load_.release();
  if (work_.op == nullptr) return leave();
  if (work_.flushed) return begin_again();
  if (step_ == Step::kLoadingOld) return old_loaded();
  step_ == Step::kLoadingNew ? new_loaded() : whole_loaded();
}

/// The loaded record's bytes stand at the buffer's start, and `ranges` tells which of them are present. kCorrupt: they
/// are not its bytes.
Status Merge::check_loaded(size_t buffer, uint32_t chunk, std::vector<format::PresentRange>& ranges) {
  if (!load_.succeeded()) return Status::kIo;
  const RecordRef& r = load_.record();
  std::byte* data = buffers_[buffer];
  if (!r.lone()) std::memmove(data, data + load_.offset() % base::kSectorBytes, r.length);
  const uint64_t seed = base::chunk_seed(work_.namespace_id, work_.key, chunk);
  if (base::chunk_checksum_of({data, r.length}, seed) != r.checksum) return Status::kCorrupt;
  ranges.assign(1, {0, r.length});
  if (!r.has_holes) return Status::kOk;
  format::RecordView view;
  if (!load_.read_header(data - base::kSectorBytes, digest(), chunk, view)) return Status::kCorrupt;
  ranges.clear();
  for (size_t i = 0; i < view.header.range_count; ++i) ranges.push_back(view.range(i));
  return Status::kOk;
}

/// The old block cannot be read: what was to be changed is lost.
void Merge::old_is_bad(Status status) {
  if (const Entry* e = parts_.blocks.find_usable(digest())) {
    Remove::drop_durably(parts_, digest(), work_.namespace_id, e->sequence(), &StoreCounters::dropped_corrupt);
  }
  end(status);
}

void Merge::old_loaded() {
  MEMKV_ASSERT(step_ == Step::kLoadingOld);
  const Status status = check_loaded(0, work_.chunk, work_.ranges);
  if (status != Status::kOk) return old_is_bad(status);
  if (!work_.source.empty()) return overlay_source();
  load(Step::kLoadingNew, *made_chunk(work_.chunk), 1);
}

/// The op's own bytes over the old ones in buffer 0.
void Merge::overlay_source() {
  Work& m = work_;
  std::byte* data = buffers_[0];
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
void Merge::new_loaded() {
  MEMKV_ASSERT(step_ == Step::kLoadingNew);
  Work& m = work_;
  std::vector<format::PresentRange> fresh_ranges;
  const Status status = check_loaded(1, m.chunk, fresh_ranges);
  if (status != Status::kOk) return end(status);
  std::byte* data = buffers_[0];
  const std::byte* fresh = buffers_[1];
  const uint32_t old_length = m.old.length, new_length = load_.record().length;
  if (old_length < new_length) std::memset(data + old_length, 0, new_length - old_length);
  for (const format::PresentRange& r : fresh_ranges) {
    std::memcpy(data + r.begin, fresh + r.begin, r.end - r.begin);
    add_range(m.ranges, r);
  }
  append_chunk(Step::kAppendingMerged, format::RecordKind::kChunk, m.chunk, std::max(old_length, new_length));
}

/// The block was one record: it becomes chunk 0 of one that has several.
void Merge::whole_loaded() {
  MEMKV_ASSERT(step_ == Step::kLoadingWhole);
  const Status status = check_loaded(0, 0, work_.ranges);
  if (status != Status::kOk) return old_is_bad(status);
  work_.source = {};
  append_chunk(Step::kAppendingWhole, format::RecordKind::kChunk, 0, work_.old.length);
}

// --- appending

/// Appends what stands in buffer 0 as a chunk (or whole record), with fresh sums, and its present ranges where it has
/// holes.
void Merge::append_chunk(Step step, format::RecordKind kind, uint32_t chunk, uint32_t length) {
  Work& m = work_;
  if (m.ranges.size() == 1 && m.ranges[0].begin == 0 && m.ranges[0].end == length) m.ranges.clear();
  if (m.ranges.size() > format::kRangesMax) return end(Status::kTooLarge);
  std::byte* data = buffers_[0];
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

void Merge::submit(Step step, uint32_t chunk, uint64_t user_bytes) {
  step_ = step;
  append_.deadline_ns = work_.op->deadline_ns;
  append_.on_done = on_appended;
  append_.context = this;
  Log* log = parts_.drives.choose_log(digest(), chunk, 0);
  if (log == nullptr) return end(Status::kIo);
  waits_for_ = bit_of(log);
  needs_.drives |= waits_for_;
  parts_.counters.user_bytes_written += user_bytes;
  log->append(append_);
}

void Merge::on_appended(Append& append) {
  Merge& merge = *static_cast<Merge*>(append.context);
  const Status status = merge.parts_.drives.status_unless_drive_left(append);
  if (status != Status::kOk) return merge.end(status);
  if (merge.step_ == Step::kAppendingMerged) return merge.merged_appended();
  if (merge.step_ == Step::kAppendingWhole) return merge.whole_appended();
  MEMKV_ASSERT(merge.step_ == Step::kAppendingHead);
  merge.head_appended();
}

void Merge::merged_appended() {
  const RecordRef ref = ref_of(append_);
  if (work_.kind == Kind::kStage) {
    work_.upload->chunks[work_.chunk] = ref;
    return end(Status::kOk);
  }
  if (append_.header.kind == format::RecordKind::kChunk) {
    std::erase_if(work_.made.chunks, [&](const auto& made) { return made.first == work_.chunk; });
    work_.made.chunks.emplace_back(work_.chunk, ref);
    return merge_next_chunk();
  }
  step_ = Step::kBurying;
  work_.op->generation = ref.sequence;
  const Blocks::Leftover old = parts_.blocks.leftover_of(digest(), ref.place, work_.namespace_id);
  const bool installed = parts_.blocks.install_block(digest(), ref, false, work_.namespace_id, 0, ref.length, {});
  if (!installed) status_ = Status::kNoSpace;
  burial_.bury(digest(), old, append_, installed, Then::of<&Merge::buried>(*this));
}

void Merge::whole_appended() {
  work_.made.chunks.emplace_back(0, ref_of(append_));
  append_head();
}

/// The sequences of the block's chunks: those of this change, and those that it keeps. 0: there is none.
std::vector<uint64_t> Merge::head_sequences() {
  std::vector<uint64_t> sequences(chunk_count(work_.block_bytes), 0);
  const Entry* old = parts_.blocks.find_usable(digest());
  if (keeps_old() && old != nullptr && old->has(kHead)) {
    for (uint32_t n = 0; n < sequences.size(); ++n) {
      if (const Entry* c = parts_.blocks.find_chunk(digest(), n)) sequences[n] = c->sequence();
    }
  }
  for (const auto& [n, ref] : work_.made.chunks) {
    MEMKV_ASSERT(n < sequences.size());
    sequences[n] = ref.sequence;
  }
  return sequences;
}

/// All chunks are durable: the head commits them. A flush that came while they were appended has not killed them (chunks
/// live and die with their head), though they may carry bytes from before it.
void Merge::append_head() {
  if (work_.flushed) return begin_again();
  const std::vector<uint64_t> sequences = head_sequences();
  const uint32_t bytes = format::head_payload_bytes(sequences.size());
  if (bytes > base::kChunkBytes) return end(Status::kTooLarge);
  const BlockKey key{digest(), work_.namespace_id, work_.key};
  describe_head(append_, key, parts_.sequences.next(), work_.block_bytes, sequences, {buffers_[0], bytes}, work_.sums);
  submit(Step::kAppendingHead, 0, 0);
}

// --- installing

/// A chunk that the new head keeps from the old block is not in the index any more.
bool Merge::kept_chunk_is_gone() const {
  const auto view = format::parse_head({append_.payload, append_.header.payload_bytes});
  MEMKV_ASSERT(view.ok());
  const ChunkRefs& made = work_.made.chunks;
  for (uint32_t n = 0; n < view->head.chunk_count; ++n) {
    const uint64_t sequence = view->sequence(n);
    if (sequence == 0 || std::any_of(made.begin(), made.end(), [n](const auto& m) { return m.first == n; })) continue;
    const Entry* c = parts_.blocks.find_chunk(digest(), n);
    if (c == nullptr || c->sequence() != sequence) return true;
  }
  return false;
}

/// A chunk of this change went with its drive, or with its segment.
bool Merge::made_chunk_is_lost() const {
  const ChunkRefs& made = work_.made.chunks;
  return work_.made.lost || std::any_of(made.begin(), made.end(), [this](const auto& m) {
           return parts_.drives.usable_log(m.second.place.drive) == nullptr;
         });
}

void Merge::head_appended() {
  step_ = Step::kBurying;
  const RecordRef ref = ref_of(append_);
  work_.op->generation = ref.sequence;
  const bool lost = made_chunk_is_lost();
  const Blocks::Leftover old = parts_.blocks.leftover_of(digest(), ref.place, work_.namespace_id);
  const bool evicted = kept_chunk_is_gone();
  const bool installed =
      parts_.blocks.install_block(digest(), ref, true, work_.namespace_id, 0, work_.block_bytes, work_.made.chunks);
  if (!installed) status_ = Status::kNoSpace;
  // Old bytes went while the head was written.
  if (evicted && !lost) parts_.blocks.drop(digest(), &StoreCounters::dropped_evicted);
  if (lost) {
    parts_.blocks.drop(digest(), &StoreCounters::dropped_drive_out);
    status_ = Status::kIo;
  }
  burial_.bury(digest(), old, append_, installed && !evicted && !lost, Then::of<&Merge::buried>(*this));
}

void Merge::buried() {
  MEMKV_ASSERT(step_ == Step::kBurying);
  end(burial_.status() == Status::kOk ? status_ : burial_.status());
}

}  // namespace memkv::engine
