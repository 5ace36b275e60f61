/// The part of LogScan that reads extents.

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/checksum.h"
#include "engine/log_scan.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

constexpr int kReadTries = 3;

/// A small record leaves most of its extent's header empty, and a walk keeps the headers of a whole segment.
std::vector<std::byte> without_zeros(const format::ExtentHeader& header, base::Bytes bytes) {
  size_t records = sizeof(format::ExtentHeader);
  format::RecordReader reader(header, bytes);
  format::RecordView v;
  auto next = reader.next(v);
  for (; next && *next; next = reader.next(v))
    records += format::record_header_bytes(v.header.key_bytes, v.header.grain_count, v.header.range_count);
  const size_t note = size_t{8} * header.note_words;
  if (!next || records + note > bytes.size()) records = bytes.size() - std::min(note, bytes.size());
  std::vector<std::byte> out;
  out.reserve(records + note);
  out.assign(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(records));
  out.insert(out.end(), bytes.end() - static_cast<ptrdiff_t>(std::min(note, bytes.size())), bytes.end());
  return out;
}

}  // namespace

// --- extents ---------------------------------------------------------------------------------------------------------

/// `early`: what was read ahead will do.
std::optional<LogScan::Extent> LogScan::read_extent(uint64_t epoch, uint32_t sector, bool early) {
  const auto get = [&](uint64_t bytes) {
    early ? reads_.look(log_.segments().place_of_sector(epoch, sector), window_, bytes)
          : reads_.read(log_.segments().place_of_sector(epoch, sector), window_, bytes);
  };
  get(base::kSectorBytes);
  auto header = format::peek_extent({window_, base::kSectorBytes});
  if (!header || header->header_bytes > kWindowBytes || header->header_bytes / base::kSectorBytes > sectors_ - sector)
    return {};
  if (header->header_bytes > base::kSectorBytes) get(header->header_bytes);
  header = format::open_extent({window_, header->header_bytes}, log_.extents().seed());
  if (!header) return {};
  const bool in_place = header->epoch == epoch && header->sector_in_segment == sector &&
                        header->extent_bytes / base::kSectorBytes <= sectors_ - sector;
  if (!in_place && rules().own_place) return {};
  return Extent{sector, *header, without_zeros(*header, {window_, header->header_bytes})};
}

std::vector<std::byte> LogScan::Extent::whole_header() const {
  const size_t note = std::min<size_t>(size_t{8} * header.note_words, bytes.size());
  const auto note_begin = bytes.end() - static_cast<ptrdiff_t>(note);
  std::vector<std::byte> whole(header.header_bytes);
  MEMKV_ASSERT(bytes.size() <= whole.size());
  std::copy(bytes.begin(), note_begin, whole.begin());
  std::copy(note_begin, bytes.end(), whole.end() - static_cast<ptrdiff_t>(note));
  return whole;
}

/// Of an extent that may lie there: 1 where its first block does not say.
uint32_t LogScan::header_sectors_at(uint64_t epoch, uint32_t sector) {
  reads_.read(log_.segments().place_of_sector(epoch, sector), window_, base::kSectorBytes);
  const auto header = format::peek_extent({window_, base::kSectorBytes});
  return header ? std::clamp<uint32_t>(header->header_bytes / base::kSectorBytes, 1, sectors_ - sector) : 1;
}

LogScan::Walk LogScan::begin_walk(const Segment& segment) const {
  Walk w;
  w.mark = complete_;
  w.chain = segment.header.checksum;
  w.end = first_sector(segment.epoch);
  w.chained = segment.has_header && w.end == 1;
  return w;
}

/// `chain_end`: the last header's checksum, where one knows it.
LogScan::Walk LogScan::walk(const Segment& segment, const uint64_t* chain_end) {
  Walk w = begin_walk(segment);
  while (walk_on(segment.epoch, chain_end, w)) {
  }
  return w;
}

/// To the next extent. False: there is none.
bool LogScan::walk_on(uint64_t epoch, const uint64_t* chain_end, Walk& w) {
  if (w.end >= sectors_) return false;
  if (chain_end != nullptr && w.chained && w.chain == *chain_end && rules().own_place) return false;
  auto extent = read_extent(epoch, w.end, /*early=*/w.holes.empty());
  for (int i = 1; i < kReadTries && !extent; ++i) extent = read_extent(epoch, w.end);  // a read can come wrong once
  const bool follows = extent && (!w.chained || extent->header.previous_checksum == w.chain);
  if (!extent || (!follows && rules().own_place)) {
    const auto next = find_next(epoch, w.end);
    w.unreadable =
        !next && reads_.cannot_read(log_.segments().place_of_sector(epoch, w.end),
                                    log_.segments().place_of_sector(epoch, w.end + header_sectors_at(epoch, w.end)));
    if (!next) return false;
    w.holes.push_back({w.end, w.extents.size()});
    w.end = *next;
    w.chained = false;
    return true;
  }
  w.mark.raise(extent->header.complete_epoch, extent->header.complete_sector);
  w.chain = extent->header.checksum;
  w.chained = true;
  w.end = extent->end();
  w.extents.push_back(std::move(*extent));
  return true;
}

