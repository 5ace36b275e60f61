#pragma once
/// A link over a TCP socket: one receive and one send in flight, no allocation per frame.

#include <array>
#include <memory>

#include "base/unique_fd.h"
#include "transport/link.h"

namespace memkv::transport {

/// Frames that wait, in order; linked through OutFrame::next.
class FrameQueue {
 public:
  bool empty() const { return head_ == nullptr; }
  OutFrame* front() const { return head_; }
  void push(OutFrame& frame);
  OutFrame* pop();

 private:
  OutFrame* head_ = nullptr;
  OutFrame* tail_ = nullptr;
};

inline constexpr size_t kPiecesPerPayloadMax = 64;
/// Checks the limits of a frame and fills its private part; kInvalid if it is too large.
Result<void> prepare(OutFrame& frame);
constexpr uint64_t wire_bytes(const OutFrame& frame) {
  return wire::kHeaderBytes + frame.body.size() + frame.payload_bytes;
}
/// Header with its sequence and MAC into frame.header.
void encode_header(OutFrame& frame, uint64_t sequence, const base::SipKey& key);
/// All that can be said about a header without its body: version, opcode, sequence.
Result<void> check_header(const wire::FrameHeader& header, uint64_t expected_sequence);

/// Pieces of memory that are filled from the front.
class PieceCursor {
 public:
  PieceCursor() = default;
  explicit PieceCursor(std::span<const iovec> pieces) : pieces_(pieces) {}
  /// Copies `bytes` in and moves on.
  void put(std::span<const std::byte> bytes);
  /// Moves on over `bytes` that something else wrote.
  void advance(size_t bytes);
  /// What is left, at most `bytes_max` of it in at most `out.size()` pieces; returns how many, and their bytes in
  /// `total`.
  size_t rest(std::span<iovec> out, size_t bytes_max, size_t& total) const;

 private:
  std::span<const iovec> pieces_;
  size_t index_ = 0;
  size_t offset_ = 0;  // in the piece at index_
};

/// Thread: the reactor's.
class TcpLink final : public Link {
 public:
  TcpLink(io::Reactor& reactor, int fd, Role role, const wire::SessionKeys& keys, LinkOwner& owner);
  ~TcpLink() override;
  TcpLink(const TcpLink&) = delete;
  TcpLink& operator=(const TcpLink&) = delete;

  Result<void> send(OutFrame& frame) override;
  void resume(PayloadTarget target) override;
  bool redirect() override;
  void close(Status why) override;
  uint64_t bytes_queued() const override { return bytes_queued_; }
  uint64_t last_progress_ns() const override { return last_progress_ns_; }
  int fd() const override { return fd_.get(); }
  const LinkStats& stats() const { return stats_; }

 private:
  static constexpr size_t kBatchPiecesMax = 128;

  void schedule();
  void retry_soon();
  void on_turn();
  void begin_close(const Error& why);
  void finish_close();

  void start_receive();
  void on_received(int32_t result);
  void run_receive();
  bool take_payload();
  bool take_frame();
  void set_target(PayloadTarget target);
  size_t buffered() const { return end_ - begin_; }

  void start_send();
  void fill_batch();
  void add_to_batch(OutFrame& frame);
  void on_sent(int32_t result);
  void drop_from_batch(size_t bytes);
  void fail_frames(FrameQueue& queue);

  io::Reactor& reactor_;
  base::UniqueFd fd_;
  LinkOwner& owner_;
  const base::SipKey receive_key_;
  const base::SipKey send_key_;
  const bool cancel_is_synchronous_;
  uint64_t last_progress_ns_;
  LinkStats stats_{};

  io::IoOp turn_op_;
  io::Timer retry_timer_;  // stands in for turn_op_ while the reactor takes no more ops
  bool closing_ = false;
  Error why_;

  // Receiving. [begin_, end_) of the buffer was received and not yet looked at.
  io::IoOp receive_op_;
  std::unique_ptr<std::byte[]> buffer_;
  size_t capacity_;
  size_t begin_ = 0;
  size_t end_ = 0;
  uint64_t receive_sequence_ = 0;
  wire::FrameHeader header_;
  bool have_header_ = false;
  bool receive_wanted_ = false;  // at the next turn
  bool expect_large_ = false;    // the last payload was: read little ahead, so that the next goes into its pieces
  bool in_payload_ = false;
  bool paused_ = false;
  bool into_ = false;  // else the sink
  size_t payload_left_ = 0;
  PieceCursor target_;
  size_t direct_bytes_ = 0;  // of the receive in flight, how many go into pieces: 0 = none of the owner's memory
  std::array<iovec, kPiecesPerPayloadMax + 1> receive_pieces_{};

  // Sending. `batch_` are the frames whose headers are made, oldest first; batch_pieces_ what of them is unsent.
  io::IoOp send_op_;
  bool in_send_done_ = false;
  uint64_t send_sequence_ = 0;
  uint64_t bytes_queued_ = 0;
  FrameQueue plain_;   // without payload
  FrameQueue loaded_;  // with payload
  FrameQueue batch_;
  uint64_t batch_first_left_ = 0;  // unsent bytes of batch_.front()
  uint64_t batch_bytes_ = 0;
  size_t batch_begin_ = 0;
  size_t batch_end_ = 0;
  std::array<iovec, kBatchPiecesMax> batch_pieces_{};
};

}  // namespace memkv::transport
