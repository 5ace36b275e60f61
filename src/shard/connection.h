#pragma once
/// The server's side of one link: frames in, ops and replies out.

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "base/intrusive_list.h"
#include "shard/client_board.h"
#include "shard/known_clients.h"
#include "shard/op.h"
#include "shard/reply_frame.h"
#include "transport/link.h"
#include "wire/messages.h"

namespace memkv::shard {

inline constexpr uint32_t kFramesPerConnectionMax = 64;  ///< replies wait beyond it, and share frames
/// In the hands of the link, where a get cannot be canceled any more: enough to keep it busy.
inline constexpr uint64_t kPayloadBytesOutMax = 4u << 20;
inline constexpr uint32_t kControlFramesMax = 256;  ///< a client that asks and never reads is cut beyond it
inline constexpr uint32_t kUploadsPerConnectionMax = 64;
inline constexpr uint64_t kServerDeadlineNs = 30'000'000'000;  ///< of ops that name none

/// From a fixed pool of the worker. Thread: worker.
class Connection final : public transport::LinkOwner {
 public:
  Connection() = default;

  /// A new life, without a link.
  void open(Worker& worker, Tenant& tenant);
  /// WELCOME follows when the client has introduced itself.
  void attach(std::unique_ptr<transport::Link> link, Transport transport);
  /// For who looks at the status. Before attach().
  void set_client_name(const ClientName& name) { client_name_ = name; }
  /// GOODBYE follows instead. It is none of its tenant's connections.
  void turn_away() { turned_away_ = true; }
  bool turned_away() const { return turned_away_; }
  /// Nothing of it is in use any more: ready for the pool.
  void recycle();

  transport::PayloadTarget on_frame(transport::Link& link, const wire::FrameHeader& header,
                                    std::span<const std::byte> body) override;
  void on_payload_part(transport::Link& link, size_t arrived) override;
  void on_payload(transport::Link& link) override;
  void on_unwanted(transport::Link& link) override;
  void on_closed(transport::Link& link, const Error& why) override;

  Worker& worker() { return *worker_; }
  Tenant& tenant() { return *tenant_; }
  uint64_t namespace_id() const { return namespace_id_; }
  KnownClient* client() { return client_; }  ///< null until it has introduced itself
  Holder& holder() { return *holder_; }      ///< who holds what the connection takes of the pools
  OpQueue& gets_that_wait() { return waits_slot_; }
  uint32_t bytes_that_wait() const;  ///< of the payload that the link holds back
  Transport transport() const { return transport_; }
  transport::Link* link() { return link_.get(); }

  /// Replies to what is done. False: no frame is free, try again later.
  bool flush();
  /// Tries once more to find room for the payload that the link holds back.
  bool try_room();
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
  bool send_empty(wire::Opcode opcode, uint64_t request_id = 0) {
    return send_control(opcode, request_id, [](auto) { return size_t{0}; });
  }
  /// A request that has no reply of its own for failures (EXISTS, LIST, STATUS): a REPLY with one op 0.
  void fail_request(uint64_t request_id, Status status);
  void owe_map(uint64_t request_id);
  /// Queues; false: the link is closed (frame and ops are back in their pools).
  bool send(ReplyFrame& frame);
  ReplyFrame* take_control_frame();
  void say_ready();
  void say_credit(const wire::Credit& credit);
  /// GOODBYE, and once it has left, close. What was sent before leaves first.
  void leave(Status status, std::string_view text);
  void close(Status why);
  void protocol_error(const char* what);

  // For ops.
  void op_done(Op& op);
  /// Room in the link's send queue for the reply of a get. False: the op waits, and is started again with it.
  bool take_send_room(Op& op, uint32_t payload_bytes);
  void give_send_room(Op& op);
  /// Ends what waits past its deadline: gets, the payload that the link holds back, uploads.
  void expire(Op& op);  ///< one that waits for room or a slot, if its time is over
  void expire_waiting();
  void abort_uploads();

  bool closed() const { return closed_; }
  bool in_payload() const { return incoming_count_ > 0 && !paused_; }  ///< part of a payload is to come, and has room
  /// What the client does too slowly, or null. Asked at every tick, `step_ns` after the one before. `contended`:
  /// somebody waits for slots such as it may hold.
  const char* stalls(uint64_t step_ns, uint64_t stalled_ns, uint64_t introduce_ns, bool contended);
  bool closing() const { return closing_; }
  bool leaving() const { return leaving_; }
  bool idle() const { return live_.empty() && frames_out_ == 0 && incoming_count_ == 0; }
  bool reapable() const { return closed_ && live_.empty() && frames_out_ == 0 && extra_ == 0; }
  uint64_t uploads_open() const { return uploads_.size(); }
  void add_upload(Upload& upload) { uploads_.push_back(upload); }
  void remove_upload(Upload& upload) { uploads_.remove(upload); }
  void hold() { extra_++; }  ///< list, status and exists under way
  void unhold();
  void free_op(Op& op);

