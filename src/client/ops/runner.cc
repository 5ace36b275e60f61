#include "client/ops/runner.h"

#include <algorithm>

#include "base/test_rules.h"
#include "client/ops/call.h"
#include "client/remote/frame.h"

namespace memkv::client {
namespace {

constexpr uint64_t kDrainNs = 3'000'000;            // past its deadline, for a frame to leave
constexpr uint64_t kDrainOneSidedNs = 200'000'000;  // for the server to say that it is done with memory
/// What a server called too late is not worth another try so near its end.
constexpr uint64_t kTooLateNs = 10'000'000;

}  // namespace

Runner::Runner(Machine& machine, OpOwner& owner, Alarm& deadlines)
    : machine_(machine),
      owner_(owner),
      deadlines_(deadlines),
      units_(
          machine, [](io::Timer& timer) { static_cast<Runner*>(timer.context)->on_due(); }, this) {}

void Runner::reserve(size_t ops, size_t units) {
  ops_.reserve(ops);
  units_.reserve(units);
}

void Runner::give_back(Op& op) {
  MEMKV_ASSERT(op.step == Step::kEnded);
  op.reset();
  ops_.give_back(op);
}

// Steps.

void Runner::start(Op& op) {
  MEMKV_ASSERT(op.step == Step::kFree && op.server);
  op.step = Step::kAsking;
  op.outcome.status = Status::kOk;
  follow(op, begin(op));
}

void Runner::end_at_once(Op& op, Status status) {
  MEMKV_ASSERT(op.step == Step::kFree);
  end(op, status);
}

Next Runner::begin(Op& op) {
  switch (op.spec->kind) {
    case Kind::kGet:
      return start_get(units_, op);
    case Kind::kPut:
    case Kind::kWrite:
    case Kind::kRemove:
      return is_upload(op) ? start_upload(units_, op) : start_change(units_, op);
    case Kind::kExists:
    case Kind::kTouch:
    case Kind::kStat:
    case Kind::kPrefetch:
      return start_exists(units_, op);
    case Kind::kFlush:
    case Kind::kStatus:
    case Kind::kList:
      break;
  }
  return start_admin(units_, op);
}

Next Runner::step(Unit& unit, const wire::OpReply& reply, Path from) {
  switch (op_of(unit).spec->kind) {
    case Kind::kGet:
      return on_get_reply(units_, unit, reply);
    case Kind::kPut:
    case Kind::kWrite:
    case Kind::kRemove:
      return is_upload(op_of(unit).step) ? on_upload_reply(units_, unit, reply, from)
                                         : on_change_reply(units_, unit, reply);
    case Kind::kExists:
    case Kind::kTouch:
    case Kind::kStat:
      return on_exists_reply(units_, unit, reply);
    case Kind::kPrefetch:
      return on_prefetch_reply(units_, unit, reply);
    case Kind::kFlush:
    case Kind::kStatus:
    case Kind::kList:
      break;
  }
  return on_admin_reply(units_, unit, reply);
}

/// The op may be over when kWait is said: nothing looks at it then.
void Runner::follow(Op& op, Next next) {
  switch (next.what) {
    case Next::What::kWait:
      return;
    case Next::What::kSend:
      return owner_.on_routed();
    case Next::What::kEnd:
      return end(op, next.status);
    case Next::What::kGiveUp:
      return give_up(op, next.status);
    case Next::What::kRefuse:
      return refuse(op, next.status);
  }
}

bool Runner::feed(Op& op, uint64_t bytes) {
  MEMKV_ASSERT(op.ready_bytes <= bytes && bytes <= op.bytes, "a feed grows, and ends with the pieces");
  op.ready_bytes = bytes;
  if (op.step == Step::kEnded || op.step == Step::kCommit) return false;
  if (op.upload_is_lost())
    restart_upload(units_, op);
  else
    follow(op, Next::wait_unless(route_ready(op)));
  return true;
}

void Runner::route(Unit& unit) {
  if (unit.kind == wire::OpKind::kFlush) return route_flush(units_, unit);
  op_of(unit).server->route(unit);
}

// What servers say.

void Runner::on_reply(Unit& unit, const wire::OpReply& reply, Path from) {
  Op& op = op_of(unit);
  MEMKV_ASSERT(op.step != Step::kEnded && unit.frame == nullptr && unit.queue == nullptr);
  if (try_again(unit, reply)) return;
  if (reply.status == Status::kUnavailable) return refuse(op, reply.status);  // it is stopping
  follow(op, step(unit, reply, from));
}

/// True: it was not now, and the unit is on its way again.
bool Runner::try_again(Unit& unit, const wire::OpReply& reply) {
  Op& op = op_of(unit);
  // The server's time was known badly when the frame was made: by ours the op is not over.
  const bool called_too_late = reply.status == Status::kDeadline && machine_.now_ns() + kTooLateNs < op.deadline_ns;
  const bool fenced = reply.status == Status::kBusy && (reply.flags & wire::kReplyFenced) != 0;
  if (fenced) {
    machine_.counters().fenced.add();  // it goes again, under the present epoch
  } else if (op.spec->kind == Kind::kPrefetch && reply.status != Status::kWrongWorker) {
    return false;  // a hint that comes late is worth little
  } else if (reply.status == Status::kBusy || reply.status == Status::kNotReady) {
    op.last_delay = reply.status;
  } else if (!called_too_late && reply.status != Status::kWrongWorker) {
    return false;
  } else if (is_begun(op.step)) {
    restart_upload(units_, op);
    return true;
  }
  units_.retry_later(unit);
  return true;
}

/// Once more from the start; a second time it is a miss.
void Runner::on_mismatch(Unit& unit) {
  MEMKV_ASSERT(unit.kind == wire::OpKind::kGet);
  if (!std::exchange(unit.mismatched, true)) return units_.retry_later(unit);
  Op& op = op_of(unit);
  wire::OpReply miss;
  miss.status = Status::kMiss;
  follow(op, on_get_reply(units_, unit, miss));
}

void Runner::on_lost(Unit& unit, bool sent) {
  Op& op = op_of(unit);
  MEMKV_ASSERT(unit.frame == nullptr && op.step != Step::kEnded);
  unit.leave_queue();
  const bool upload = is_upload(op.step);
  if (sent && !is_read(op.spec->kind) && (!upload || op.step == Step::kCommit)) {
    units_.drop(unit);
    op.outcome.unreachable = true;
    ClientIdentity& identity = machine_.identity();
    identity.raise_above(identity.epoch.load(std::memory_order_relaxed));  // its frame's, at the latest
    return give_up(op, Status::kUnknown);
  }
  if (op.server->refusal() != Status::kOk) return refuse(op, op.server->refusal());
  if (upload) return restart_upload(units_, op);
  units_.retry_later(unit);
}

/// Where a server cannot be reached a read is a miss and a change is refused: a cache that misses has not failed.
void Runner::refuse(Op& op, Status why) {
  MEMKV_ASSERT(why != Status::kOk && op.step != Step::kFree && op.step != Step::kEnded);
  if (!base::rules().refused_alone) {
    Op* beside = nullptr;
    for (Op& other : op.call->ops) beside = other.server != op.server && is_asking(other.step) ? &other : beside;
    if (beside != nullptr) give_up(*beside, why);
  }
  if (why == Status::kUnavailable) {
    op.outcome.unreachable = true;
    switch (op.spec->kind) {
      case Kind::kGet:
      case Kind::kExists:
      case Kind::kTouch:
      case Kind::kStat:
      case Kind::kPrefetch:
        why = Status::kMiss;
        break;
      case Kind::kPut:
      case Kind::kWrite:
        why = Status::kRefused;
        break;
      default:
        break;
    }
  }
  give_up(op, why);
}

void Runner::on_due() {
  UnitQueue due;
  units_.take_due(due);
  while (Unit* unit = due.front()) {
    unit->leave_queue();
    Op& op = op_of(*unit);
    if (op.upload_is_lost())
      restart_upload(units_, op);
    else
      route(*unit);
  }
  owner_.on_routed();
}

// The end.

void Runner::end(Op& op, Status status) {
  MEMKV_ASSERT(op.units.empty() && op.step != Step::kEnded);
  op.outcome.status = status;
  op.step = Step::kEnded;
  if (op.holds == 0) owner_.on_complete(op);
}

void Runner::on_released(Request& request) {
  Op& op = static_cast<Op&>(request);
  if (op.step == Step::kEnded && op.holds == 0) owner_.on_complete(op);
}

/// True: the op is a change, and a frame with it may have left. Servers are kept from doing it behind what this process
/// sends from now on.
bool Runner::fence_off(const Op& op) {
  if (is_read(op.spec->kind) || op.step == Step::kBegin || op.step == Step::kChunks) return false;
  bool left = false;
  for (const Unit& unit : op.units) {
    if (unit.frame == nullptr || unit.frame->step == RequestFrame::Step::kNeverLeft) continue;
    machine_.identity().raise_above(unit.frame->epoch);
    left = true;
  }
  return left;
}

void Runner::give_up(Op& op, Status status) {
  if (op.step == Step::kEnded) return drain(op);
  const bool changed = fence_off(op);
  if (status == Status::kDeadline) op.outcome.unreachable = op.server->silent_since(op.call->started_ns);
  if (changed)
    status = Status::kUnknown;
  else if (status == Status::kDeadline && op.last_delay != Status::kOk)
    status = op.last_delay;
  if (op.spec->kind == Kind::kGet) op.server->quiet(op);
  while (Unit* unit = op.units.front()) {
    if (unit->frame) op.server->give_up(*unit);
    units_.drop(*unit);
  }
  if (is_begun(op.step) && !changed && !op.upload_is_lost()) op.server->send_abort(op.pinned, op.upload);
  op.outcome.bytes = 0;
  const bool held = op.holds > 0;
  end(op, status);
  if (held) drain(op);
}

/// A frame with the op's memory is in a link's hands: it gets a moment to leave, then the connection is closed.
void Runner::drain(Op& op) {
  MEMKV_ASSERT(op.step == Step::kEnded && op.holds > 0);
  if (op.drain_until_ns != 0) return;
  op.drain_until_ns = machine_.now_ns() + (op.server->confirms_release(op) ? kDrainOneSidedNs : kDrainNs);
  deadlines_.set(op.drain_until_ns);
}

void Runner::end_drain(Op& op) {
  MEMKV_ASSERT(op.step == Step::kEnded);
  op.server->close_holders(op);
  op.drain_until_ns = machine_.now_ns() + kDrainNs;
  deadlines_.set(op.drain_until_ns);
}

}  // namespace memkv::client
