#pragma once
/// The sending side of a connection: frames made of queued units.

#include <initializer_list>

#include "client/remote/frames_out.h"
#include "client/remote/line.h"
#include "client/remote/send_queues.h"

namespace memkv::client {

/// Sends what credit allows, and takes back what is given up. Thread: the context's.
class Sender {
 public:
  Sender(Shared& shared, Line& line, Credits& credits, FramesOut& frames)
      : shared_(shared), line_(line), credits_(credits), frames_(frames) {}
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  SendQueues& queues() { return queues_; }
  const SendQueues& queues() const { return queues_; }
  /// Makes frames of what is queued and may leave now.
  void pump();
  /// Gives up a unit that is in a frame: a late reply goes nowhere. Its memory must be quiet, or be a frame's
  /// (Request::holds).
  void give_up(Unit& unit);
  /// The unit is in a frame, and ends: its reply goes nowhere.
  void forget(Unit& unit) { frames_.take_unit(*unit.frame, unit.index); }

  void introduce();
  void ping();
  void answer_ping(uint64_t request_id);
  void send_suspect(std::string_view key, uint64_t offset);
  void send_abort(uint64_t upload);

 private:
  bool may_send() const;
  bool send_ops();
  bool send_gets();
  bool send_large();
  bool send_gpu();
  bool send_hints();
  bool send_exists();
  bool send_admin();
  void send_alone(RequestFrame& frame, Unit& unit, uint32_t credit);
  RequestFrame& frame_for(std::initializer_list<const UnitQueue*> queues);
  wire::OpsEncoder begin_ops(RequestFrame& frame);
  wire::Op to_wire(const Unit& unit, uint16_t index) const;
  bool server_sums(const Request& op) const;
  bool add_op(RequestFrame& frame, wire::OpsEncoder& encoder, Unit& unit);
  void add_unit(RequestFrame& frame, Unit& unit);
  bool expose(RequestFrame& frame, Unit& unit);
  void stage_payload(RequestFrame& frame);
  void send(RequestFrame& frame, wire::Opcode opcode, std::span<const std::byte> body, uint64_t echoed_id = 0);
  uint64_t send_control(wire::Opcode opcode, std::span<const std::byte> body, uint64_t echoed_id = 0);
  void send_op_without_unit(const wire::Op& op);
  void send_cancel(uint64_t request_id, uint16_t index);
  void on_sent(RequestFrame& frame, bool sent);
  uint64_t link_payload_max() const;

  Shared& shared_;
  Line& line_;
  Credits& credits_;
  FramesOut& frames_;
  SendQueues queues_;
  bool gets_first_ = false;    ///< large gets and other ops go first in turn
  std::vector<iovec> slices_;  ///< of one unit, for a moment
};

}  // namespace memkv::client
