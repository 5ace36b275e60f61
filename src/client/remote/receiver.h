#pragma once
/// The receiving side of a connection: replies, and where their payloads go.

#include <array>
#include <vector>

#include "client/remote/sender.h"

namespace memkv::client {

/// Hands units back as their replies come. What does not fit the protocol ends the link. Thread: the context's.
class Receiver {
 public:
  Receiver(Shared& shared, Line& line, FramesOut& frames, Sender& sender)
      : shared_(shared), line_(line), frames_(frames), sender_(sender) {}
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  transport::PayloadTarget on_reply(const wire::FrameHeader& header, std::span<const std::byte> body);
  void on_payload_part(size_t arrived);
  void on_payload();
  void on_exists_reply(const wire::FrameHeader& header, std::span<const std::byte> body);
  void on_canceled(const wire::FrameHeader& header, std::span<const std::byte> body);
  void on_status_reply(const wire::FrameHeader& header, std::span<const std::byte> body);
  void on_list_reply(const wire::FrameHeader& header, std::span<const std::byte> body);
  /// Stops the reply under way from being written into the memory of `op`, if it is.
  void quiet(const Request& op);
  void lose_all();

 private:
  /// A get's reply whose payload is arriving.
  struct Arriving {
    Unit* unit;
    wire::OpReply reply;
    size_t slices_at, slices;  ///< in targets_
    size_t payload_at;         ///< its first byte in the frame's payload
    uint64_t seed;             ///< of its chunk
    RangeHasher hasher;
    std::array<uint64_t, wire::kSumsMax> expected, sums;
    transport::Exposure staged;  ///< not empty: its bytes lie there, to be copied
  };

  RequestFrame* frame_of(uint64_t request_id, wire::Opcode asked);
  void answered(RequestFrame& frame, uint32_t replies);
  void on_exists_failed(RequestFrame& frame, wire::ReplyDecoder& decoder);
  void answer(Unit& unit, Status status);
  void expect(Unit& unit, const wire::OpReply& reply, size_t payload_at, FrameExposure* placed);
  void expect_nothing(uint32_t bytes);
  size_t hash(Arriving& arriving, size_t arrived);
  bool verified(Arriving& arriving);
  void deliver(Arriving& arriving);
  void on_mismatch(Unit& unit);
  Path path() const { return {line_.number, line_.epoch}; }

  Shared& shared_;
  Line& line_;
  FramesOut& frames_;
  Sender& sender_;
  std::vector<Arriving> arriving_;
  std::vector<iovec> targets_;
  std::vector<iovec> slices_;  ///< of one unit, for a moment
};

}  // namespace memkv::client
