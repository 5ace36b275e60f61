#pragma once
/// What a connection sends.

#include <cstdint>
#include <span>

#include "base/assert.h"
#include "base/intrusive_list.h"
#include "shard/op.h"
#include "shard/reply_frame.h"
#include "transport/link.h"
#include "wire/messages.h"

namespace memkv::shard {

inline constexpr uint32_t kFramesPerConnectionMax = 64;  ///< replies wait beyond it, and share frames
/// In the hands of the link, where a get cannot be canceled any more: enough to keep it busy.
inline constexpr uint64_t kPayloadBytesOutMax = 4u << 20;
inline constexpr uint32_t kControlFramesMax = 256;  ///< a client that asks and never reads is cut beyond it

/// Replies of ops leave once per turn of the loop, as many in a frame as fit; those with a payload as fast as the link
/// takes them. Other frames leave at once. Thread: worker.
class ConnectionReplies {
 public:
  explicit ConnectionReplies(Connection& connection) : connection_(connection) {}

  /// A new life of its connection.
  void open() {
    MEMKV_ASSERT(at_rest() && empty(), "replies of the life before");
    state_ = {};
  }
  /// The op is to be replied to.
  void op_done(Op& op);
  /// Of a get that was canceled while its bytes waited for the link: nothing but CANCELED leaves.
  void take_back(Op& op);
  /// An op of the frame, and its reply, are over.
  void op_over(OpsFrame& ops_frame);
  /// Replies to what is done. False: no frame is free, try again later.
  bool flush();

  /// A frame of at most kFrameBodyBytes, made by `encode(body) -> bytes`. False: none free.
  template <typename Encode>
  bool send_control(wire::Opcode opcode, uint64_t request_id, Encode&& encode) {
    ReplyFrame* frame = take_control_frame();
    if (frame == nullptr) return false;
    frame->out.opcode = opcode;
    frame->out.request_id = request_id;
    frame->out.body = {frame->body.data(), encode(std::span<std::byte>(frame->body))};
    return send(*frame);
  }
  bool send_pong(uint64_t request_id);
  /// A request that has no reply of its own for failures (EXISTS, LIST, STATUS): a REPLY with one op 0.
  void fail_request(uint64_t request_id, Status status);
  /// A key is not this worker's: the client asks again with the map, which follows.
  void owe_map();
  void fail_wrong_worker(uint64_t request_id);
  void say_welcome(const wire::Welcome& welcome);
  void say_ready();
  /// Unless it is what the client heard last.
  void say_credit(const wire::Credit& credit);

  ReplyFrame* take_control_frame();
  /// Queues; false: the link is closed (frame and ops are back in their pools).
  bool send(ReplyFrame& frame);

  bool at_rest() const { return frames_out_ == 0; }  ///< the link has given back all frames
  bool empty() const { return replying_.empty() && loaded_.empty(); }
  uint64_t bytes_given() const { return state_.bytes_given; }

 private:
  /// What a new life resets as a whole.
  struct State {
    uint64_t bytes_given = 0;  ///< to the link, since the start
    wire::Credit credit_told;
    bool owes_map = false;
  };

  bool flush_plain(OpsFrame& ops_frame);
  bool flush_payload(OpsFrame& ops_frame);
  bool flush_canceled(Op& op);
  bool flush_map();
  bool out_of_frames() const;
  bool link_is_busy() const;
  void allow_lending(ReplyFrame& frame);
  void end_lending(ReplyFrame& frame, bool sent);
  bool drop(OpQueue& replies);
  void drop_all();
  static void on_frame_done(transport::SendFrame& out, bool sent);
  void end_frame(ReplyFrame& frame, bool sent);

  Connection& connection_;
  State state_;
  uint32_t frames_out_ = 0;
  uint64_t payload_bytes_out_ = 0;                                    ///< in those frames
  base::IntrusiveList<OpsFrame, &OpsFrame::replying_link> replying_;  ///< that have replies without payload
  base::IntrusiveList<OpsFrame, &OpsFrame::loaded_link> loaded_;      ///< and with
};

}  // namespace memkv::shard
