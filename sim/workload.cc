/// The ops of a run: how they are drawn, and how their outcomes are checked.

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "sim/pending.h"
#include "sim/run.h"

namespace memkv::sim {
namespace {

/// How late an op may complete after its deadline: a frame that holds its memory needs a moment to leave.
constexpr uint64_t kLateNs = 60 * kMs;
/// Memory that a link over RDMA has is given back when it was copied, when the server says that it does not touch it, or
/// when the link is gone: the client waits 0.2 s for the word, and then the queue pair has to end.
constexpr uint64_t kLetGoNs = 600 * kMs;
constexpr uint64_t kAnswerNs = 20 * kSecond;
constexpr uint64_t kKeepNs = 2 * kSecond;  ///< for so long buffers of completed ops are checked for changes

uint64_t hash_of(const std::byte* data, uint64_t length) { return base::xxh3({data, length}, 1); }

}  // namespace

std::string Run::key_name(uint32_t key) const { return fmt::format("key{}", key); }

uint64_t Run::draw_size(base::Random& random) const {
  const Setup& setup = plan_.setup;
  if (setup.block_bytes_max != 0) return random.between(setup.block_bytes_min, setup.block_bytes_max);
  const uint64_t kind = random.below(plan_.setup.large_blocks ? 12 : 100);
  if (plan_.setup.large_blocks && kind < 3) return (2 << 20) + random.below(3 << 20);
  if (plan_.setup.large_blocks && kind < 6) return (2 << 20) - random.below(2) * 8;
  if (kind < 8) return random.below(16);
  if (kind < 60) return random.below(4096);
  if (kind < 75) return 4096 * random.between(1, 4);
  if (kind < 92) return random.below(70'000);
  return random.below(300'000);
}

void Run::add_change(Pending& pending, base::Random& random, Change::Kind kind, uint32_t key) {
  OpInfo op;
  op.server = server_of(seats_[pending.seat], key);
  op.key = key;
  op.length = kind == Change::Kind::kPut || kind == Change::Kind::kWrite ? draw_size(random) : 0;
  if (kind == Change::Kind::kWrite) {
    op.offset = random.below(3) * 8 * random.below(1000);
    op.length = op.length / 8 * 8 + 8;  // eight bytes are always of one version
  }
  Change change;
  change.kind = kind;
  change.if_absent = kind == Change::Kind::kPut && random.chance(1, 8);
  change.client = seats_[pending.seat].id;
  change.server = op.server;
  change.key = key;
  change.tenant = pending.tenant;
  change.offset = op.offset;
  change.length = op.length;
  change.start_ns = world_.now_ns();
  change.deadline_ns = world_.now_ns() + pending.deadline_ns;
  op.version = model_.begin(change);
  op.buffer = std::make_unique_for_overwrite<std::byte[]>(op.length + 1);
  fill_content({op.buffer.get(), op.length}, key, op.version, op.offset);
  const std::string name = key_name(key);
  const Gather bytes(op.buffer.get(), op.length);
  if (kind == Change::Kind::kPut)
    change.if_absent ? pending.batch.put_if_absent(name, bytes) : pending.batch.put(name, bytes);
  else if (kind == Change::Kind::kWrite)
    pending.batch.write(name, bytes, op.offset);
  else
    pending.batch.remove(name);
  pending.ops.push_back(std::move(op));
}

void Run::add_read(Pending& pending, uint32_t key, uint64_t offset, uint64_t length) {
  OpInfo op;
  op.kind = OpInfo::Kind::kGet;
  op.server = server_of(seats_[pending.seat], key);
  op.key = key;
  op.offset = offset;
  op.length = length;
  op.buffer = std::make_unique_for_overwrite<std::byte[]>(length + 1);
  pending.batch.get(key_name(key), Scatter(op.buffer.get(), length), offset);
  pending.ops.push_back(std::move(op));
}

/// Reads all of the block and a little more, since nothing may be answered where nobody wrote.
void Run::add_read_of_all(Pending& pending, uint32_t key) {
  const uint32_t server = server_of(seats_[pending.seat], key);
  add_read(pending, key, 0, model_.longest(server, pending.tenant, key) + 1000);
}

void Run::add_op(Pending& pending, base::Random& random, bool first) {
  const auto key = static_cast<uint32_t>(random.below(plan_.setup.keys));
  const uint64_t kind = random.below(100);
  const bool change = kind < 55;
  if (kind < 36) {
    add_change(pending, random, Change::Kind::kPut, key);
  } else if (kind < 44) {
    add_change(pending, random, Change::Kind::kWrite, key);
  } else if (kind < 55) {
    add_change(pending, random, Change::Kind::kRemove, key);
  } else if (kind < 88) {
    const bool all = random.chance(1, 2);
    if (all)
      add_read_of_all(pending, key);
    else
      add_read(pending, key, random.below(5000), random.below(9000));
  } else {
    OpInfo op;
    op.server = server_of(seats_[pending.seat], key);
    op.key = key;
    op.kind = kind < 94 ? OpInfo::Kind::kExists : kind < 97 ? OpInfo::Kind::kStat : OpInfo::Kind::kTouch;
    const std::string name = key_name(key);
    if (op.kind == OpInfo::Kind::kExists)
      pending.batch.exists(name);
    else if (op.kind == OpInfo::Kind::kStat)
      pending.batch.stat(name);
    else
      pending.batch.touch(name);
    pending.ops.push_back(std::move(op));
  }
  if (!first && change && random.chance(1, 4)) {
    pending.batch.chained();
    pending.ops.back().chained = true;
  }
}

/// Prefetches, where there is a RAM tier. They are not drawn with the rest, which stays as it is without.
void Run::add_hints(Pending& pending, uint64_t seed) {
  base::Random random(base::mix64(seed ^ 0xa4ead));
  if (plan_.setup.tier_bytes == 0 || !random.chance(1, 3)) return;
  for (uint64_t i = random.between(1, 4); i > 0; i--) {
    OpInfo op;
    op.kind = OpInfo::Kind::kPrefetch;
    op.key = static_cast<uint32_t>(random.below(plan_.setup.keys));
    op.server = server_of(seats_[pending.seat], op.key);
    pending.batch.prefetch(key_name(op.key));
    pending.ops.push_back(std::move(op));
  }
}

/// As Client::flush() does: one for each server of the list.
void Run::add_flushes(Pending& pending) {
  const ClientSeat& seat = seats_[pending.seat];
  pending.admin.resize(seat.listed);
  for (uint32_t i = 0; i < seat.listed; i++) {
    OpInfo op;
    op.server = (i + seat.id) % seat.listed;  // see seat_client()
    Change change{.kind = Change::Kind::kFlush, .client = seat.id, .server = op.server, .tenant = pending.tenant};
    change.start_ns = world_.now_ns();
    change.deadline_ns = world_.now_ns() + pending.deadline_ns;
    op.version = model_.begin(change);
    pending.admin[i].server = i;
    pending.batch.impl().add(client::Kind::kFlush, {}).admin = &pending.admin[i];
    pending.ops.push_back(std::move(op));
  }
}

void Run::submit_batch(size_t seat, uint64_t seed) {
  base::Random random(seed);
  auto pending = std::make_unique<Pending>();
  pending->seat = seat;
  pending->tenant = seats_[seat].tenant;
  // Some deadlines are so short that ops are given up although nothing is wrong.
  const uint64_t way = random.below(10);
  pending->deadline_ns = way < 2 ? random.between(1, 5) * kMs : way < 6 ? random.between(20, 300) * kMs : kSecond;
  if (random.chance(1, 60) && plan_.setup.flushes) {
    add_flushes(*pending);
  } else {
    const uint64_t count = random.chance(1, 2) ? 1 : random.between(2, 6);
    for (uint64_t i = 0; i < count; i++) add_op(*pending, random, i == 0);
  }
  add_hints(*pending, seed);
  const size_t context = random.below(seats_[seat].process->contexts());
  const uint64_t deadline = pending->deadline_ns;
  start(std::move(pending), deadline, context);
}

void Run::start(std::unique_ptr<Pending> pending, uint64_t deadline_ns, size_t context) {
  Pending& p = *pending;
  p.run = this;
  p.client = seats_[p.seat].process.get();
  if (p.client->rdma() != nullptr) register_buffers(p);
  p.start_ns = world_.now_ns();
  p.call.batch = &p.batch.impl();
  p.call.outcomes = &p.outcomes;
  p.call.completed = &p.completed;
  p.call.timeout_ns = deadline_ns;
  p.call.context = &p;
  p.call.on_done = [](client::Call& call) {
    auto& done = *static_cast<Pending*>(call.context);
    done.run->on_done(done);
  };
  pending_.push_back(std::move(pending));
  p.client->submit(context, p.call);
}

void Run::on_done(Pending& pending) {
  watch_counters();
  ClientSeat& seat = seats_[pending.seat];
  pending.end_ns = world_.now_ns();
  if (++pending.times_done != 1) return fail("a batch completed twice");
  if (pending.end_ns > latest_end_ns(pending)) {
    fail(fmt::format("late: a batch of {} ops with {} ms took {:.3f} ms", pending.ops.size(), pending.deadline_ns / kMs,
                     static_cast<double>(pending.end_ns - pending.start_ns) * 1e-6));
  }
  std::vector<uint32_t> times(pending.ops.size(), 0);
  for (const uint32_t op : pending.completed) times[op]++;
  if (std::any_of(times.begin(), times.end(), [](uint32_t n) { return n != 1; })) {
    fail("an op of a batch did not complete exactly once");
  }
  for (size_t i = 0; i < pending.ops.size(); i++) on_op_done(pending, pending.ops[i], pending.outcomes[i]);
  seat.ops_done += pending.ops.size();
  result_.ops += pending.ops.size();
  const auto at = std::find_if(pending_.begin(), pending_.end(), [&](const auto& p) { return p.get() == &pending; });
  MEMKV_ASSERT(at != pending_.end());
  done_.splice(done_.end(), pending_, at);
  forget_old();
}

void Run::on_op_done(Pending& pending, OpInfo& op, const Outcome& outcome) {
  log(fmt::format("c{} s{} {} key{} v{} [{}+{}]: {}, generation {}, {} bytes", seats_[pending.seat].id, op.server,
                  static_cast<int>(op.kind), op.key, op.version, op.offset, op.length, to_string(outcome.status),
                  outcome.generation, outcome.bytes));
  check_progress(pending, op, outcome);
  if (op.kind == OpInfo::Kind::kChange) {
    model_.end(op.version, outcome.status, outcome.generation, world_.now_ns());
    if (model_.change(op.version).fate == Change::Fate::kMaybe) result_.given_up++;
    // The caller may use the bytes again: so we overwrite them, and nothing of the client may read them any more.
    if (op.length > 0) std::memset(op.buffer.get(), 0xee, op.length);
  } else {
    Model::Read read;
    read.server = op.server;
    read.key = op.key;
    read.tenant = pending.tenant;
    read.offset = op.offset;
    read.start_ns = pending.start_ns;
    read.end_ns = world_.now_ns();
    read.outcome = outcome;
    read.length = op.length;
    if (op.kind == OpInfo::Kind::kGet) {
      if (outcome.bytes > op.length) return fail("a get delivered more than was asked for");
      read.bytes = {op.buffer.get(), outcome.status == Status::kOk ? outcome.bytes : 0};
    }
    if (op.kind == OpInfo::Kind::kPrefetch && outcome.bytes > 0) return fail("a prefetch delivered bytes");
    // A hint that was not taken still says that the block is there.
    if (op.kind == OpInfo::Kind::kPrefetch && outcome.exists) read.outcome.status = Status::kOk;
    if (op.kind == OpInfo::Kind::kExists || op.kind == OpInfo::Kind::kTouch) read.outcome.generation = 0;
    if (auto wrong = model_.check(read))
      fail(fmt::format("key{} of tenant {} at s{}: {}", op.key, pending.tenant, op.server, *wrong));
  }
  if (op.buffer) op.hash = hash_of(op.buffer.get(), op.length);
}

/// With several servers: an op that has a second gets its answer from a server to which nothing happens, whatever the
/// others do, and whatever becomes of the ops beside it.
void Run::check_progress(const Pending& pending, const OpInfo& op, const Outcome& outcome) {
  if (pending.deadline_ns < kSecond || op.chained) return;
  if (!expects_progress(seats_[pending.seat], *servers_[op.server], pending.start_ns)) return;
  // A client that gives an op up whose frame is half sent closes that connection, and then does not know what became of
  // other changes there.
  const uint64_t now = world_.now_ns();
  const auto gave_up = [&](const auto& other) {
    const uint64_t due = other->start_ns + other->deadline_ns;
    return other.get() != &pending && other->seat == pending.seat && due >= pending.start_ns && due <= now &&
           std::any_of(other->ops.begin(), other->ops.end(), [&](const OpInfo& o) { return o.server == op.server; });
  };
  const bool cut_short =
      outcome.status == Status::kUnknown && now < pending.start_ns + pending.deadline_ns &&
      (std::any_of(pending_.begin(), pending_.end(), gave_up) || std::any_of(done_.begin(), done_.end(), gave_up));
  if (!cut_short && (outcome.unreachable || !is_outcome(outcome.status))) {
    fail(fmt::format("no progress: {} of key{} at {}, to which nothing happened", to_string(outcome.status), op.key,
                     servers_[op.server]->name()));
  }
}

uint64_t Run::latest_end_ns(const Pending& pending) const {
  const ClientSeat& seat = seats_[pending.seat];
  const uint64_t due = std::max(pending.start_ns + pending.deadline_ns, seat.disturbed_ns) + kLateNs;
  const bool lends =
      seat.rdma && std::any_of(pending.ops.begin(), pending.ops.end(), [](const OpInfo& op) { return op.length > 0; });
  return lends ? std::max(due, seat.helpers_late_ns) + kLetGoNs : due;
}

/// Half of the buffers, and some of them for a short time only: their registration ends while the op is under way.
void Run::register_buffers(Pending& pending) {
  for (OpInfo& op : pending.ops) {
    if (op.length == 0 || !op.buffer || !world_.random().chance(1, 2)) continue;
    auto added = pending.client->rdma()->add_memory(op.buffer.get(), op.length, transport::rdma::Access::kRemote);
    if (!added) continue;
    op.registered = std::make_shared<Registered>(Registered{pending.client, pending.client->rdma(), *added});
    if (!world_.random().chance(1, 6)) continue;
    world_.after(world_.random().below(20 * kMs), [this, held = op.registered] { deregister(held); });
  }
}

void Run::deregister(const std::shared_ptr<Registered>& registered) {
  if (registered->gone || registered->client->dead()) return;
  if (!std::exchange(registered->leaving, true)) registered->devices->memory().remove(*registered->memory);
  registered->gone = registered->memory->retire();
  if (registered->gone) return registered->memory->let_go();
  world_.after(kMs, [this, registered] { deregister(registered); });
}

/// Checks that the memory of a completed op does not change.
void Run::check_quiet(Pending& pending) {
  for (const OpInfo& op : pending.ops) {
    if (op.buffer && hash_of(op.buffer.get(), op.length) != op.hash) {
      fail(fmt::format("memory of a completed op changed (key{})", op.key));
    }
    if (!op.registered || op.registered->client->dead()) continue;
    deregister(op.registered);
    if (!op.registered->gone) fail(fmt::format("memory of a completed op is still lent to a NIC (key{})", op.key));
  }
}

void Run::forget_old() {
  while (!done_.empty() && (done_.front()->end_ns + kKeepNs < world_.now_ns())) {
    check_quiet(*done_.front());
    done_.pop_front();
  }
}

void Run::abandon_ops(const ClientProcess& client) {
  for (auto at = pending_.begin(); at != pending_.end();) {
    const auto next = std::next(at);
    if ((*at)->client == &client) {
      (void)at->release();  // memory of the dead process
      pending_.erase(at);
    }
    at = next;
  }
}

bool Run::ask_until_answered(size_t seat, const std::function<void(Pending&)>& add) {
  const uint64_t until = world_.now_ns() + kAnswerNs;
  while (world_.now_ns() < until && !failed()) {
    auto pending = std::make_unique<Pending>();
    pending->seat = seat;
    pending->tenant = seats_[seat].tenant;
    pending->deadline_ns = 2 * kSecond;
    Pending& p = *pending;
    add(p);
    start(std::move(pending), p.deadline_ns, world_.random().below(seats_[seat].process->contexts()));
    world_.run_until(until, [&] { return p.times_done > 0; });
    if (p.times_done == 0) return false;
    if (is_outcome(p.outcomes[0].status)) return true;
    world_.run_for(50 * kMs);
  }
  return failed();
}

}  // namespace memkv::sim
