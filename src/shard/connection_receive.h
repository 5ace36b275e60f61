#pragma once
/// What a connection receives: ops, and the payloads of puts.

#include <array>
#include <cstdint>
#include <span>

#include "base/assert.h"
#include "shard/op.h"
#include "transport/link.h"
#include "wire/messages.h"

namespace memkv::shard {

/// Takes one OPS frame after the other: its ops, then room for its payload, then the payload. Payloads go into slots,
/// or straight into the log (memory mode); without room the link holds them back. Thread: worker.
class ConnectionReceiver {
 public:
  explicit ConnectionReceiver(Connection& connection) : connection_(connection) {}

  /// A new life of its connection.
  void open() {
    MEMKV_ASSERT(empty(), "a payload of the life before");
    progress_ = {};
  }
  transport::PayloadTarget on_ops(const wire::FrameHeader& header, std::span<const std::byte> body);
  void on_payload_part(size_t arrived);
  void on_payload();
  /// The client gave up the payload that the link holds back.
  void on_unwanted();
  /// The link is closed: what was being received never became whole.
  void on_closed();

  /// Tries once more to find room for the payload that the link holds back.
  bool try_room();
  /// Ends a payload that waits for room past the deadlines of its ops.
  void expire();
  uint32_t bytes_that_wait() const;  ///< of the payload that the link holds back
  bool empty() const { return incoming_count_ == 0; }
  /// Part of a payload is to come, and has room.
  bool in_payload() const { return incoming_count_ > 0 && !progress_.paused; }
  uint64_t bytes_received() const { return progress_.bytes_received; }

 private:
  /// One payload of the frame that is being received.
  struct Incoming {
    Op* op = nullptr;  ///< null: rejected, its bytes are read into nothing
    uint32_t length = 0;
  };
  /// What a new life resets as a whole.
  struct Progress {
    uint64_t bytes_received = 0;  ///< of payloads, since the start
    size_t payload_arrived = 0;   ///< of the present one
    bool paused = false;          ///< the link holds the payload back
  };

  std::span<Incoming> incoming() { return std::span(incoming_).first(incoming_count_); }
  void admit_all(wire::OpsDecoder& decoder, OpsFrame& ops_frame);
  void launch(Op& op);
  void launch_all(OpQueue& ops);
  void reject_all(uint64_t request_id, std::span<const std::byte> body, Status status);
  transport::PayloadTarget find_room(uint32_t payload_bytes);
  bool take_room(Op& op);
  bool take_all_room();
  bool give_back_room(std::span<Incoming> taken);
  void take_what_fits();
  transport::PayloadTarget target();
  void count_received(size_t arrived);
  void received(Op& op);
  void drop_payload(Status status);
  void give_up();

  Connection& connection_;
  Progress progress_;
  uint32_t incoming_count_ = 0;
  std::array<Incoming, wire::kOpsPerFrameMax> incoming_{};
  std::array<iovec, wire::kOpsPerFrameMax> pieces_{};  ///< lent to the link until the payload is there
};

}  // namespace memkv::shard
