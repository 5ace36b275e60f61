#pragma once
/// What every link does with frames, over whatever transport.

#include "transport/link.h"

namespace memkv::transport {

inline constexpr size_t kPiecesPerPayloadMax = 64;

constexpr const base::SipKey& sending_key(Role role, const wire::SessionKeys& keys) {
  return role == Role::kClient ? keys.client_to_server : keys.server_to_client;
}
constexpr const base::SipKey& receiving_key(Role role, const wire::SessionKeys& keys) {
  return role == Role::kClient ? keys.server_to_client : keys.client_to_server;
}

/// Frames that wait, in order; linked through SendFrame::next.
class FrameQueue {
 public:
  bool empty() const { return head_ == nullptr; }
  SendFrame* front() const { return head_; }
  void push(SendFrame& frame);
  SendFrame* pop();

 private:
  SendFrame* head_ = nullptr;
  SendFrame* tail_ = nullptr;
};

/// Checks the limits of a frame and fills its private part; kInvalid if it is too large.
Result<void> prepare(SendFrame& frame);
constexpr uint64_t wire_bytes(const SendFrame& frame) {
  return wire::kHeaderBytes + frame.body.size() + frame.payload_bytes;
}
/// Writes the frame's header, with sequence and MAC, into frame.header.
void encode_header(SendFrame& frame, uint64_t sequence, const base::SipKey& key, uint16_t flags = 0);
/// Checks what can be checked before the body has arrived: version, opcode, sequence.
Result<void> check_header(const wire::FrameHeader& header, uint64_t expected_sequence);
/// Gives all frames of the queue back to their senders.
void report(FrameQueue& queue, bool sent);

/// Asserts that a payload's target holds exactly that payload.
void check_holds(std::span<const iovec> pieces, size_t payload_bytes);

/// Pieces of memory that are filled from the front.
class PieceCursor {
 public:
  PieceCursor() = default;
  explicit PieceCursor(std::span<const iovec> pieces) : pieces_(pieces) {}
  /// Copies `bytes` in, and moves on behind them.
  void put(std::span<const std::byte> bytes);
  /// Moves on over `bytes` that were written by somebody else.
  void advance(size_t bytes);
  /// The pieces that are left: at most out.size() of them, with at most `bytes_max` bytes. Returns how many there are,
  /// and sets `total` to their bytes.
  size_t rest(std::span<iovec> out, size_t bytes_max, size_t& total) const;

 private:
  std::span<const iovec> pieces_;
  size_t index_ = 0;
  size_t offset_ = 0;  // in the piece at index_
};

}  // namespace memkv::transport
