/// Segments of a log: opened with a header, sealed with a footer.

#include <cstring>

#include "base/assert.h"
#include "engine/log.h"
#include "engine/test_rules.h"

namespace memkv::engine {

void Log::seal() {
  MEMKV_ASSERT(phase_ == Phase::kOpen);
  phase_ = Phase::kDrain;
  if (in_flight_ == 0) write_footer();
}

/// All extents of the segment are complete: its footer may say so.
void Log::write_footer() {
  if (out_ || stopped_) return;
  segment_of(newest_).data_end = cursor_;
  if (config_.memory_mode) {
    phase_ = Phase::kNeedSegment;
    need_segment();
    return;
  }
  phase_ = Phase::kFooter;
  format::FooterTrailer t{};
  t.epoch = newest_;
  t.last_checksum = chain_;
  t.data_end_sector = cursor_;
  t.sequence_max = sequence_max_;
  const base::Bytes bytes = footer_->finish(t, seed_);
  std::memcpy(footer_sector_, bytes.data(), bytes.size());
  footer_write_.piece = {footer_sector_, bytes.size()};
  footer_write_.io.on_done = on_footer;
  footer_write_.io.context = this;
  footer_write_.offset = segment_start(newest_) + config_.slice.segment_bytes - bytes.size();
  counters_.device_bytes_written += bytes.size();
  start_write(footer_write_);
}

void Log::on_footer(io::IoOp& op, int32_t result) {
  Log& log = *static_cast<Log*>(op.context);
  // Without its footer the segment is walked at recovery: slower, not lost.
  if (result < 0 && !log.refuses_instead(result) && log.errors_ >= kErrorsMax)
    return log.fail("its footers cannot be written");
  log.marked_ = log.marked_ || result >= 0;
  log.phase_ = Phase::kNeedSegment;
  log.pump();
}

void Log::request_reclaim() {
  if (!out_ && !stopped_) owner_.on_segment_needed(config_.slice.drive_index);
}

void Log::need_segment() {
  const uint64_t free = free_segments();
  const uint64_t low = segments() >= 32 ? 3 : 2;
  if (free <= low) request_reclaim();
  if (phase_ != Phase::kNeedSegment) return;  // reclaim freed one and came here already
  // The last free segment is for what reclaim moves, so that reclaim can always end; what finds no room even so goes.
  if (free_segments() == 0) return fail_queue(moves_, Status::kNoSpace);
  if (free_segments() <= (moves_.empty() ? 1u : 0u)) return;
  write_header();
}

/// Opens the next segment: extents follow once its header is durable.
void Log::write_header() {
  ++newest_;
  cursor_ = 1;
  segment_of(newest_) = {};
  marked_ = true;  // nothing is in it
  note_sector_ = 0;
  footer_ = std::make_unique<format::FooterBuilder>(base::MutBytes(footer_memory_.get(), footer_capacity_));
  footer_used_ = 0;
  sequence_max_ = 0;
  if (config_.memory_mode) {
    phase_ = Phase::kOpen;
    return;
  }
  phase_ = Phase::kHeader;
  format::SegmentHeader h{};
  std::memcpy(h.store_id, config_.store_id, sizeof h.store_id);
  h.drive_index = config_.slice.drive_index;
  h.shard = config_.shard;
  h.segment_index = static_cast<uint32_t>(newest_ % segments_.size());
  h.format_version = format::kFormatVersion;
  h.epoch = newest_;
  h.oldest_epoch = oldest_;
  h.previous_checksum = chain_;
  format::seal(h, seed_);
  chain_ = h.checksum;
  std::memcpy(header_sector_, &h, sizeof h);
  header_write_.piece = {header_sector_, base::kSectorBytes};
  header_write_.io.on_done = on_header;
  header_write_.io.context = this;
  header_write_.offset = segment_start(newest_);
  counters_.device_bytes_written += base::kSectorBytes;
  start_write(header_write_);
}

void Log::on_header(io::IoOp& op, int32_t result) {
  Log& log = *static_cast<Log*>(op.context);
  if (result < 0) {
    if (log.refuses_instead(result)) return;  // pump() comes again
    if (log.errors_ >= kErrorsMax) return log.fail("its segment headers cannot be written");
    return log.start_write(log.header_write_);
  }
  format::SegmentHeader written;
  std::memcpy(&written, log.header_sector_, sizeof written);
  log.takes_writes_again();
  log.header_oldest_ = written.oldest_epoch;
  log.update_durable_oldest();
  log.complete_epoch_ = log.newest_;
  log.complete_sector_ = 1;
  log.phase_ = Phase::kOpen;
  log.pump();
}

}  // namespace memkv::engine
