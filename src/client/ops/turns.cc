/// Long lists: their ops take turns, and default deadlines allow for the bytes of all.

#include <algorithm>

#include "client/ops/calls.h"

namespace memkv::client {
namespace {

/// What a lane starts at a time.
constexpr size_t kTurnOps = 16;
constexpr uint64_t kTurnBytes = 64 * 1024;
/// Default deadlines: the slowest server, network and machine that they allow for, in bytes a second of one I/O
/// context; and what an op counts beside its bytes (docs/operating.md).
constexpr uint64_t kSlowestBytesPerSecond = 64u << 20;
constexpr uint64_t kOpWeight = 512;
/// Of a long list so much is made sure of before it begins: as many ops as may be under way at once, and as many places
/// in line by server.
constexpr size_t kReservedOpsMax = 1024, kReservedPlacesMax = 65536;

bool waits_for_its_turn(const BatchOp& op) { return !(op.invalid || op.fed || op.admin || op.kind == Kind::kExists); }

}  // namespace

void Calls::reserve(Call& call, const Batch::Impl& batch) {
  const size_t count = batch.ops.size();
  const bool in_turn = count > kOpsAtOnce;
  const auto waits = [&](const BatchOp& op) { return in_turn && waits_for_its_turn(op); };
  const auto waiting = static_cast<size_t>(std::count_if(batch.ops.begin(), batch.ops.end(), waits));
  const size_t records = count - waiting + std::min(waiting, kReservedOpsMax);
  // An op of several chunks has a unit for each, and one that begins before a chunk's end one more.
  runner_.reserve(records, 2 * records + (in_turn ? 0 : batch.bytes / kChunkBytesMax));
  if (!in_turn) return;
  if (call.lanes.size() != servers_.size()) call.lanes = std::vector<Lane>(servers_.size());
  for (Lane& lane : call.lanes) lane.ops.reserve(std::min(waiting, kReservedPlacesMax));
}

/// A default deadline is a floor and the time that the bytes under way take at the slowest rate that it allows for.
void Calls::allow_for_bytes(Call& call) {
  call.weight = call.batch->bytes + call.batch->ops.size() * kOpWeight;
  weight_ += call.weight;
  call.allowance_ns = static_cast<uint64_t>(static_cast<double>(weight_) * (1e9 / kSlowestBytesPerSecond));
}

/// A long list gets records for as many ops as its servers' connections take, and for the next ones as replies come.
/// What needs no server, or is spoken of by index while it is under way, starts at once; questions share large frames.
void Calls::start_in_turn(Call& call) {
  if (call.lanes.size() != servers_.size()) call.lanes = std::vector<Lane>(servers_.size());
  const auto& ops = call.batch->ops;
  for (uint32_t i = 0; i < ops.size(); i++) {
    const BatchOp& spec = ops[i];
    if (spec.chained && i > 0) continue;
    if (!waits_for_its_turn(spec)) {
      start_op(call, i);
      continue;
    }
    Lane& lane = call.lanes[servers_.size() > 1 ? placement_.server_of(call.batch->key_of(spec)) : 0];
    lane.ops.push_back(i);
    call.waiting++;
  }
  for (size_t i = 0; i < servers_.size(); i++) {
    Lane& lane = call.lanes[i];
    lane.call = &call;
    if (!lane.ops.empty()) servers_[i].lanes.push_back(lane);
  }
  if (call.waiting > 0) deadlines_.set(next_expiry_ns(call, call.started_ns));
}

/// Starts ops that wait for their turn, a few of each call, once a quarter of a connection's room is free: so that they
/// share frames.
void Calls::take_turns(Turns& turns) {
  if (turns.lanes.empty() || turns.starting || !turns.server->has_room(3)) return;
  turns.starting = true;  // what is done at once may start what is chained to it, and pump
  do {
    Lane& lane = *turns.lanes.pop_front();
    if (start_some(lane)) turns.lanes.push_back(lane);
  } while (!turns.lanes.empty() && turns.server->has_room(4));
  turns.starting = false;
}

/// Starts the next few ops of a lane. False: it has no more, or its call is over.
bool Calls::start_some(Lane& lane) {
  MEMKV_ASSERT(!lane.done() && !lane.link.linked());
  Call& call = *lane.call;
  call.left++;  // it does not end in here
  const auto& ops = call.batch->ops;
  uint64_t bytes = 0;
  for (size_t i = 0; i < kTurnOps && bytes < kTurnBytes && !lane.done(); i++) {
    const uint32_t index = lane.ops[lane.next++];
    call.waiting--;
    bytes += total_bytes(call.batch->pieces_of(ops[index]));
    start_op(call, index);
  }
  const bool more = !lane.done();
  if (!more) lane.clear();
  op_done(call);
  return more;
}

/// Ends those ops that wait for their turn and whose deadline lies no later.
void Calls::end_waiting(Call& call, Status status, uint64_t due_until_ns) {
  if (call.waiting == 0) return;
  call.left++;
  for (size_t i = 0; i < call.lanes.size(); i++) {
    if (call.lanes[i].link.linked()) end_lane(call, i, status, due_until_ns);
  }
  op_done(call);
}

void Calls::end_lane(Call& call, size_t server, Status status, uint64_t due_until_ns) {
  Lane& lane = call.lanes[server];
  MEMKV_ASSERT(!lane.done() && call.waiting > 0, "an empty lane stands in no line");
  size_t kept = lane.next;
  for (size_t at = lane.next; at < lane.ops.size(); at++) {
    const uint32_t index = lane.ops[at];
    if (deadline_of(call, call.batch->ops[index].kind) > due_until_ns) {
      lane.ops[kept++] = index;
      continue;
    }
    call.waiting--;
    const bool silent = status == Status::kDeadline && servers_[server].server->silent_since(call.started_ns);
    (*call.outcomes)[index].unreachable = silent;
    end_unstarted(call, index, status);
  }
  lane.ops.resize(kept);
  if (lane.next < kept) return;
  servers_[server].lanes.remove(lane);
  lane.clear();
}

}  // namespace memkv::client
