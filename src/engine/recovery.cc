#include "engine/recovery.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/log.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

uint64_t fold(const uint64_t (&digest)[2]) { return digest[0] ^ (digest[1] * 0x9E3779B97F4A7C15ull); }
uint64_t fold(Digest d) { return d.lo ^ (d.hi * 0x9E3779B97F4A7C15ull); }

struct DigestHash {
  size_t operator()(const Digest& d) const { return fold(d); }
};

}  // namespace

void Recovery::Tombs::Tomb::add(uint64_t sequence, uint64_t epoch, uint64_t offset) {
  highest = std::max(highest, sequence);
  if (epoch < last_epoch || (epoch == last_epoch && offset < last_offset)) return;
  last = sequence;
  last_epoch = epoch;
  last_offset = offset;
}

bool Recovery::Tombs::Tomb::covers(const Found& f) const {
  const uint64_t offset = f.place.unit * kPackBytes;
  return last > f.header.sequence && (last_epoch > f.epoch || (last_epoch == f.epoch && last_offset >= offset));
}

const Recovery::Tombs::Tomb* Recovery::Tombs::of_digest(const Found& f) const {
  const auto it = by_digest.find(fold(f.header.digest));
  return it == by_digest.end() ? nullptr : &it->second;
}

const Recovery::Tombs::Tomb* Recovery::Tombs::of_namespace(const Found& f) const {
  const auto it = by_namespace.find(f.header.namespace_id);
  return it == by_namespace.end() ? nullptr : &it->second;
}

void StoreImpl::open(StoreOp& op) {
  const uint64_t started = reactor_.now_ns();
  const Status status = Recovery(*this).run();
  counters_.recovery_ns = reactor_.now_ns() - started;
  complete(op, status);
}

/// One device op, waited for: nothing else is under way.
int32_t Recovery::wait(Log& log, uint64_t offset, std::byte* memory, uint64_t bytes, bool write) {
  struct Wait {
    io::IoOp io;
    iovec piece;
    int32_t result = 0;
    bool done = false;
  } w;
  w.piece = {memory, bytes};
  w.io.context = &w;
  w.io.on_done = [](io::IoOp& op, int32_t result) {
    auto& self = *static_cast<Wait*>(op.context);
    self.result = result;
    self.done = true;
  };
  const auto ok = write ? log.device().write(w.io, offset, {&w.piece, 1}, log.config().slice.dsync)
                        : log.device().read(w.io, offset, {&w.piece, 1});
  if (!ok) return -5;
  while (!w.done) s_.reactor_.run_once(10'000'000);
  return w.result;
}

// --- anchors
// ----------------------------------------------------------------------------------------------------------

uint64_t Recovery::read_anchors() {
  const uint64_t seed = store_seed(s_.options_.store_id);
  uint64_t end = 0;
  for (auto& log : s_.logs_) {
    if (!log) continue;
    for (int copy = 0; copy < 2; ++copy) {
      const uint64_t offset = log->config().slice.offset_bytes + static_cast<uint64_t>(copy) * kBlockBytes;
      if (wait(*log, offset, buffer_, kBlockBytes, false) < 0) continue;
      Anchor a;
      std::memcpy(&a, buffer_, sizeof a);
      if (valid(a, seed) && a.shard == s_.options_.shard && a.drive_index == log->config().slice.drive_index)
        end = std::max(end, a.sequence_end);
    }
  }
  return end;
}

Anchor Recovery::make_anchor(const Log& log, uint64_t sequence_end) const {
  Anchor a{};
  std::memcpy(a.store_id, s_.options_.store_id, sizeof a.store_id);
  a.drive_index = log.config().slice.drive_index;
  a.shard = s_.options_.shard;
  a.sequence_end = sequence_end;
  a.write_counter = sequence_end / kSequenceReservation;
  seal(a);
  return a;
}

/// The copies alternate, so that a torn write leaves the reservation before.
uint64_t Recovery::anchor_offset(const Log& log, uint64_t sequence_end) {
  return log.config().slice.offset_bytes + (sequence_end / kSequenceReservation % 2) * kBlockBytes;
}

bool Recovery::write_anchors(uint64_t sequence_end) {
  auto* block = static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, kBlockBytes));
  bool any = false;
  for (auto& log : s_.logs_) {
    if (!log || log->out()) continue;
    const Anchor a = make_anchor(*log, sequence_end);
    std::memcpy(block, &a, sizeof a);
    any |= wait(*log, anchor_offset(*log, sequence_end), block, kBlockBytes, true) >= 0;
  }
  std::free(block);
  return any;
}

