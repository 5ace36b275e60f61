#include "engine/ops/flush.h"

#include <memory>

#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

/// The tombstone in one log.
struct LogTombstone : Append {
  Flush* flush = nullptr;
  uint8_t drive = 0;
};

}  // namespace

void Flush::start(Parts& parts, RangeWriter& writer, FlushOp& op) {
  Flush* flush = parts.pool.make<Flush>(op, parts, writer, op);
  if (flush == nullptr) return;
  parts.tick.start();
  const Status no = flush->refusal();
  no == Status::kOk ? flush->append_to_logs() : flush->finish(no);
}

void Flush::append_to_logs() {
  MEMKV_ASSERT(step_ == Step::kStarted);
  step_ = Step::kAppending;
  const uint64_t sequence = parts_.sequences.next();
  parts_.blocks.begin_flush(flush_.namespace_id, sequence);
  writer_.flushed(flush_.namespace_id);
  flush_.generation = sequence;
  unanswered_ = 1;
  for (const auto& log : parts_.drives.logs()) {
    if (!log || log->out()) continue;
    if (!rules().flushes_everywhere && unanswered_ > 1) break;
    auto* a = new LogTombstone;  // rare
    a->flush = this;
    a->drive = log->config().slice.drive_index;
    a->header.kind = format::RecordKind::kFlush;
    a->header.namespace_id = flush_.namespace_id;
    a->header.sequence = sequence;
    a->on_done = on_tombstone;
    ++unanswered_;
    log->append(*a);
  }
  parts_.blocks.drop_flushed(flush_.namespace_id, sequence);
  log_answered();
}

void Flush::on_tombstone(Append& tombstone) {
  const std::unique_ptr<LogTombstone> done(static_cast<LogTombstone*>(&tombstone));
  Flush& flush = *done->flush;
  // A log that went out meanwhile needs no tombstone.
  const bool left = done->status == Status::kIo && flush.parts_.drives.usable_log(done->drive) == nullptr;
  if (done->status != Status::kOk && !left) flush.status_ = done->status;
  flush.log_answered();
}

void Flush::log_answered() {
  MEMKV_ASSERT(step_ == Step::kAppending && unanswered_ > 0);
  if (--unanswered_ > 0) return;
  if (status_ == Status::kOk) parts_.blocks.end_flush(flush_.namespace_id, flush_.generation);
  finish(status_);
}

}  // namespace memkv::engine
