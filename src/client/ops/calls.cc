#include "client/ops/calls.h"

#include <algorithm>

#include "base/test_rules.h"

namespace memkv::client {
namespace {

void tell(Call& call, uint32_t index) {
  if (call.completed) call.completed->push_back(index);
}

void count(Counters& counters, const Op& op) {
  const Outcome& outcome = op.outcome;
  counters.ops.add();
  if (outcome.status == Status::kUnknown) counters.unknown.add();
  if (is_failure(outcome.status)) counters.failures.add();
  if (outcome.status == Status::kMiss) counters.misses.add();
  if (outcome.status != Status::kOk) return;
  if (op.spec->kind == Kind::kGet) counters.hits.add(), counters.bytes_read.add(outcome.bytes);
  if (op.spec->kind == Kind::kPut || op.spec->kind == Kind::kWrite) counters.bytes_written.add(outcome.bytes);
}

}  // namespace

Calls::Calls(Machine& machine, const Placement& placement)
    : machine_(machine),
      placement_(placement),
      deadlines_(
          machine, [](io::Timer& timer) { static_cast<Calls*>(timer.context)->on_deadline(); }, this),
      runner_(machine, *this, deadlines_) {}

Calls::~Calls() { MEMKV_ASSERT(calls_.empty(), "destroyed with calls under way"); }

void Calls::shut_down() {
  MEMKV_ASSERT(calls_.empty());
  runner_.shut_down();
  deadlines_.stop();
}

// Calls.

void Calls::submit(Call& call) {
  MEMKV_ASSERT(!call.link.linked() && call.ops.empty() && call.batch && call.outcomes && call.on_done);
  call.started_ns = machine_.now_ns();
  call.canceled = false;
  call.left = call.batch->ops.size() + 1;  // one for this loop
  call.outcomes->assign(call.batch->ops.size(), Outcome{});
  calls_.push_back(call);
  allow_for_bytes(call);
  if (call.batch->ops.size() > kOpsAtOnce) {
    start_in_turn(call);
  } else {
    for (uint32_t i = 0; i < call.batch->ops.size(); i++) {
      if (!call.batch->ops[i].chained || i == 0) start_op(call, i);
    }
  }
  pump();
  op_done(call);
}

void Calls::feed(Call& call, uint32_t index, uint64_t bytes) {
  for (Op& op : call.ops) {
    if (op.index != index) continue;
    if (runner_.feed(op, bytes)) pump();
    return;
  }
}

void Calls::cancel(Call& call) {
  if (!call.link.linked()) return;
  call.canceled = true;
  call.left++;
  end_waiting(call, Status::kCanceled, ~uint64_t{0});
  std::vector<Op*> ops;
  for (Op& op : call.ops) ops.push_back(&op);
  for (Op* op : ops) runner_.give_up(*op, Status::kCanceled);
  op_done(call);
}

void Calls::op_done(Call& call) {
  MEMKV_ASSERT(call.left > 0);
  if (--call.left > 0) return;
  MEMKV_ASSERT(call.ops.empty() && call.waiting == 0 && call.to_start.empty());
  calls_.remove(call);
  MEMKV_ASSERT(weight_ >= call.weight);
  weight_ -= call.weight;
  call.on_done(call);
}

void Calls::pump() {
  for (Turns& turns : servers_) {
    take_turns(turns);
    turns.server->pump();
  }
}

void Calls::on_room(Remote& server) {
  Turns& turns = servers_[server.index()];
  if (turns.lanes.empty()) return;
  take_turns(turns);
  server.pump();
}

// Ops.

void Calls::start_op(Call& call, uint32_t index) {
  Op& op = runner_.take();
  if (!fill_in(op, call, index)) return runner_.end_at_once(op, Status::kInvalid);
  deadlines_.set(op.deadline_ns);
  runner_.start(op);
}

/// False: it cannot be meant.
bool Calls::fill_in(Op& op, Call& call, uint32_t index) {
  const BatchOp& spec = call.batch->ops[index];
  op.call = &call;
  op.spec = &spec;
  op.index = index;
  op.key = call.batch->key_of(spec);
  op.pieces = call.batch->pieces_of(spec);
  op.bytes = total_bytes(op.pieces);
  op.ready_bytes = spec.fed ? 0 : op.bytes;
  op.demanded = spec.if_generation;
  op.deadline_ns = deadline_of(call, spec.kind);
  call.ops.push_back(op);
  const Machine::MemoryOf memory = machine_.memory_of(op.pieces);
  op.gpu = memory == Machine::MemoryOf::kGpu;
  const bool wrong = (spec.invalid && !spec.admin) || memory == Machine::MemoryOf::kMixed;
  if (wrong || spec.offset > wire::kOffsetMax || op.bytes > wire::kOffsetMax - spec.offset ||
      (spec.admin && spec.admin->server >= servers_.size())) {
    return false;
  }
  size_t server = spec.admin ? spec.admin->server : placement_.server_of(op.key);
  if (!base::rules().reads_ask_owner && is_read(spec.kind) && server == servers_.size() - 1) server = 0;
  op.server = servers_[server].server;
  return true;
}

void Calls::on_complete(Op& op) {
  MEMKV_ASSERT(op.step == Step::kEnded && op.units.empty() && op.holds == 0);
  Call& call = *op.call;
  const uint32_t index = op.index;
  const Status status = op.outcome.status;
  count(machine_.counters(), op);
  (*call.outcomes)[index] = op.outcome;
  call.ops.remove(op);
  runner_.give_back(op);
  tell(call, index);
  start_next(call, index, status);
  op_done(call);
}

/// An op without a record: nothing of it has left. What is chained to it ends as well.
void Calls::end_unstarted(Call& call, uint32_t index, Status status) {
  (*call.outcomes)[index].status = status;
  tell(call, index);
  machine_.counters().ops.add();
  machine_.counters().failures.add();
  start_next(call, index, status);
  call.left--;
}

/// What is chained to an op that is done: starts, or is canceled with all that follows it.
void Calls::start_next(Call& call, uint32_t index, Status status) {
  const auto& ops = call.batch->ops;
  for (uint32_t i = index + 1; i < ops.size() && ops[i].chained; i++) {
    if (!is_failure(status) && !call.canceled) {
      call.to_start.push_back(i);
      return call.starting ? void() : start_chained(call);
    }
    status = (*call.outcomes)[i].status = Status::kCanceled;
    tell(call, i);
    machine_.counters().ops.add();
    machine_.counters().failures.add();
    call.left--;
  }
}

/// In a loop: each may be done at once, and a chain may be long.
void Calls::start_chained(Call& call) {
  MEMKV_ASSERT(!call.starting && !call.canceled);
  call.starting = true;
  while (!call.to_start.empty()) {
    const uint32_t index = call.to_start.back();
    call.to_start.pop_back();
    start_op(call, index);
  }
  call.starting = false;
  pump();
}

// Deadlines.

uint64_t Calls::deadline_of(const Call& call, Kind kind) const {
  const Settings& settings = machine_.settings();
  const bool read = kind == Kind::kGet || kind == Kind::kExists || kind == Kind::kStat || kind == Kind::kPrefetch;
  const uint64_t usual = (read ? settings.get_timeout_ns : settings.put_timeout_ns) + call.allowance_ns;
  return call.started_ns + std::min<uint64_t>(call.timeout_ns != 0 ? call.timeout_ns : usual, uint64_t{1} << 60);
}

/// Of its ops that wait for their turn, the first one's that is not due at `now_ns`.
uint64_t Calls::next_expiry_ns(const Call& call, uint64_t now_ns) const {
  const uint64_t read = deadline_of(call, Kind::kGet), change = deadline_of(call, Kind::kPut);
  if (std::min(read, change) > now_ns) return std::min(read, change);
  return std::max(read, change) > now_ns ? std::max(read, change) : ~uint64_t{0};
}

/// Notes what is due; returns when the next of the others is.
uint64_t Calls::find_expired(uint64_t now) {
  uint64_t next = ~uint64_t{0};
  expired_.clear();
  expired_calls_.clear();
  for (Call& call : calls_) {
    if (call.waiting > 0) {
      if (std::min(deadline_of(call, Kind::kGet), deadline_of(call, Kind::kPut)) <= now)
        expired_calls_.push_back(&call);
      next = std::min(next, next_expiry_ns(call, now));
    }
    for (Op& op : call.ops) {
      const uint64_t due = op.drain_until_ns != 0 ? op.drain_until_ns : op.deadline_ns;
      if (due <= now)
        expired_.push_back(&op);
      else
        next = std::min(next, due);
    }
  }
  return next;
}

void Calls::on_deadline() {
  const uint64_t now = machine_.now_ns();
  const uint64_t next = find_expired(now);
  if (next != ~uint64_t{0}) deadlines_.set(next);
  for (Call* call : expired_calls_) end_waiting(*call, Status::kDeadline, now);
  for (Op* op : expired_) {
    if (op->drain_until_ns == 0)
      runner_.give_up(*op, Status::kDeadline);
    else
      runner_.end_drain(*op);
  }
}

}  // namespace memkv::client