// --- one log
// ----------------------------------------------------------------------------------------------------------

std::vector<SegmentHeader> Recovery::read_segment_headers(Log& log) {
  std::vector<SegmentHeader> out;
  for (uint64_t i = 0; i < log.segments(); ++i) {
    SegmentHeader h;
    if (wait(log, log.segment_start(i), buffer_, kBlockBytes, false) < 0) continue;
    std::memcpy(&h, buffer_, sizeof h);
    if (!valid(h, log.seed())) continue;
    const bool own = h.drive_index == log.config().slice.drive_index && h.shard == s_.options_.shard &&
                     h.segment_index == i && h.epoch % log.segments() == i;
    if (own || !rules().own_place) out.push_back(h);
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.epoch < b.epoch; });
  return out;
}

base::Bytes Recovery::head_payload(Log& log, uint64_t offset, uint32_t bytes) {
  const uint64_t start = base::align_down(offset, kBlockBytes);
  const uint64_t n = base::align_up(offset + bytes, kBlockBytes) - start;
  void* p = std::aligned_alloc(kBlockBytes, n);
  head_memory_.clear();
  if (p != nullptr && wait(log, start, static_cast<std::byte*>(p), n, false) >= 0) {
    const auto* from = static_cast<std::byte*>(p) + (offset - start);
    head_memory_.assign(from, from + bytes);
  }
  std::free(p);
  return {head_memory_.data(), head_memory_.size()};
}

void Recovery::take(Log& log, uint64_t epoch, const RecordHeader& h, uint64_t payload_offset, base::Bytes head) {
  ++s_.counters_.recovered_records;
  sequence_max_ = std::max(sequence_max_, h.sequence);
  Tombs& tombs = tombs_[log.config().slice.drive_index];
  if (h.kind == RecordKind::kTombstone) {
    tombs.by_digest[fold(h.digest)].add(h.sequence, epoch, payload_offset);
    return;
  }
  if (h.kind == RecordKind::kFlush) {
    tombs.by_namespace[h.namespace_id].add(h.sequence, epoch, payload_offset);
    return;
  }
  Found f;
  f.header = h;
  f.place = {log.config().slice.drive_index, payload_offset / kPackBytes};
  f.epoch = epoch;
  if (h.kind == RecordKind::kHead) {
    const auto view = parse_head(head);
    if (!view) return;
    f.block_bytes = view->head.block_bytes;
    for (uint32_t i = 0; i < view->head.chunk_count; ++i) f.chunks.push_back(view->sequence(i));
  }
  (h.kind == RecordKind::kChunk ? chunks_ : commits_).push_back(std::move(f));
}

bool Recovery::read_footer(Log& log, uint64_t epoch, uint32_t& data_end, uint64_t& chain) {
  const uint64_t end = log.segment_start(epoch) + log.config().slice.segment_bytes;
  if (wait(log, end - kBlockBytes, buffer_, kBlockBytes, false) < 0) return false;
  auto trailer = peek_footer({buffer_, kBlockBytes});
  if (!trailer || trailer->epoch != epoch || trailer->footer_bytes > buffer_bytes_) return false;
  if (wait(log, end - trailer->footer_bytes, buffer_, trailer->footer_bytes, false) < 0) return false;
  const base::Bytes bytes(buffer_, trailer->footer_bytes);
  trailer = open_footer(bytes, log.seed());
  if (!trailer) return false;
  FooterReader check(*trailer, bytes);
  FooterEntry entry;
  auto next = check.next(entry);
  for (; next && *next; next = check.next(entry)) {
  }
  if (!next) return false;
  FooterReader reader(*trailer, bytes);
  const uint64_t start = log.segment_start(epoch);
  for (next = reader.next(entry); next && *next; next = reader.next(entry)) {
    std::vector<std::byte> head;
    if (entry.header.kind == RecordKind::kHead) {
      head.resize(sizeof(HeadPayload) + entry.head.sequences.size());
      std::memcpy(head.data(), &entry.head.head, sizeof(HeadPayload));
      std::memcpy(head.data() + sizeof(HeadPayload), entry.head.sequences.data(), entry.head.sequences.size());
    }
    take(log, epoch, entry.header, start + uint64_t{entry.header.payload_place} * kPackBytes, head);
  }
  data_end = trailer->data_end_block;
  chain = trailer->last_checksum;
  return true;
}

