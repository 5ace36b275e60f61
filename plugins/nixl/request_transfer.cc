#include "request_transfer.h"

#include <algorithm>
#include <new>

#include "base/assert.h"
#include "base/clock.h"
#include "log.h"

namespace memkv::nixl {

using Wait = Work::Wait;

namespace {

base::LogLimiter no_memory_logged{1};

}  // namespace

void RequestTransfer::prepare() {
  wire_.reserve(plan_.wire_op_count());
  undone_.reserve(plan_.wire_op_count());
  staging_.reserve(plan_.wire_op_count());
  copying_.reserve(plan_.wire_op_count());
}

Wait RequestTransfer::start(Session& session, uint64_t deadline_ns) try {
  MEMKV_ASSERT(is_idle(), "one post at a time");
  out_of_memory_ = false;
  stage_ = 0;
  deadline_ns_ = deadline_ns;
  if (plan_.stages().empty()) return end();
  if (!plan_.probe().empty()) return submit(session, plan_.probe(), Phase::kProbe);
  return submit_stage(session);
} catch (const std::bad_alloc&) {
  return end_without_memory();
}

Wait RequestTransfer::submit_stage(Session& session) {
  const Stage& stage = plan_.stages()[stage_];
  wire_.clear();
  apart_.clear();
  for (uint32_t i = stage.wire_op_first; i < stage.wire_op_first + stage.wire_op_count; i++)
    plan_.starts_staged(i) ? start_staged(session, plan_.staged(i)) : wire_.push_back(i);
  return submit(session, plan_.batch_of_stage(stage_), Phase::kWire);
}

/// An object that was there already stays as it is, and one whose put failed is no object to write to.
Wait RequestTransfer::submit_ranges(Session& session) {
  const Stage& stage = plan_.stages()[stage_];
  begin_choice();
  for (uint32_t i = stage.wire_op_first; i < stage.wire_op_first + stage.wire_op_count; i++) {
    const auto put = outcome_.put_end(plan_.wire_op(i).key);
    if (put == RequestOutcome::PutEnd::kStored) choose(session, i);
    if (put == RequestOutcome::PutEnd::kPresent) outcome_.note_present(i);
  }
  return submit_chosen(session);
}

void RequestTransfer::begin_choice() {
  chosen_.clear();
  wire_.clear();
}

void RequestTransfer::choose(Session& session, uint32_t op) {
  if (plan_.starts_staged(op)) return start_staged(session, plan_.staged(op));
  plan_.add(op, chosen_);
  wire_.push_back(op);
}

Wait RequestTransfer::submit_chosen(Session& session) {
  if (chosen_.empty() && staging_.empty()) return next_stage(session);
  return submit(session, chosen_, Phase::kWire);
}

Wait RequestTransfer::submit(Session& session, Batch& batch, Phase phase) {
  const uint64_t now = base::SystemClock().now_ns();
  phase_ = phase;
  wire_since_ns_ = now;
  if (!batch.empty()) wire_.submit(session, batch, Deadline(deadline_ns_ > now ? deadline_ns_ - now : 1));
  step_staged();
  return waiting();
}

/// Nothing of what was to be sent is under way, but maybe something of what goes through staging.
Wait RequestTransfer::end_without_memory() {
  log_line_sometimes(no_memory_logged, "transfers fail: there is no memory for them");
  phase_ = Phase::kWire;
  out_of_memory_ = true;
  outcome_.note(abi::Status::kBackend);
  return staging_.empty() && copying_.empty() ? end() : Wait::kCopy;
}

/// Ops of a batch that are complete before it do not bring step() about by themselves, nor does anything off the wire.
Wait RequestTransfer::waiting() const {
  const bool looks_for_ops = phase_ == Phase::kWire && wire_.size() > 1 && plan_.has_copies();
  return wire_.on_wire() && staging_.empty() && copying_.empty() && !looks_for_ops ? Wait::kWire : Wait::kCopy;
}

void RequestTransfer::start_staged(Session& session, StagedWireOp& staged) {
  staged.start(session, deadline_ns_);
  staging_.push_back(&staged);
}

Wait RequestTransfer::step(Session& session) {
  step_wire(session);
  step_staged();
  step_copies();
  if (wire_since_ns_ != 0 && !wire_.on_wire() && staging_.empty()) {
    counters_.wire_ns.add(base::SystemClock().now_ns() - wire_since_ns_);
    wire_since_ns_ = 0;
  }
  const bool quiet = !wire_.on_wire() && staging_.empty() && copying_.empty();
  return quiet ? on_quiet(session) : waiting();
}

void RequestTransfer::step_wire(Session& session) {
  if (!wire_.on_wire()) return;
  const bool done = wire_.done(session);
  if (phase_ != Phase::kProbe) {
    undone_.clear();
    wire_.take_completed(session, [this](uint32_t op, const Outcome& outcome) {
      if (!take_completed(op, outcome)) undone_.push_back(op);
    });
    for (const uint32_t op : undone_) start_staged(session, plan_.staged(op));
  }
  if (done) wire_.collect(session);
}

/// False: its VRAM could not be reached this time, and nothing was done: it goes through staging.
bool RequestTransfer::take_completed(uint32_t op, const Outcome& outcome) {
  const bool direct = phase_ == Phase::kWire && plan_.is_direct(op);
  if (direct && outcome.status == memkv::Status::kUnsupported && !outcome_.canceled()) return false;
  if (direct && outcome.hit()) counters_.vram_direct_bytes.add(outcome.bytes);
  judge(op, outcome);
  return true;
}

void RequestTransfer::step_staged() {
  std::erase_if(staging_, [this](StagedWireOp* staged) {
    if (!staged->step()) return false;
    if (staged->outcome().hit()) counters_.vram_staged_bytes.add(staged->outcome().bytes);
    judge(staged->index(), staged->outcome());
    if (staged->cuda_error()) outcome_.note_failed_copy(staged->cuda_error());
    return true;
  });
}

void RequestTransfer::step_copies() {
  std::erase_if(copying_, [this](const CopyJob* job) {
    if (!job->done()) return false;
    on_copied(*job);
    return true;
  });
  if (copy_since_ns_ == 0 || !copying_.empty()) return;
  counters_.copy_ns.add(base::SystemClock().now_ns() - copy_since_ns_);
  copy_since_ns_ = 0;
}

/// `op`: a wire operation, or the descriptor that was read apart.
void RequestTransfer::judge(uint32_t op, const Outcome& outcome) {
  if (phase_ == Phase::kApart) return outcome_.judge_apart(op, outcome);
  switch (outcome_.judge(op, outcome)) {
    case RequestOutcome::Next::kCopies:
      return start_copies(op);
    case RequestOutcome::Next::kApart:
      return take_apart(op);
    case RequestOutcome::Next::kNothing:
      return;
  }
}

void RequestTransfer::take_apart(uint32_t op) try { apart_.take(op); } catch (const std::bad_alloc&) {
  outcome_.note(abi::Status::kBackend);  // those that were not taken are not known to be missing
}

void RequestTransfer::start_copies(uint32_t op) {
  CopyJob& job = plan_.copy_job(op);
  job.copies = plan_.copies_of(op);
  if (copy_since_ns_ == 0) copy_since_ns_ = base::SystemClock().now_ns();
  movers_.copier.start(job) ? on_copied(job) : copying_.push_back(&job);
}

void RequestTransfer::on_copied(const CopyJob& job) {
  if (job.error()) return outcome_.note_failed_copy(job.error());
  if (!job.canceled()) outcome_.note_copied(job.copies);
}

void RequestTransfer::cancel(Session& session) {
  wire_.cancel(session);
  for (StagedWireOp* staged : staging_) staged->cancel();
  for (CopyJob* job : copying_) movers_.copier.cancel(*job);
}

/// Nothing is under way any more.
Wait RequestTransfer::on_quiet(Session& session) try {
  if (out_of_memory_) return end();
  switch (phase_) {
    case Phase::kProbe:
      return on_probed(session);
    case Phase::kWire:
      return on_fetched(session);
    default:
      return next_stage(session);
  }
} catch (const std::bad_alloc&) {
  return end_without_memory();
}

/// Sends only what is not there. A question that failed counts as no: the write itself asks once more.
Wait RequestTransfer::on_probed(Session& session) {
  const auto probed = plan_.probed();
  const auto answers = wire_.outcomes();
  begin_choice();
  size_t asked = 0;
  for (uint32_t i = 0; i < plan_.stages().front().wire_op_count; i++) {
    const bool there = asked < probed.size() && probed[asked] == i && answers[asked++].exists;
    if (there) {
      outcome_.note_present(i);
    } else if (!outcome_.canceled()) {
      choose(session, i);
    }
  }
  return submit_chosen(session);
}

/// What travelled together and failed goes once more, each descriptor alone.
Wait RequestTransfer::on_fetched(Session& session) {
  if (apart_.empty() || outcome_.canceled()) return next_stage(session);
  wire_.assign(apart_.descriptors_of_batch());
  phase_ = Phase::kApart;
  for (StagedWireOp* staged : apart_.staged()) start_staged(session, *staged);
  return submit(session, apart_.batch(), Phase::kApart);
}

Wait RequestTransfer::next_stage(Session& session) {
  if (++stage_ >= plan_.stages().size() || outcome_.canceled()) return end();
  return plan_.mixed_key_count() == 0 ? submit_stage(session) : submit_ranges(session);
}

Wait RequestTransfer::end() {
  phase_ = Phase::kIdle;
  return Wait::kNothing;
}

}  // namespace memkv::nixl
