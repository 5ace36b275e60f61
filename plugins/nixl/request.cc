/// A request under way.

#include "request.h"

#include <algorithm>
#include <new>

#include "base/clock.h"
#include "log.h"

namespace memkv::nixl {

using Wait = Work::Wait;

namespace {

base::LogLimiter no_memory_logged{1};

}  // namespace

Request::Request(abi::Operation operation, const Options& options, Counters& counters, Driver& driver,
                 LocalMovers& movers)
    : operation_(operation), options_(options), counters_(counters), driver_(driver), movers_(movers) {}

Wait Request::start(Session& session) try {
  canceled_ = out_of_memory_ = false;
  told_ = 0;
  worst_ = abi::Status::kSuccess;
  stage_ = 0;
  std::fill(put_ends_.begin(), put_ends_.end(), PutEnd::kFailed);
  deadline_ns_ = base::SystemClock().now_ns() + options_.timeout_ns(operation_);
  if (!options_.states_timeout()) deadline_ns_ += driver_.allowance_ns();
  const bool read = operation_ == abi::Operation::kRead;
  (read ? counters_.read_requests : counters_.write_requests).add();
  (read ? counters_.read_descriptors : counters_.write_descriptors).add(descriptors_.size());
  if (stages_.empty()) return finish();
  if (!probe_.empty()) return submit(session, probe_, Phase::kProbe);
  return submit_stage(session);
} catch (const std::bad_alloc&) {
  return end_without_memory();
}

void Request::fail_unstarted() {
  canceled_ = false;
  worst_ = abi::Status::kSuccess;
  note(abi::Status::kBackend);
  finish();
}

Wait Request::submit_stage(Session& session) {
  const Stage& stage = plan_.stages[stage_];
  batch_of_op_.clear();
  apart_.clear();
  apart_descriptors_.clear();
  apart_hosts_.clear();
  apart_staged_.clear();
  for (uint32_t i = stage.wire_op_first; i < stage.wire_op_first + stage.wire_op_count; i++)
    starts_staged(i) ? start_staged(session, *staged_[i]) : batch_of_op_.push_back(i);
  return submit(session, stages_[stage_], Phase::kWire);
}

/// An object that was there already stays as it is, and one whose put failed is no object to write to.
Wait Request::submit_ranges(Session& session) {
  const Stage& stage = plan_.stages[stage_];
  begin_choice();
  for (uint32_t i = stage.wire_op_first; i < stage.wire_op_first + stage.wire_op_count; i++) {
    const PutEnd put = *put_end_of(plan_.wire_ops[i].key);
    if (put == PutEnd::kStored) choose(session, i);
    if (put == PutEnd::kPresent) counters_.already_present.add();
  }
  return submit_chosen(session);
}

void Request::begin_choice() {
  chosen_.clear();
  batch_of_op_.clear();
}

void Request::choose(Session& session, uint32_t op) {
  if (starts_staged(op)) return start_staged(session, *staged_[op]);
  add(plan_.wire_ops[op], targets_[op], chosen_);
  batch_of_op_.push_back(op);
}

Wait Request::submit_chosen(Session& session) {
  if (chosen_.empty() && staging_.empty()) return next_stage(session);
  return submit(session, chosen_, Phase::kWire);
}

Wait Request::submit(Session& session, Batch& batch, Phase phase) {
  const uint64_t now = base::SystemClock().now_ns();
  phase_ = phase;
  wire_since_ns_ = now;
  judged_ = 0;
  if (!batch.empty()) {
    ticket_ = session.submit(batch, Deadline(deadline_ns_ > now ? deadline_ns_ - now : 1));
    on_wire_ = true;
  }
  step_staged();
  return waiting();
}

/// Nothing of what was to be sent is under way, but maybe something of what goes through staging.
Wait Request::end_without_memory() {
  log_line_sometimes(no_memory_logged, "transfers fail: there is no memory for them");
  phase_ = Phase::kWire;
  out_of_memory_ = true;
  note(abi::Status::kBackend);
  return staging_.empty() && copying_.empty() ? finish() : Wait::kCopy;
}

/// Ops of a batch that are complete before it do not bring step() about by themselves, nor does anything off the wire.
Wait Request::waiting() const {
  const bool looks_for_ops = phase_ == Phase::kWire && batch_of_op_.size() > 1 && !plan_.copies.empty();
  return on_wire_ && staging_.empty() && copying_.empty() && !looks_for_ops ? Wait::kWire : Wait::kCopy;
}

void Request::start_staged(Session& session, StagedWireOp& staged) {
  staged.start(session, deadline_ns_);
  staging_.push_back(&staged);
}

Wait Request::step(Session& session) {
  if (phase_ == Phase::kIdle) return Wait::kNothing;
  step_wire(session);
  step_staged();
  step_copies();
  if (wire_since_ns_ != 0 && !on_wire_ && staging_.empty()) {
    counters_.wire_ns.add(base::SystemClock().now_ns() - wire_since_ns_);
    wire_since_ns_ = 0;
  }
  const bool quiet = !on_wire_ && staging_.empty() && copying_.empty();
  return quiet ? on_quiet(session) : waiting();
}

void Request::step_wire(Session& session) {
  if (!on_wire_) return;
  const bool done = session.done(ticket_);
  if (phase_ != Phase::kProbe) {
    const auto completed = session.completed(ticket_);
    undone_.clear();
    for (; judged_ < completed.size(); judged_++) {
      const uint32_t op = batch_of_op_[completed[judged_]];
      if (!take_completed(op, session.outcome(ticket_, completed[judged_]))) undone_.push_back(op);
    }
    for (const uint32_t op : undone_) start_staged(session, *staged_[op]);  // ends what `completed` refers to
  }
  if (!done) return;
  session.collect(ticket_, outcomes_);
  on_wire_ = false;
}

/// False: its VRAM could not be reached this time, and nothing was done: it goes through staging.
bool Request::take_completed(uint32_t op, const Outcome& outcome) {
  const bool direct = phase_ == Phase::kWire && direct_[op];
  if (direct && outcome.status == memkv::Status::kUnsupported && !canceled_) return false;
  if (direct && outcome.hit()) counters_.vram_direct_bytes.add(outcome.bytes);
  judge(op, outcome);
  return true;
}

void Request::step_staged() {
  std::erase_if(staging_, [this](StagedWireOp* staged) {
    if (!staged->step()) return false;
    if (staged->outcome().hit()) counters_.vram_staged_bytes.add(staged->outcome().bytes);
    judge(staged->index(), staged->outcome());
    if (staged->cuda_error()) fail_copy(staged->cuda_error());
    return true;
  });
}

void Request::step_copies() {
  std::erase_if(copying_, [this](const CopyJob* job) {
    if (!job->done()) return false;
    on_copied(*job);
    return true;
  });
  if (copy_since_ns_ == 0 || !copying_.empty()) return;
  counters_.copy_ns.add(base::SystemClock().now_ns() - copy_since_ns_);
  copy_since_ns_ = 0;
}

void Request::cancel(Session& session) {
  canceled_ = true;
  if (on_wire_) session.cancel(ticket_);
  for (StagedWireOp* staged : staging_) staged->cancel();
  for (CopyJob* job : copying_) movers_.copier.cancel(*job);
}

/// Nothing is under way any more.
Wait Request::on_quiet(Session& session) try {
  if (out_of_memory_) return finish();
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
Wait Request::on_probed(Session& session) {
  begin_choice();
  size_t asked = 0;
  for (uint32_t i = 0; i < plan_.stages.front().wire_op_count; i++) {
    const bool there = asked < probed_.size() && probed_[asked] == i && outcomes_[asked++].exists;
    if (there) {
      counters_.already_present.add();
      note_put(plan_.wire_ops[i].key, PutEnd::kPresent);
    } else if (!canceled_) {
      choose(session, i);
    }
  }
  return submit_chosen(session);
}

/// What travelled together and failed goes once more, each descriptor alone.
Wait Request::on_fetched(Session& session) {
  if (apart_descriptors_.empty() || canceled_) return next_stage(session);
  batch_of_op_ = apart_hosts_;
  phase_ = Phase::kApart;
  for (StagedWireOp* staged : apart_staged_) start_staged(session, *staged);
  return submit(session, apart_, Phase::kApart);
}

Wait Request::next_stage(Session& session) {
  if (++stage_ >= plan_.stages.size() || canceled_) return finish();
  return mixed_keys_.empty() ? submit_stage(session) : submit_ranges(session);
}

/// The last word: from here on the request may be posted again, or released.
Wait Request::finish() {
  phase_ = Phase::kIdle;
  const abi::Status status = canceled_ ? abi::Status::kCanceled : worst_;
  if (canceled_)
    counters_.canceled_requests.add();
  else if (status != abi::Status::kSuccess)
    counters_.failed_requests.add();
  status_.store(status, std::memory_order_release);
  return Wait::kNothing;
}

/// The source is there, all of it and verified.
void Request::start_copies(const WireOp& op) {
  CopyJob& job = *copies_[static_cast<size_t>(&op - plan_.wire_ops.data())];
  job.copies = plan_.copies_of(op);
  if (copy_since_ns_ == 0) copy_since_ns_ = base::SystemClock().now_ns();
  movers_.copier.start(job) ? on_copied(job) : copying_.push_back(&job);
}

void Request::on_copied(const CopyJob& job) {
  if (job.error()) return fail_copy(job.error());
  if (job.canceled()) return;
  for (const Copy& one : job.copies) {
    counters_.copies.add();
    counters_.copied_bytes.add(one.length);
    counters_.read_bytes.add(one.length);
  }
}

}  // namespace memkv::nixl
