#pragma once
/// The sending half of a link that carries a stream of bytes.

#include <array>

#include "transport/frames.h"

namespace memkv::transport {

/// Frames without payload overtake those with, until their header is made. The link asks fill() what to send and tells
/// sent() how much of it left. Thread: the reactor's.
class SendQueue {
 public:
  SendQueue(const base::SipKey& key, uint64_t first_sequence) : key_(key), sequence_(first_sequence) {}

  /// kInvalid: too large.
  Result<void> push(SendFrame& frame);
  /// Makes headers of what may leave now. What of them is unsent, oldest first; valid until the next call.
  std::span<const iovec> fill();
  /// That many bytes of fill()'s pieces left: reports the frames that left whole.
  void sent(size_t bytes);
  /// Nothing more leaves: reports all frames as lost.
  void fail_all();

  bool empty() const { return plain_.empty() && loaded_.empty() && batch_.empty(); }
  uint64_t bytes() const { return bytes_; }  ///< pushed and not sent
  /// True inside sent(): what is pushed now leaves with the fill() that follows.
  bool reporting() const { return reporting_; }

 private:
  static constexpr size_t kPiecesMax = 128;

  void add(SendFrame& frame);
  void drop(size_t bytes);

  const base::SipKey key_;
  uint64_t sequence_;
  uint64_t bytes_ = 0;
  bool reporting_ = false;
  FrameQueue plain_;            // without payload
  FrameQueue loaded_;           // with payload
  FrameQueue batch_;            // headers are made
  uint64_t batch_bytes_ = 0;    // unsent
  uint64_t first_left_ = 0;     // of batch_.front()
  size_t begin_ = 0, end_ = 0;  // of pieces_
  std::array<iovec, kPiecesMax> pieces_{};
};

}  // namespace memkv::transport
