/// Segments of a log: opened with a header, sealed with a footer, freed by reclaim.

#include <cstring>

#include "base/assert.h"
#include "engine/log.h"
#include "io/huge_memory.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kManySegments = 32;
constexpr uint64_t kLowOfMany = 3, kLowOfFew = 2;  // free segments at which reclaim is asked for

}  // namespace

void Log::seal() {
  MEMKV_ASSERT(phase_ == Phase::kOpen);
  phase_ = Phase::kDrain;
  if (extents_.idle()) write_footer();
}

/// All extents of the segment are complete: its footer may say so.
void Log::write_footer() {
  MEMKV_ASSERT(phase_ == Phase::kDrain && extents_.idle());
  if (out()) return;
  segments_.set_data_end(segments_.newest(), extents_.sector());
  if (config_.memory_mode) {
    phase_ = Phase::kNeedSegment;
    need_segment();
    return;
  }
  phase_ = Phase::kFooter;
  format::FooterTrailer t{};
  t.epoch = segments_.newest();
  t.last_checksum = extents_.chain();
  t.data_end_sector = extents_.sector();
  const base::MutBytes bytes = footer_.finish(t, extents_.seed());
  counters_.device_bytes_written += bytes.size();
  const uint64_t end = segments_.place_of(segments_.newest()) + segments_.bytes();
  segment_writes_.footer.start(bytes.data(), bytes.size(), end - bytes.size());
}

void Log::request_reclaim() {
  if (!out()) owner_.on_segment_needed(config_.slice.drive_index);
}

void Log::need_segment() {
  const uint64_t low = segments_.count() >= kManySegments ? kLowOfMany : kLowOfFew;
  if (segments_.free() <= low) request_reclaim();
  if (phase_ != Phase::kNeedSegment) return;  // reclaim freed one and came here already
  // The last free segment is for what reclaim moves, so that reclaim can always end; what finds no room even so goes.
  if (segments_.free() == 0) return finished_.add_all(moves_, Status::kNoSpace);
  if (segments_.free() <= (moves_.empty() ? 1u : 0u)) return;
  open_segment();
}

/// Opens the next segment: extents follow once its header is durable.
void Log::open_segment() {
  const uint64_t chain_before = extents_.chain();
  segments_.open_next();
  footer_.restart();
  if (config_.memory_mode) {
    extents_.begin_segment(chain_before);
    phase_ = Phase::kOpen;
    return;
  }
  phase_ = Phase::kHeader;
  format::SegmentHeader h{};
  std::memcpy(h.store_id, config_.store_id, sizeof h.store_id);
  h.drive_index = config_.slice.drive_index;
  h.shard = config_.shard;
  h.segment_index = static_cast<uint32_t>(segments_.newest() % segments_.count());
  h.format_version = format::kFormatVersion;
  h.epoch = segments_.newest();
  h.oldest_epoch = segments_.oldest();
  h.previous_checksum = chain_before;
  format::seal(h, extents_.seed());
  extents_.begin_segment(h.checksum);
  std::memcpy(header_, &h, sizeof h);
  counters_.device_bytes_written += base::kSectorBytes;
  segment_writes_.header.start(header_, base::kSectorBytes, segments_.place_of(segments_.newest()));
}

/// Nothing live lies there any more. Whoever still refers to its pages goes on seeing what was there.
void Log::free_oldest() {
  const uint64_t oldest = segments_.oldest();
  if (segments_.renews(oldest)) {
    std::byte* pages = device().view(segments_.place_of(oldest), segments_.bytes());
    io::renew_pages({pages, segments_.bytes()}, /*prefault=*/false);
  }
  segments_.free_oldest();
  ++counters_.segments_reclaimed;
  pump();
}

}  // namespace memkv::engine