/// Payloads of an extent against its grain sums.
bool Recovery::verify(Log& log, uint64_t epoch, uint32_t block, const ExtentHeader& extent, base::Bytes header) {
  const uint64_t bytes = extent.extent_bytes;
  void* p = std::aligned_alloc(kBlockBytes, bytes);
  bool ok = p != nullptr && wait(log, log.segment_start(epoch) + uint64_t{block} * kBlockBytes,
                                 static_cast<std::byte*>(p), bytes, false) >= 0;
  RecordReader reader(extent, header);
  RecordView v;
  auto next = reader.next(v);
  for (; ok && next && *next; next = reader.next(v)) {
    if (v.header.grain_count == 0) continue;
    const std::byte* payload = static_cast<std::byte*>(p) + uint64_t{v.header.payload_place} * kPackBytes;
    const uint64_t seed = checksum_seed(v.header.namespace_id, v.key, v.header.chunk_number);
    std::vector<uint64_t> sums(v.header.grain_count);
    base::grain_sums({payload, v.header.payload_bytes}, seed, sums.data());
    for (size_t i = 0; i < sums.size(); ++i) ok = ok && sums[i] == v.grain_sum(i);
  }
  std::free(p);
  return ok && next.ok();
}

void Recovery::take_extent(Log& log, uint64_t epoch, uint32_t block, const ExtentHeader& extent, base::Bytes header,
                           bool open_segment) {
  RecordReader reader(extent, header);
  RecordView v;
  const uint64_t start = log.segment_start(epoch);
  for (auto next = reader.next(v); next && *next; next = reader.next(v)) {
    const uint64_t in_segment = uint64_t{block} * kBlockBytes + uint64_t{v.header.payload_place} * kPackBytes;
    base::Bytes head;
    if (v.header.kind == RecordKind::kHead) head = head_payload(log, start + in_segment, v.header.payload_bytes);
    take(log, epoch, v.header, start + in_segment, head);
    if (!open_segment) continue;
    RecordHeader entry = v.header;
    entry.payload_place = static_cast<uint32_t>(in_segment / kPackBytes);
    log.add_footer_entry(entry, head);
  }
}

/// Behind a broken place of the newest segment: does a later extent say that everything up to here had completed? Then
/// it is rot, not the end.
bool Recovery::torn_is_rot(Log& log, uint64_t epoch, uint32_t block, uint32_t& next) {
  const auto blocks = static_cast<uint32_t>(log.config().slice.segment_bytes / kBlockBytes);
  for (uint32_t at = block + 1; at < blocks;) {
    const uint32_t n = std::min<uint32_t>(blocks - at, static_cast<uint32_t>(buffer_bytes_ / kBlockBytes));
    if (wait(log, log.segment_start(epoch) + uint64_t{at} * kBlockBytes, buffer_, uint64_t{n} * kBlockBytes, false) < 0)
      return false;
    for (uint32_t i = 0; i < n; ++i) {
      const base::Bytes bytes(buffer_ + uint64_t{i} * kBlockBytes, uint64_t{n - i} * kBlockBytes);
      auto peek = peek_extent(bytes);
      if (!peek || peek->epoch != epoch || peek->block_in_segment != at + i || peek->header_bytes > bytes.size())
        continue;
      if (!open_extent(bytes, log.seed())) continue;
      if (Mark{peek->complete_epoch, peek->complete_block}.covers(epoch, block)) {
        next = at + i;
        return true;
      }
    }
    at += n;
  }
  return false;
}

