#pragma once
/// The frames of one connection that are on their way or wait for replies.

#include "client/remote/credits.h"
#include "client/remote/shared.h"

namespace memkv::client {

/// A request id holds the slot of its frame in the lowest bits.
inline constexpr uint32_t kSlotBits = 20;

/// Gives back credit and memory as replies come and frames leave. Thread: the context's.
class FramesOut {
 public:
  FramesOut(Shared& shared, Credits& credits) : shared_(shared), credits_(credits) {}
  FramesOut(const FramesOut&) = delete;
  FramesOut& operator=(const FramesOut&) = delete;

  bool empty() const { return frames_.empty(); }
  size_t size() const { return frames_.size(); }
  /// An empty frame; it counts once it is added.
  RequestFrame& make(size_t body_bytes) { return shared_.frames.take(body_bytes); }
  /// Its units are in.
  void add(RequestFrame& frame, wire::Opcode opcode);
  uint64_t next_request_id(const RequestFrame& frame) { return (++request_counter_ << kSlotBits) | frame.slot; }
  /// Null: it is none that waits for a reply.
  RequestFrame* find(uint64_t request_id);
  /// The unit at an index of the frame; null if it was given up. The caller checked the index.
  Unit* take_unit(RequestFrame& frame, uint32_t index);
  /// The contrary, before anything else was done: the unit is lost with the connection.
  void put_back(RequestFrame& frame, Unit& unit);
  /// False: an op was answered twice. The frame ends with the connection then, as do those that wait.
  [[nodiscard]] bool answered(RequestFrame& frame, uint32_t replies);
  /// The link let go of it, and of the memory of its ops.
  void on_left(RequestFrame& frame);
  /// All that it waited for has come.
  void free_if_done(RequestFrame& frame);
  /// The link did not even take it.
  void on_never_left(RequestFrame& frame);
  /// The link is gone: every unit is lost, every frame is free.
  void lose_all();

  void add_exposure(RequestFrame& frame, Unit& unit, const transport::Exposure& memory);
  /// The newest one is none.
  void take_back_exposure(RequestFrame& frame, Unit& unit);
  /// Of an op of the frame, given up or not; null: nothing is exposed for it.
  FrameExposure* exposure_of(RequestFrame& frame, const Unit* unit, uint32_t index);
  /// The server writes there no more.
  void let_go(FrameExposure& exposure);
  bool holds_memory_of(const Request& op) const;

 private:
  void free(RequestFrame& frame);

  Shared& shared_;
  Credits& credits_;
  FrameList frames_;
  uint64_t request_counter_ = 0;
};

}  // namespace memkv::client