/// Behind a broken place: does a later extent say that everything up to here had completed? Then it is rot, not the
/// end, and the log goes on with the first extent from which an unbroken chain leads to that one.
std::optional<uint32_t> LogScan::find_next(uint64_t epoch, uint32_t sector) {
  std::vector<Extent> later;
  for (uint32_t at = sector + 1; at < sectors_;) {
    const uint32_t n = std::min<uint32_t>(sectors_ - at, static_cast<uint32_t>(kWindowBytes / base::kSectorBytes));
    const Sectors stretch = make_sectors(uint64_t{n} * base::kSectorBytes);
    reads_.read(log_.segments().place_of_sector(epoch, at), stretch.get(), uint64_t{n} * base::kSectorBytes);
    for (uint32_t i = 0; i < n; ++i) {
      const auto peek = format::peek_extent({stretch.get() + uint64_t{i} * base::kSectorBytes, base::kSectorBytes});
      if (!peek || peek->epoch != epoch || peek->sector_in_segment != at + i) continue;
      auto extent = read_extent(epoch, at + i);
      if (!extent) continue;
      later.push_back(std::move(*extent));
      const format::ExtentHeader& h = later.back().header;
      if (!Mark{h.complete_epoch, h.complete_sector}.covers(epoch, sector)) continue;
      size_t first = later.size() - 1;
      while (first > 0 && later[first - 1].end() == later[first].sector &&
             later[first - 1].header.checksum == later[first].header.previous_checksum) {
        --first;
      }
      return later[first].sector;
    }
    at += n;
  }
  return {};
}

/// Payloads of an extent against its grain sums.
bool LogScan::verify(uint64_t epoch, const Extent& extent) {
  const Sectors memory = make_sectors(extent.header.extent_bytes);
  reads_.read(log_.segments().place_of_sector(epoch, extent.sector), memory.get(), extent.header.extent_bytes);
  const std::vector<std::byte> header = extent.whole_header();
  format::RecordReader reader(extent.header, header);
  format::RecordView v;
  bool ok = true;
  auto next = reader.next(v);
  for (; ok && next && *next; next = reader.next(v)) {
    const std::byte* payload = memory.get() + uint64_t{v.header.payload_place} * format::kPackBytes;
    const uint64_t seed = checksum_seed(v.header.namespace_id, v.key, v.header.chunk_number);
    std::vector<uint64_t> sums(v.header.grain_count);
    if (v.header.grain_count != 0) base::grain_sums({payload, v.header.payload_bytes}, seed, sums.data());
    for (size_t i = 0; i < sums.size(); ++i) ok = ok && sums[i] == v.grain_sum(i);
  }
  return ok && next.ok();
}

void LogScan::take(uint64_t epoch, const Extent& extent, bool open_segment) {
  const std::vector<std::byte> header = extent.whole_header();
  format::RecordReader reader(extent.header, header);
  format::RecordView v;
  const uint64_t start = log_.segments().place_of(epoch);
  for (auto next = reader.next(v); next && *next; next = reader.next(v)) {
    const uint64_t in_segment =
        uint64_t{extent.sector} * base::kSectorBytes + uint64_t{v.header.payload_place} * format::kPackBytes;
    std::vector<std::byte> head;
    if (v.header.kind == format::RecordKind::kHead) head = head_payload(start + in_segment, v);
    recovery_.take(log_, epoch, v.header, start + in_segment, head);
    if (!open_segment) continue;
    format::RecordHeader entry = v.header;
    if (entry.kind == format::RecordKind::kHead && head.empty()) {  // the footer has no place for half a head
      entry.kind = format::RecordKind::kTombstone;
      ++entry.sequence;
      entry.payload_bytes = entry.grain_count = 0;
      entry.range_count = 0;
    }
    entry.payload_place = static_cast<uint32_t>(in_segment / format::kPackBytes);
    log_.add_footer_entry(entry, head);
  }
}

/// Empty: it is damaged.
std::vector<std::byte> LogScan::head_payload(uint64_t offset, const format::RecordView& record) {
  const uint64_t start = base::align_down(offset, base::kSectorBytes);
  const uint64_t bytes = base::align_up(offset + record.header.payload_bytes, base::kSectorBytes) - start;
  const Sectors memory = make_sectors(bytes);
  reads_.read(start, memory.get(), bytes);
  const std::byte* from = memory.get() + (offset - start);
  const uint64_t seed = checksum_seed(record.header.namespace_id, record.key, record.header.chunk_number);
  std::vector<uint64_t> sums(record.header.grain_count);
  base::grain_sums({from, record.header.payload_bytes}, seed, sums.data());
  bool good = true;
  for (size_t i = 0; i < sums.size(); ++i) good = good && sums[i] == record.grain_sum(i);
  if (good) return {from, from + record.header.payload_bytes};
  ++recovery_.counters().recovered_rot;
  return {};
}

}  // namespace memkv::engine
