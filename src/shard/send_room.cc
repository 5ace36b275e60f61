/// Room in a link's send queue, reserved before a get takes a slot and reads its drive: a client that takes its bytes
/// slowly holds no more slots than its link can send. Only links that write into the client's memory have such a limit;
/// for the others nothing is counted.

#include "base/assert.h"
#include "shard/connection.h"
#include "shard/worker.h"

namespace memkv::shard {

/// `payload_bytes` may change while the op waits, when its block is replaced: what was reserved first stays.
bool Connection::take_send_room(Op& op, uint32_t payload_bytes) {
  if (!send_room_.limited() || op.send_room.limited()) return true;
  op.send_room = {op.request.remote_piece_count + 1u, payload_bytes};
  if (waits_send_.empty() && reserve_send_room(op)) return true;
  op.phase = Phase::kWaitsSend;
  waits_send_.push_back(op);
  return false;
}

/// An op that is alone always fits.
bool Connection::reserve_send_room(const Op& op) {
  const bool alone = send_room_used_.requests == 0;
  const bool fits = send_room_used_.requests + op.send_room.requests <= send_room_.requests &&
                    send_room_used_.bytes + op.send_room.bytes <= send_room_.bytes;
  if (!alone && !fits) return false;
  send_room_used_.requests += op.send_room.requests;
  send_room_used_.bytes += op.send_room.bytes;
  return true;
}

/// The next ones, in order of arrival, start in this turn of the loop or the next.
void Connection::give_send_room(Op& op) {
  if (!op.send_room.limited()) return;
  MEMKV_ASSERT(send_room_used_.requests >= op.send_room.requests && send_room_used_.bytes >= op.send_room.bytes);
  send_room_used_.requests -= op.send_room.requests;
  send_room_used_.bytes -= op.send_room.bytes;
  op.send_room = {};
  while (Op* next = waits_send_.front()) {
    if (!reserve_send_room(*next)) return;
    waits_send_.remove(*next);
    run_later(*next, start);
  }
}

void Connection::expire_waiting() {
  expire_payload();
  expire_uploads();
  for (Op& op : waits_send_) expire(op);
  for (Op& op : waits_slot_) expire(op);
}

void Connection::expire(Op& op) {
  if (!expired(op) || !stop_waiting(op)) return;
  worker_->count(worker_->mutable_stats().deadlines_missed);
  finish(op, Status::kDeadline);
}

/// False: it waits neither for room nor for a slot.
bool Connection::stop_waiting(Op& op) {
  if (op.phase == Phase::kWaitsSlot) {
    worker_->tenants().stop_waiting(*this, op);
  } else if (op.phase == Phase::kWaitsSend) {
    waits_send_.remove(op);
    op.send_room = {};  // it had none
  } else {
    return false;
  }
  return true;
}

}  // namespace memkv::shard
