#include "shard/connection_send_room.h"

#include "base/assert.h"

namespace memkv::shard {

/// `payload_bytes` may change while the op waits, when its block is replaced: what was reserved first stays.
bool ConnectionSendRoom::take(Op& op, uint32_t payload_bytes) {
  if (!room_.limited() || op.send_room.limited()) return true;
  op.send_room = {op.request.remote_piece_count + 1u, payload_bytes};
  if (waiting_.empty() && reserve(op)) return true;
  op.phase = Phase::kWaitsSend;
  waiting_.push_back(op);
  return false;
}

/// An op that is alone always fits.
bool ConnectionSendRoom::reserve(const Op& op) {
  MEMKV_ASSERT(op.send_room.limited(), "nothing to reserve");
  const bool alone = used_.requests == 0;
  const bool fits =
      used_.requests + op.send_room.requests <= room_.requests && used_.bytes + op.send_room.bytes <= room_.bytes;
  if (!alone && !fits) return false;
  used_.requests += op.send_room.requests;
  used_.bytes += op.send_room.bytes;
  return true;
}

void ConnectionSendRoom::give(Op& op) {
  if (!op.send_room.limited()) return;
  MEMKV_ASSERT(used_.requests >= op.send_room.requests && used_.bytes >= op.send_room.bytes);
  used_.requests -= op.send_room.requests;
  used_.bytes -= op.send_room.bytes;
  op.send_room = {};
  while (Op* next = waiting_.front()) {
    if (!reserve(*next)) return;
    waiting_.remove(*next);
    run_later(*next, start);
  }
}

void ConnectionSendRoom::stop_waiting(Op& op) {
  MEMKV_ASSERT(op.phase == Phase::kWaitsSend);
  waiting_.remove(op);
  op.send_room = {};  // it had none
}

}  // namespace memkv::shard
