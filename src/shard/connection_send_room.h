#pragma once
/// Room in a link's send queue, reserved before a get takes a slot and reads its drive.

#include <cstdint>

#include "base/assert.h"
#include "shard/op.h"
#include "transport/link.h"

namespace memkv::shard {

/// A client that takes its bytes slowly holds no more slots than its link can send. Only links that write into the
/// client's memory have such a limit; for the others nothing is counted. Thread: worker.
class ConnectionSendRoom {
 public:
  /// What the connection's link has.
  void open(transport::SendRoom room) {
    MEMKV_ASSERT(at_rest() && waiting_.empty(), "gets of the life before");
    room_ = room;
  }
  /// Room for the reply of a get. False: the op waits, and is started again with it.
  bool take(Op& op, uint32_t payload_bytes);
  /// The next ones, in order of arrival, start in this turn of the loop or the next.
  void give(Op& op);
  /// One that waits does not any more.
  void stop_waiting(Op& op);
  OpQueue& waiting() { return waiting_; }
  bool at_rest() const { return used_.requests == 0 && used_.bytes == 0; }

 private:
  bool reserve(const Op& op);

  transport::SendRoom room_;  ///< of the link, all of it
  transport::SendRoom used_;  ///< by gets from before their read until their reply has left
  OpQueue waiting_;
};

}  // namespace memkv::shard
