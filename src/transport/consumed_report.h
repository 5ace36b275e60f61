#pragma once
/// What this end says of the payload bytes that it has received (wire::Consumed).

#include "io/reactor.h"
#include "transport/link.h"

namespace memkv::transport {

/// Counts payloads as they arrive, and sends CONSUMED: when one is complete that the peer may have lent, when many small
/// ones have come, and now and then while one arrives slowly. Thread: the reactor's.
class ConsumedReport {
 public:
  ConsumedReport(io::Reactor& reactor, Link& link) : reactor_(reactor), link_(link) {
    frame_.opcode = wire::Opcode::kConsumed;
    frame_.context = this;
    frame_.on_done = [](SendFrame& frame, bool sent) { static_cast<ConsumedReport*>(frame.context)->on_sent(sent); };
  }
  ConsumedReport(const ConsumedReport&) = delete;
  ConsumedReport& operator=(const ConsumedReport&) = delete;

  /// A frame with so much payload begins.
  void begin(uint32_t payload_bytes) { arriving_bytes_ = payload_bytes; }
  /// So much of it was received.
  void part(size_t arrived);
  /// All of it was.
  void complete();

 private:
  void say(uint64_t bytes);
  void on_sent(bool sent);

  io::Reactor& reactor_;
  Link& link_;
  SendFrame frame_;
  std::array<std::byte, 8> body_{};
  uint32_t arriving_bytes_ = 0;
  uint64_t consumed_ = 0;  // of whole payloads
  uint64_t wanted_ = 0;    // the newest that is to be said
  uint64_t said_ = 0;
  uint64_t said_ns_ = 0;
};

}  // namespace memkv::transport
