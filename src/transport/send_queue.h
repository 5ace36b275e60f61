#pragma once
/// The sending half of a link that carries a stream of bytes.

#include <array>
#include <bitset>

#include "transport/frames.h"
#include "transport/one_copy.h"

namespace memkv::transport {

/// Frames without payload overtake those with, until their header is made. The link asks fill() what to send and tells
/// sent() how much of it left. Thread: the reactor's.
///
/// A link that lends pages is told which pieces to lend: begin_is_lent(). A frame of which some was lent is reported
/// when all of it left *and* the peer said that it has consumed the payload.
class SendQueue {
 public:
  SendQueue(const base::SipKey& key, uint64_t first_sequence) : key_(key), sequence_(first_sequence) {}

  /// From now on whole pages of frames that may be lent are; what is not is counted there.
  void lend(OneCopyStats& stats) { lending_ = &stats; }
  /// Never again, nor what is about to leave: the kernel did not take it.
  void stop_lending();

  /// kInvalid: too large.
  Result<void> push(SendFrame& frame);
  /// Makes the headers of frames that may leave now. Returns what is unsent of them, oldest first; valid until the next
  /// call.
  std::span<const iovec> fill();
  /// Of fill()'s pieces: some are to be lent.
  bool any_lent() const { return lent_pieces_ > 0; }
  /// The first piece alone, if it is to be lent, or all in front of the next one that is.
  std::span<const iovec> next_run() const;
  bool begin_is_lent() const { return begin_ < end_ && lent_[begin_]; }
  /// Bytes follow behind next_run().
  bool more_behind_run() const { return begin_ + next_run().size() < end_; }
  /// That many bytes of fill()'s pieces left: reports the frames that left whole.
  void sent(size_t bytes);
  /// The peer has received that many payload bytes in all: reports what was lent of them. kInvalid: it cannot have.
  Result<void> consumed(uint64_t payload_bytes);
  /// Nothing more leaves: reports all frames as lost.
  void fail_all();

  bool empty() const { return plain_.empty() && loaded_.empty() && batch_.empty() && unreported_.empty(); }
  /// Pushed and not sent, or lent and not reported.
  uint64_t bytes() const { return bytes_ + (unreported_.empty() ? 0 : unreported_end_ - consumed_); }
  bool lends_now() const { return lent_bytes_ > 0; }
  /// True inside sent() and consumed(): what is pushed now leaves with the fill() that follows.
  bool reporting() const { return reporting_; }

 private:
  static constexpr size_t kPiecesMax = 256;

  void add(SendFrame& frame);
  void add_piece(const void* data, size_t bytes, bool lent);
  void add_payload(SendFrame& frame);
  uint64_t lendable_bytes(const SendFrame& frame) const;
  bool waits_for_report(const SendFrame& frame) const;
  bool may_lend(const SendFrame& frame);
  void drop(size_t bytes);
  void report_done(FrameQueue& done);

  const base::SipKey key_;
  uint64_t sequence_;
  uint64_t bytes_ = 0;
  bool reporting_ = false;
  FrameQueue plain_;            // without payload
  FrameQueue loaded_;           // with payload
  FrameQueue batch_;            // frames whose headers are made
  uint64_t batch_bytes_ = 0;    // unsent
  uint64_t first_left_ = 0;     // unsent bytes of batch_.front()
  size_t begin_ = 0, end_ = 0;  // of pieces_
  std::array<iovec, kPiecesMax> pieces_{};

  OneCopyStats* lending_ = nullptr;
  std::bitset<kPiecesMax> lent_;  // of pieces_
  size_t lent_pieces_ = 0;        // in [begin_, end_)
  FrameQueue unreported_;         // left whole, lent in part
  uint64_t unreported_end_ = 0;   // of the last of them
  uint64_t lent_bytes_ = 0;       // of frames in batch_ and unreported_
  uint64_t payload_made_ = 0;     // of all frames whose header was made
  uint64_t consumed_ = 0;         // of it, as the peer says
};

}  // namespace memkv::transport
