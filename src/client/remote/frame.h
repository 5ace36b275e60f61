#pragma once
/// A frame of units on its way to a server, and the records that all connections share.

#include <memory>
#include <vector>

#include "client/pool.h"
#include "client/remote/unit.h"

namespace memkv::client {

class Sender;

/// Memory that the server may write until it has answered one op of a frame.
struct FrameExposure {
  uint16_t index = 0;         ///< of the op
  Request* holder = nullptr;  ///< whose own memory it is; null: a slot of ours, or done
  transport::Exposure memory;
};

/// A frame on its way out and the replies that it waits for.
struct RequestFrame {
  static constexpr size_t kSmallBody = 4096;
  static constexpr size_t kSmallUnits = 8;

  /// kNeverLeft: the link was dying already.
  enum class Step : uint8_t { kMaking, kOnLink, kLeft, kNeverLeft };

  transport::SendFrame out;
  base::ListLink<RequestFrame> link;  ///< of those of its connection
  Sender* sender = nullptr;
  uint32_t slot = 0;              ///< low bits of its request ids
  std::vector<Unit*> units;       ///< by op index; null = given up or answered
  std::vector<Request*> holders;  ///< ops whose memory is in the payload, once per unit
  std::vector<FrameExposure> exposures;
  std::vector<uint16_t> canceled;  ///< ops that the server is to be told of, once the frame has left
  transport::Exposure offered;     ///< GPU memory that the payload stands in
  uint32_t unanswered = 0;
  Step step = Step::kMaking;
  uint32_t credit = 0;      ///< what its payload takes of the connection's
  bool counts_ops = false;  ///< its ops without a reply count against the connection's limit
  uint32_t eager_bytes = 0;
  uint64_t epoch = 0;  ///< of the client, when its ops were put in
  std::vector<iovec> payload;
  std::unique_ptr<std::byte[]> body;
  size_t body_capacity = 0;
  std::unique_ptr<std::byte[]> stage;  ///< payloads of more pieces than a frame takes
};
using FrameList = base::IntrusiveList<RequestFrame, &RequestFrame::link>;

/// Frames by slot, and a place for bytes that nobody wants. Thread: the context's.
class FramePool {
 public:
  RequestFrame& take(size_t body_bytes);
  void give_back(RequestFrame& frame);
  RequestFrame* at(uint32_t slot) { return slot < table_.size() ? table_[slot] : nullptr; }
  std::span<std::byte> sink();

 private:
  Pool<RequestFrame, 16> small_, large_;
  std::vector<RequestFrame*> table_;
  std::unique_ptr<std::byte[]> sink_;
};

}  // namespace memkv::client
