#pragma once
/// How the ops of a frame are taken in.

#include <cstdint>
#include <optional>

#include "base/assert.h"
#include "shard/op.h"
#include "shard/reply_frame.h"
#include "wire/messages.h"

namespace memkv::shard {

/// Takes the ops of one OPS frame in, one after the other: each gets a context, is tied to the op before it and finds
/// its shard, or is answered at once. Lives on the stack while the frame is read. Thread: worker.
class Admission {
 public:
  Admission(Connection& connection, OpsFrame& frame, const wire::OpsHeader& header);

  ~Admission() { MEMKV_ASSERT(rejects_ == nullptr, "end() sends them"); }
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  /// A context for the op, filled from the wire; null: none is free.
  Op* admit(const wire::Op& wire_op);
  /// Answers an op without a context with kBusy. False: there is no frame for that, the connection is closed.
  bool reject(uint16_t op_index);
  /// Ties the op to the one before it, if it is to start behind that.
  void chain(Op& op);
  /// Finds the op's shard, or its upload. False: it has been answered with what can be said before its payload.
  bool check(Op& op);
  /// Sends what was rejected.
  void end();

 private:
  Op* take_context();
  Status find_status(Op& op);
  void send_rejects();

  Connection& connection_;
  OpsFrame& frame_;
  const wire::OpsHeader& header_;
  const uint64_t now_ns_;
  Op* previous_ = nullptr;
  bool previous_failed_ = false;               ///< it has no context
  ReplyFrame* rejects_ = nullptr;              ///< being filled
  std::optional<wire::ReplyEncoder> encoder_;  ///< into it
};

}  // namespace memkv::shard