  base::ListLink<Connection> waiting_link, gets_link, dirty_link, reaping_link, worker_link;

 private:
  /// One payload of the frame that is being received.
  struct Incoming {
    Op* op = nullptr;  ///< null: rejected, its bytes are read into nothing
    uint32_t length = 0;
  };

  void join(const wire::Introduce& introduce);
  void on_introduce(const wire::FrameHeader& header, std::span<const std::byte> body);
  void welcome();
  transport::PayloadTarget on_ops(const wire::FrameHeader& header, std::span<const std::byte> body);
  Op* admit(const wire::Op& wire_op, OpsFrame& ops_frame, const wire::OpsHeader& header, uint64_t now_ns);
  Status check(Op& op, uint64_t now_ns);
  Status check_upload(Op& op);
  bool send_pong(uint64_t request_id);
  void reject_all(uint64_t request_id, std::span<const std::byte> body, Status status);
  bool reserve_send_room(const Op& op);
  bool stop_waiting(Op& op);
  bool take_room(Op& op);
  bool take_all_room();
  void count_received(size_t arrived);
  void expire_payload();
  void expire_uploads();
  void drop_payload(Status status);
  void give_room_back();
  transport::PayloadTarget target();
  void received(Op& op);
  void on_cancel(std::span<const std::byte> body);
  void on_goodbye();
  bool flush_plain(OpsFrame& ops_frame);
  bool flush_payload(OpsFrame& ops_frame);
  bool out_of_frames() const;
  bool link_is_busy() const;
  bool flush_canceled(Op& op);
  bool flush_map();
  bool drop(OpQueue& replies);
  void drop_replies();
  void take_back_reply(Op& op);
  static void on_frame_done(transport::SendFrame& out, bool sent);
  void end_frame(ReplyFrame& frame, bool sent);

  /// One direction of the link since its clock started.
  struct Pace {
    uint64_t bytes = 0;  ///< that had moved when it started
    uint64_t ns = 0;     ///< that there was something to move
    bool too_slow(bool under_way, uint64_t total, uint64_t step_ns, uint64_t patience_ns, uint64_t bytes_per_second);
  };

  Worker* worker_ = nullptr;
  Tenant* tenant_ = nullptr;
  Holder* holder_ = nullptr;
  std::unique_ptr<transport::Link> link_;
  uint64_t namespace_id_ = 0;
  KnownClient* client_ = nullptr;
  ClientName client_name_;
  uint32_t board_place_ = 0;  ///< as long as there is a client
  uint64_t opened_ns_ = 0;
  Transport transport_ = Transport::kTcp;
  transport::SendRoom send_room_;       ///< of the link, all of it
  transport::SendRoom send_room_used_;  ///< by gets from before their read until their reply has left
  OpQueue waits_send_;
  OpQueue waits_slot_;
  uint32_t frames_out_ = 0;
  uint64_t payload_bytes_out_ = 0;  ///< in those frames
  uint32_t extra_ = 0;
  wire::Credit credit_told_;
  bool closing_ = false;  ///< close() was called: no more replies
  bool closed_ = false;   ///< the link said so
  bool owes_map_ = false;
  bool leaving_ = false;  ///< GOODBYE is on its way: nothing more is taken
  bool turned_away_ = false;
  Pace pace_out_, pace_in_;
  uint64_t bytes_given_ = 0;     ///< to the link, since the start
  uint64_t bytes_received_ = 0;  ///< of payloads, since the start
  size_t payload_arrived_ = 0;   ///< of the present one
  bool paused_ = false;

  base::IntrusiveList<Op, &Op::link> live_;
  base::IntrusiveList<OpsFrame, &OpsFrame::replying_link> replying_;  ///< that have replies without payload
  base::IntrusiveList<OpsFrame, &OpsFrame::loaded_link> loaded_;      ///< and with
  base::IntrusiveList<Upload, &Upload::link> uploads_;
  uint32_t incoming_count_ = 0;
  std::array<Incoming, wire::kOpsPerFrameMax> incoming_{};
  uint32_t piece_count_ = 0;
  std::array<iovec, wire::kOpsPerFrameMax> pieces_{};
};

/// EXISTS, LIST, STATUS: requests that are no ops (exists_op.cc, list_op.cc, status_op.cc).
void start_exists(Connection& connection, uint64_t request_id, std::span<const std::byte> body);
void start_list(Connection& connection, uint64_t request_id, std::span<const std::byte> body);
void start_status(Connection& connection, uint64_t request_id);

}  // namespace memkv::shard