Log::Position Recovery::walk(Log& log, const SegmentHeader& segment, bool newest) {
  struct Extent {
    uint32_t block;
    ExtentHeader extent;
    std::vector<std::byte> header;
  };
  std::vector<Extent> found;
  const uint64_t epoch = segment.epoch;
  const auto blocks = static_cast<uint32_t>(log.config().slice.segment_bytes / kBlockBytes);
  uint64_t chain = segment.checksum;
  uint32_t block = 1;
  bool chained = true;
  Mark mark;
  while (block < blocks) {
    bool good = wait(log, log.segment_start(epoch) + uint64_t{block} * kBlockBytes, buffer_, kBlockBytes, false) >= 0;
    Result<ExtentHeader> extent = good ? peek_extent({buffer_, kBlockBytes}) : Result<ExtentHeader>(Error{Status::kIo});
    uint64_t n = kBlockBytes;
    if (extent && extent->header_bytes > kBlockBytes && extent->header_bytes <= buffer_bytes_) {
      n = extent->header_bytes;
      good = wait(log, log.segment_start(epoch) + uint64_t{block} * kBlockBytes, buffer_, n, false) >= 0;
    }
    if (extent && good) extent = open_extent({buffer_, n}, log.seed());
    const bool in_place = extent && extent->epoch == epoch && extent->block_in_segment == block &&
                          block + extent->extent_bytes / kBlockBytes <= blocks;
    const bool follows = extent && (!chained || extent->previous_checksum == chain);
    if (!extent || (!(in_place && follows) && rules().own_place)) {
      uint32_t next = 0;
      if (torn_is_rot(log, epoch, block, next)) {
        ++s_.counters_.recovered_rot;
        block = next;
        chained = false;
        continue;
      }
      break;
    }
    found.push_back({block, *extent, {buffer_, buffer_ + n}});
    if (extent->complete_epoch > mark.epoch ||
        (extent->complete_epoch == mark.epoch && extent->complete_block > mark.block)) {
      mark = {extent->complete_epoch, extent->complete_block};
    }
    chain = extent->checksum;
    chained = true;
    block += extent->extent_bytes / kBlockBytes;
  }
  Log::Position end;
  end.newest_epoch = epoch;
  end.cursor_block = 1;
  end.chain = segment.checksum;
  for (const Extent& e : found) {
    const base::Bytes header(e.header.data(), e.header.size());
    const bool completed = mark.covers(epoch, e.block) && rules().complete_up_to;
    if (newest && !completed && !verify(log, epoch, e.block, e.extent, header)) {
      ++s_.counters_.recovered_torn;
      if (rules().complete_up_to) break;  // nothing behind it was acknowledged
      continue;
    }
    take_extent(log, epoch, e.block, e.extent, header, newest);
    end.cursor_block = e.block + e.extent.extent_bytes / kBlockBytes;
    end.chain = e.extent.checksum;
  }
  return end;
}

void Recovery::scan_log(Log& log) {
  const std::vector<SegmentHeader> headers = read_segment_headers(log);
  if (headers.empty()) {
    log.start({});
    return;
  }
  // The run of epochs that ends with the newest; a gap drops everything older.
  size_t first = headers.size() - 1;
  const uint64_t oldest = headers.back().oldest_epoch;
  while (first > 0 && headers[first - 1].epoch + 1 == headers[first].epoch && headers[first - 1].epoch >= oldest)
    --first;
  Log::Position position;
  for (size_t i = first; i < headers.size(); ++i) {
    const SegmentHeader& h = headers[i];
    const bool newest = i + 1 == headers.size();
    uint32_t data_end = 0;
    uint64_t chain = 0;
    if (read_footer(log, h.epoch, data_end, chain)) {
      log.set_data_end(h.epoch, data_end);
      position = {h.epoch, headers[first].epoch, data_end, chain, true};
      continue;
    }
    position = walk(log, h, newest);
    log.set_data_end(h.epoch, position.cursor_block);
    position.sealed = !newest;
  }
  position.oldest_epoch = headers[first].epoch;
  log.start(position);
}

// --- all logs
// ---------------------------------------------------------------------------------------------------------

Status Recovery::run() {
  tombs_.resize(s_.logs_.size());
  if (s_.options_.memory_mode) {
    for (auto& log : s_.logs_) {
      if (log) log->start({});
    }
    s_.sequence_end_ = kSequenceMax;
    return Status::kOk;
  }
  buffer_bytes_ = 2 << 20;
  buffer_ = static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, buffer_bytes_));
  const uint64_t anchored = read_anchors();
  for (auto& log : s_.logs_) {
    if (log) scan_log(*log);
  }
  std::free(buffer_);
  buffer_ = nullptr;
  const uint64_t start = rules().sequences_reserved ? std::max(anchored, sequence_max_ + 1) : sequence_max_ + 1;
  s_.sequence_ = std::max<uint64_t>(start, 1);
  s_.sequence_end_ = s_.sequence_ + kSequenceReservation;
  if (!write_anchors(s_.sequence_end_)) return Status::kIo;
  resolve();
  missing_tombstones();
  return Status::kOk;
}

