/// STATUS: the server's own text, as JSON.

#include "shard/connection.h"
#include "shard/request_ops.h"
#include "shard/worker.h"

namespace memkv::shard {

/// Answers STATUS with the server's JSON. The text lives in the op until the frame is sent, so the connection is held
/// until then.
void start_status(Connection& connection, uint64_t request_id) {
  Worker& worker = connection.worker();
  StatusOp* status = worker.pools().status_ops.take();
  ReplyFrame* frame = status != nullptr ? connection.replies().take_control_frame() : nullptr;
  if (frame == nullptr) {
    if (status != nullptr) worker.pools().status_ops.give_back(*status);
    return connection.replies().fail_request(request_id, Status::kBusy);
  }
  worker.publish();
  const Identity& identity = worker.identity();
  status->text =
      identity.status_json != nullptr ? identity.status_json(identity.context, connection.namespace_id()) : "{}";
  if (status->text.size() > wire::kBodyBytesMax) status->text = R"({"error": "status too long"})";
  status->connection = &connection;
  connection.hold();
  frame->out.opcode = wire::Opcode::kStatusReply;
  frame->out.request_id = request_id;
  frame->out.body = std::as_bytes(std::span<const char>(status->text));
  frame->after_context = status;
  frame->after = [](ReplyFrame& done, bool) {
    auto& over = *static_cast<StatusOp*>(done.after_context);
    Connection& owner = *over.connection;
    owner.worker().pools().status_ops.give_back(over);
    owner.unhold();
  };
  (void)connection.replies().send(*frame);
}

}  // namespace memkv::shard
