/// Calls, deadlines, retries. What replies mean stands in context_ops.cc.

#include "client/context.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "client/rdma_host.h"
#include "transport/rdma/poller.h"

namespace memkv::client {
namespace {

constexpr uint64_t kDrainNs = 3'000'000;  // past its deadline, for a frame to leave
constexpr uint64_t kTickNs = 50'000'000;
constexpr uint64_t kRetryNsMin = 50'000, kRetryNsMax = 5'000'000;
constexpr uint64_t kDrainOneSidedNs = 200'000'000;  // for the server to say that it is done with memory
constexpr uint32_t kReactorOpsMax = 65536;
/// For memory that is not registered. When none is free, payloads go through the stream.
constexpr io::SlotClass kStaging[] = {{64u << 10, 32}, {256u << 10, 16}, {2u << 20, 12}};

std::vector<std::string> names_of(const Settings& settings) {
  std::vector<std::string> names;
  for (const ServerAddress& server : settings.servers) names.push_back(server.name);
  return names;
}

uint64_t random_seed() {
  uint64_t seed = 0;
  base::os_random(base::mut_bytes_of(&seed, sizeof seed));
  return seed;
}

}  // namespace

void Counters::add_to(ClientCounters& sum) const {
  sum.ops += ops.value();
  sum.hits += hits.value();
  sum.misses += misses.value();
  sum.failures += failures.value();
  sum.unknown += unknown.value();
  sum.retries += retries.value();
  sum.bytes_read += bytes_read.value();
  sum.bytes_written += bytes_written.value();
  sum.corrupt += corrupt.value();
  sum.connects += connects.value();
  sum.breaker_opened += breaker_opened.value();
  sum.staged_bytes += staged_bytes.value();
  sum.transport_switches += transport_switches.value();
  sum.fenced += fenced.value();
}

Context::Context(const Settings& settings)
    : settings_(settings),
      identity_(settings.identity != nullptr ? *settings.identity : process_identity()),
      placement_(names_of(settings)),
      random_(random_seed()) {
  deadline_timer_.context = retry_timer_.context = tick_timer_.context = this;
  deadline_timer_.on_done = [](io::Timer& timer) { static_cast<Context*>(timer.context)->on_deadline(); };
  retry_timer_.on_done = [](io::Timer& timer) { static_cast<Context*>(timer.context)->on_retry(); };
  tick_timer_.on_done = [](io::Timer& timer) { static_cast<Context*>(timer.context)->on_tick(); };
}

Result<std::unique_ptr<Context>, Message> Context::make(const Settings& settings) {
  auto reactor =
      io::make_epoll_reactor({.kind = io::ReactorKind::kEpoll, .ops_max = kReactorOpsMax, .device_threads = 0});
  if (!reactor) {
    const Error& error = reactor.error();
    const char* hint = error.sys_errno == EMFILE || error.sys_errno == ENFILE ? ": see ulimit -n" : "";
    return Message{error.status, std::string("the client cannot open its event loop: ") + error.what + ": " +
                                     std::strerror(error.sys_errno) + hint};
  }
  return make(settings, std::move(*reactor));
}

Result<std::unique_ptr<Context>, Message> Context::make(const Settings& settings,
                                                        std::unique_ptr<io::Reactor> reactor) {
  std::unique_ptr<Context> context(new Context(settings));
  if (auto opened = context->open(std::move(reactor)); !opened) return opened.error();
  return context;
}

Result<void, Message> Context::open(std::unique_ptr<io::Reactor> reactor) {
  reactor_ = std::move(reactor);
  reactor_->set_on_wake([](void* self) { static_cast<Context*>(self)->on_wake(); }, this);
  open_rdma();
  if (settings_.transport == Transport::kRdma && !rdma_) {
    return Message{Status::kInvalid, "transport rdma: " + why_no_rdma_};
  }
  for (size_t i = 0; i < settings_.servers.size(); i++) {
    servers_.push_back(std::make_unique<RemoteServer>(*this, i, settings_.servers[i]));
  }
  return {};
}

/// Where it may be used: the failure is a reason against it, and no more.
void Context::open_rdma() {
  const bool wanted = settings_.transport == Transport::kAuto || settings_.transport == Transport::kRdma;
  if (!wanted) return;
  auto host = shared_rdma_host(settings_.rdma_devices);
  if (!host) {
    why_no_rdma_ = host.error().text;
    return;
  }
  rdma_host_ = std::move(*host);
  transport::rdma::Poller::Options options;
  options.staging.assign(std::begin(kStaging), std::end(kStaging));
  options.staged_bytes = &counters_.staged_bytes;
  auto poller = transport::rdma::Poller::make(*reactor_, *rdma_host_, options);
  if (poller) {
    rdma_ = std::move(*poller);
  } else {
    why_no_rdma_ = poller.error().text;
    rdma_host_.reset();
  }
}

size_t Context::rail_count() const { return rdma_ ? rdma_host_->rail_count() : 0; }

Context::~Context() {
  MEMKV_ASSERT(calls_.empty(), "destroyed with calls under way");
  if (reactor_) reactor_->adopt();  // timers of what is destroyed now are stopped from here
}

void Context::set_on_wake(void (*fn)(void*), void* context) {
  on_wake_ = fn;
  on_wake_context_ = context;
}

void Context::on_wake() {
  for (const auto& server : servers_) server->on_resolved();
  if (on_wake_) on_wake_(on_wake_context_);
}

void Context::shut_down() {
  stopping_ = true;
  while (Call* call = calls_.front()) {
    cancel(*call);
    if (calls_.front() == call) run_once(1'000'000);  // a frame still holds its memory
  }
  for (const auto& server : servers_) server->shut_down();
  const auto at_rest = [](const auto& server) { return server->at_rest(); };
  while (!std::all_of(servers_.begin(), servers_.end(), at_rest)) run_once(1'000'000);
  while (Unit* unit = waiting_.front()) drop_unit(*unit);
  for (io::Timer* timer : {&deadline_timer_, &retry_timer_, &tick_timer_}) reactor_->stop(*timer);
  while (reactor_->pending() > 0 || (rdma_ && !rdma_->at_rest())) run_once(1'000'000);
}

std::vector<ServerLine> Context::describe() const {
  std::vector<ServerLine> lines;
  for (const auto& server : servers_) lines.push_back(server->describe());
  return lines;
}

// Calls.

void Context::submit(Call& call) {
  call.started_ns = now_ns();
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

void Context::cancel(Call& call) {
  if (!call.link.linked()) return;
  call.canceled = true;
  call.left++;
  end_waiting(call, Status::kCanceled, ~uint64_t{0});
  std::vector<Op*> ops;
  for (Op& op : call.ops) ops.push_back(&op);
  for (Op* op : ops) give_up(*op, Status::kCanceled);
  op_done(call);
}

void Context::op_done(Call& call) {
  if (--call.left > 0) return;
  calls_.remove(call);
  weight_ -= call.weight;
  call.on_done(call);
}

void Context::finish(Op& op, Status status) {
  op.outcome.status = status;
  op.finishing = true;
  MEMKV_ASSERT(op.units.empty());
  if (op.holds == 0) complete(op);
}

void Context::on_released(Op& op) {
  if (op.finishing && op.holds == 0) complete(op);
}

void Context::complete(Op& op) {
  MEMKV_ASSERT(op.units.empty() && op.holds == 0);
  Call& call = *op.call;
  const uint32_t index = op.index;
  const Status status = op.outcome.status;
  count(op);
  (*call.outcomes)[index] = op.outcome;
  call.ops.remove(op);
  op.reset();
  ops_.give_back(op);
  tell(call, index);
  start_next(call, index, status);
  op_done(call);
}

void Context::count(const Op& op) {
  const Outcome& outcome = op.outcome;
  counters_.ops.add();
  if (outcome.status == Status::kUnknown) counters_.unknown.add();
  if (is_failure(outcome.status)) counters_.failures.add();
  if (outcome.status == Status::kMiss) counters_.misses.add();
  if (outcome.status != Status::kOk) return;
  if (op.spec->kind == Kind::kGet) counters_.hits.add(), counters_.bytes_read.add(outcome.bytes);
  if (op.spec->kind == Kind::kPut || op.spec->kind == Kind::kWrite) counters_.bytes_written.add(outcome.bytes);
}

/// What is chained to an op that is done: starts, or is canceled with all that follows it.
void Context::start_next(Call& call, uint32_t index, Status status) {
  const auto& ops = call.batch->ops;
  for (uint32_t i = index + 1; i < ops.size() && ops[i].chained; i++) {
    if (!is_failure(status) && !call.canceled) {
      call.to_start.push_back(i);
      return call.starting ? void() : start_chained(call);
    }
    status = (*call.outcomes)[i].status = Status::kCanceled;
    tell(call, i);
    counters_.ops.add();
    counters_.failures.add();
    call.left--;
  }
}

/// In a loop: each may be done at once, and a chain may be long.
void Context::start_chained(Call& call) {
  call.starting = true;
  while (!call.to_start.empty()) {
    const uint32_t index = call.to_start.back();
    call.to_start.pop_back();
    start_op(call, index);
  }
  call.starting = false;
  pump();
}

void Context::tell(Call& call, uint32_t index) {
  if (call.completed) call.completed->push_back(index);
}

void Context::pump() {
  for (const auto& server : servers_) server->pump();
}

// Giving up.

/// True: the op is a change, and a frame with it may have left. Servers are kept from doing it behind what this process
/// sends from now on.
bool Context::fence_off(const Op& op) {
  if (is_read(op.spec->kind)) return false;
  if (op.phase == Op::Phase::kBegin || op.phase == Op::Phase::kChunks) return false;
  bool left = false;
  for (const Unit& unit : op.units) {
    if (unit.frame == nullptr || unit.frame->never_left) continue;
    identity_.raise_above(unit.frame->epoch);
    left = true;
  }
  return left;
}

/// Ends the op now, whatever is under way: its memory is quiet when it completes.
void Context::give_up(Op& op, Status status) {
  if (op.finishing) return drain(op);
  const bool changed = fence_off(op);
  if (status == Status::kDeadline) op.outcome.unreachable = op.server->silent_since(op.call->started_ns);
  if (changed)
    status = Status::kUnknown;
  else if (status == Status::kDeadline && op.refusal != Status::kOk)
    status = op.refusal;
  if (op.spec->kind == Kind::kGet) {
    for (const auto& connection : op.server->connections()) connection->quiet(op);
  }
  while (Unit* unit = op.units.front()) {
    if (unit->frame) unit->frame->connection->give_up(*unit);
    drop_unit(*unit);
  }
  const bool begun = op.phase == Op::Phase::kChunks || op.phase == Op::Phase::kCommit;
  if (begun && !changed && !op.upload_is_lost()) op.pinned->send_abort(op.upload);
  op.outcome.bytes = 0;
  const bool held = op.holds > 0;
  finish(op, status);
  if (held) drain(op);
}

/// A frame with the op's memory is in a link's hands: it gets a moment to leave, then the connection is closed.
void Context::drain(Op& op) {
  if (op.drain_until_ns != 0) return;
  const auto one_sided = [&](const auto& connection) {
    return connection->transport() == Transport::kRdma && connection->holds_memory_of(op);
  };
  const auto& connections = op.server->connections();
  const bool confirms = std::any_of(connections.begin(), connections.end(), one_sided);
  op.drain_until_ns = now_ns() + (confirms ? kDrainOneSidedNs : kDrainNs);
  arm_deadline(op.drain_until_ns);
}

void Context::drop_unit(Unit& unit) {
  if (unit.queue) unit.queue->remove(unit);
  if (unit.frame) unit.frame->connection->forget(unit);
  unit.op->units.remove(unit);
  unit.take_off();
  unit = Unit{};
  units_.give_back(unit);
}

// Deadlines.

void Context::arm_deadline(uint64_t deadline_ns) {
  if (!deadline_timer_.armed() || deadline_ns < deadline_timer_.deadline_ns)
    reactor_->start(deadline_timer_, deadline_ns);
}

void Context::on_deadline() {
  const uint64_t now = now_ns();
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
  if (next != ~uint64_t{0}) arm_deadline(next);
  for (Call* call : expired_calls_) end_waiting(*call, Status::kDeadline, now);
  for (Op* op : expired_) {
    if (op->drain_until_ns == 0) {
      give_up(*op, Status::kDeadline);
      continue;
    }
    for (const auto& connection : op->server->connections()) {
      if (connection->holds_memory_of(*op)) connection->close(Status::kDeadline);
    }
    op->drain_until_ns = now + kDrainNs;
    arm_deadline(op->drain_until_ns);
  }
}

// Retries.

void Context::retry_later(Unit& unit) {
  if (unit.queue) unit.queue->remove(unit);
  unit.take_off();
  MEMKV_ASSERT(unit.frame == nullptr);
  counters_.retries.add();
  const uint64_t cap = std::min(kRetryNsMax, kRetryNsMin << std::min<uint8_t>(unit.attempts, 10));
  if (unit.attempts < 255) unit.attempts++;
  unit.due_ns = now_ns() + jitter_ns(kRetryNsMin, cap);
  unit.queue = &waiting_;
  waiting_.push_back(unit);
  arm_retry(unit.due_ns);
}

void Context::arm_retry(uint64_t due_ns) {
  if (!retry_timer_.armed() || due_ns < retry_timer_.deadline_ns) reactor_->start(retry_timer_, due_ns);
}

void Context::on_retry() {
  const uint64_t now = now_ns() + kRetryNsMin;  // what is nearly due goes along
  uint64_t next = ~uint64_t{0};
  UnitQueue due;
  for (Unit& unit : waiting_) {
    if (unit.due_ns > now) {
      next = std::min(next, unit.due_ns);
      continue;
    }
    waiting_.remove(unit);
    unit.queue = &due;
    due.push_back(unit);
  }
  if (next != ~uint64_t{0}) arm_retry(next);
  while (Unit* unit = due.pop_front()) {
    unit->queue = nullptr;
    Op& op = *unit->op;
    if (op.upload_is_lost())
      restart_upload(op);
    else
      op.server->route(*unit);
  }
  pump();
}

void Context::on_lost(Unit& unit, bool sent) {
  Op& op = *unit.op;
  if (unit.queue) unit.queue->remove(unit), unit.queue = nullptr;
  const bool upload = op.phase != Op::Phase::kSingle;
  if (sent && !is_read(op.spec->kind) && (!upload || op.phase == Op::Phase::kCommit)) {
    drop_unit(unit);
    op.outcome.unreachable = true;
    identity_.raise_above(identity_.epoch.load(std::memory_order_relaxed));  // its frame's, at the latest
    return give_up(op, Status::kUnknown);
  }
  if (op.server->refusal() != Status::kOk) return on_refused(unit, op.server->refusal());
  if (upload) return restart_upload(op);
  retry_later(unit);
}

void Context::on_refused(Unit& unit, Status why) {
  Op& op = *unit.op;
  if (why == Status::kUnavailable) {
    op.outcome.unreachable = true;
    switch (op.spec->kind) {
      case Kind::kGet:
      case Kind::kExists:
      case Kind::kTouch:
      case Kind::kStat:
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

// Ticks.

void Context::watch() {
  if (!tick_timer_.armed() && !stopping_) reactor_->start(tick_timer_, now_ns() + kTickNs);
}

void Context::on_tick() {
  const uint64_t now = now_ns(), late = now - tick_timer_.deadline_ns;
  // Who stood still itself cannot say of others that they did not answer: what they said is still to be read.
  if (late > kTickNs) return watch();
  for (const auto& server : servers_) server->check_liveness(now);
  const bool busy =
      std::any_of(servers_.begin(), servers_.end(), [](const auto& server) { return server->frames() > 0; });
  if (busy) watch();
}

// Frames.

RequestFrame& Context::take_frame(size_t body_bytes) {
  const bool small = body_bytes <= RequestFrame::kSmallBody;
  RequestFrame& frame = small ? small_frames_.take() : large_frames_.take();
  if (!frame.body) {
    frame.body_capacity = small ? RequestFrame::kSmallBody : wire::kBodyBytesMax;
    frame.body = std::make_unique_for_overwrite<std::byte[]>(frame.body_capacity);
    frame.slot = static_cast<uint32_t>(frame_table_.size());
    frame_table_.push_back(&frame);
  }
  return frame;
}

void Context::give_back(RequestFrame& frame) {
  (frame.body_capacity == RequestFrame::kSmallBody ? small_frames_ : large_frames_).give_back(frame);
}

std::span<std::byte> Context::sink() {
  if (!sink_) sink_ = std::make_unique_for_overwrite<std::byte[]>(wire::kPayloadBytesMax);
  return {sink_.get(), wire::kPayloadBytesMax};
}

}  // namespace memkv::client