/// The highest sequence of each digest wins, if no tombstone of its own log kills it; then heads claim their chunks.
void Recovery::resolve() {
  // Chunks live and die with the head that names them: an upload may begin before a flush and commit behind it.
  const auto killed = [&](const Found& f) {
    const Tombs& t = tombs_[f.place.drive];
    const Tombs::Tomb* by_namespace = t.of_namespace(f);
    const Tombs::Tomb* by_digest = t.of_digest(f);
    return (by_namespace != nullptr && by_namespace->kills(f)) || (by_digest != nullptr && by_digest->kills(f));
  };
  const auto outlives = [&](const Found& f) {
    const Tombs& t = tombs_[f.place.drive];
    const Tombs::Tomb* by_namespace = t.of_namespace(f);
    const Tombs::Tomb* by_digest = t.of_digest(f);
    return (by_namespace == nullptr || !by_namespace->covers(f)) && (by_digest == nullptr || !by_digest->covers(f));
  };
  const auto behind = [](const Found& f, const Found& other) {
    return f.epoch > other.epoch || (f.epoch == other.epoch && f.place.unit > other.place.unit);
  };
  std::unordered_map<Digest, size_t, DigestHash> winner;
  for (size_t i = 0; i < commits_.size(); ++i) {
    const Found& f = commits_[i];
    if (killed(f)) continue;
    const Digest d{f.header.digest[0], f.header.digest[1]};
    auto [it, fresh] = winner.emplace(d, i);
    if (fresh) continue;
    const Found& other = commits_[it->second];
    const bool newer = f.header.sequence > other.header.sequence ||
                       (f.header.sequence == other.header.sequence && f.epoch > other.epoch);
    if (newer) it->second = i;
  }
  for (const Found& f : commits_) {
    const Digest d{f.header.digest[0], f.header.digest[1]};
    if (killed(f)) {
      if (outlives(f)) missing_.push_back({f.place.drive, d, f.header.sequence + 1});
      continue;
    }
    const Found& best = commits_[winner.at(d)];
    const bool elsewhere = best.place.drive != f.place.drive || behind(f, best);
    if (elsewhere && best.header.sequence > f.header.sequence)
      missing_.push_back({f.place.drive, d, best.header.sequence});
  }
  // Chunks by (digest, number, sequence); of a moved record and its original the younger place.
  std::unordered_map<uint64_t, size_t> chunk_at;
  const auto chunk_key = [](const uint64_t(&digest)[2], uint32_t n, uint64_t sequence) {
    return fold(digest) ^ (sequence * 0xD6E8FEB86659FD93ull) ^ (uint64_t{n} << 40);
  };
  for (size_t i = 0; i < chunks_.size(); ++i) {
    auto [it, fresh] = chunk_at.emplace(
        chunk_key(chunks_[i].header.digest, chunks_[i].header.chunk_number, chunks_[i].header.sequence), i);
    if (!fresh && chunks_[i].epoch > chunks_[it->second].epoch) it->second = i;
  }
  for (const auto& [digest, i] : winner) {
    const Found& f = commits_[i];
    const bool head = f.header.kind == RecordKind::kHead;
    std::vector<std::pair<uint32_t, RecordRef>> parts;
    bool whole = true;
    for (uint32_t n = 0; n < f.chunks.size(); ++n) {
      if (f.chunks[n] == 0) continue;
      const auto it = chunk_at.find(chunk_key(f.header.digest, n, f.chunks[n]));
      whole = whole && it != chunk_at.end();
      if (!whole) break;
      const Found& c = chunks_[it->second];
      parts.emplace_back(n, RecordRef{c.place, c.header.sequence, c.header.checksum, c.header.payload_bytes,
                                      c.header.range_count > 0});
    }
    if (!whole) {  // a chunk is lost: so is the block, and its older versions stay dead
      missing_.push_back({f.place.drive, digest, f.header.sequence + 1});
      continue;
    }
    OpState st;
    st.digest = digest;
    const RecordRef ref{f.place, f.header.sequence, f.header.checksum, f.header.payload_bytes,
                        f.header.range_count > 0};
    s_.install_block(st, ref, head, f.header.namespace_id, f.header.expiry_s, f.block_bytes, parts);
  }
}

/// Rule 4: a loser in another log gets the tombstone that a crash kept from it.
void Recovery::missing_tombstones() {
  size_t left = 0;
  std::vector<Append> appends(missing_.size());
  for (size_t i = 0; i < missing_.size() && rules().dies_where_it_lies; ++i) {
    Log* log = s_.usable_log(missing_[i].drive);
    if (log == nullptr) continue;
    Append& a = appends[i];
    a.header.digest[0] = missing_[i].digest.lo;
    a.header.digest[1] = missing_[i].digest.hi;
    a.header.kind = RecordKind::kTombstone;
    a.header.sequence = missing_[i].sequence;
    a.context = &left;
    a.on_done = [](Append& done) { --*static_cast<size_t*>(done.context); };
    ++left;
    log->append(a);
  }
  while (left > 0) s_.reactor_.run_once(10'000'000);
}

}  // namespace memkv::engine
