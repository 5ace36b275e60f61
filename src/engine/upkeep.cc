#include "engine/upkeep.h"

#include <algorithm>

namespace memkv::engine {
Upkeep::Upkeep(Parts& parts, Reclaimer& reclaimer, RangeWriter& range_writer)
    : parts_(parts), reclaimer_(reclaimer), range_writer_(range_writer) {
  parts_.tick.set_handler(Then::of<&Upkeep::on_tick>(*this));
}

void Upkeep::on_tick() {
  if (parts_.tick.closing()) return close_step();
  parts_.drives.watch();
  parts_.drives.tell_of_silence();
  parts_.sequences.extend_reservation();
  const bool waiting = look_after_logs();
  parts_.sequences.anchor_logs();
  reclaimer_.start();
  range_writer_.tick(parts_.reactor.now_ns());
  if (waiting || reclaimer_.active() || parts_.pool.used() > 0 || !range_writer_.at_rest())
    parts_.tick.start();
  else
    parts_.drives.forget_lagging();  // nobody looks any more
}

/// True: some log has more to do.
bool Upkeep::look_after_logs() {
  bool waiting = false;
  for (const auto& log : parts_.drives.logs()) {
    if (!log || log->out()) continue;
    log->tick(parts_.reactor.now_ns());
    log->pump();
    waiting |= log->queued_bytes() > 0 || !log->idle() || log->wants_mark() || log->wants_anchor();
  }
  return waiting;
}

void Upkeep::close(StoreOp& op) {
  MEMKV_ASSERT(step_ == Step::kOpen, "a store is closed once");
  step_ = Step::kWaiting;
  closing_ = &op;
  parts_.tick.begin_closing();
  to_be_told_ = parts_.drives.begin_closing();
  parts_.tick.next_step(0);
}

bool Upkeep::at_rest() const {
  const auto logs = parts_.drives.logs();
  return parts_.pool.used() == 0 && !parts_.sequences.anchors_pending() && reclaimer_.at_rest() &&
         range_writer_.at_rest() &&
         std::all_of(logs.begin(), logs.end(), [](const auto& log) { return !log || log->idle(); });
}

/// Each step is over when nothing is in flight any more. What ends brings the next look; without that it comes every
/// tick, for the deadlines of what waits.
void Upkeep::close_step() {
  MEMKV_ASSERT(step_ != Step::kOpen);
  if (step_ == Step::kClosed) return;
  range_writer_.tick(parts_.reactor.now_ns());
  parts_.drives.tell_of_silence();
  if (!at_rest()) return parts_.tick.next_step(kTickNs);
  if (step_ == Step::kAnchoring) {
    step_ = Step::kClosed;
    return parts_.completions.add(*closing_, Status::kOk);
  }
  step_ == Step::kWaiting ? write_marks() : write_anchors();
  parts_.tick.next_step(0);
}

void Upkeep::write_marks() {
  step_ = Step::kMarking;
  for (Log* log : to_be_told_) (void)log->write_mark();
}

void Upkeep::write_anchors() {
  step_ = Step::kAnchoring;
  for (Log* log : to_be_told_) {
    if (log->wants_anchor()) parts_.sequences.write_anchor(*log);
  }
}

}  // namespace memkv::engine
