#pragma once
/// The link of a connection: how far it is, and whether its peer lives.

#include <memory>
#include <string>

#include "client/remote/clock_bound.h"
#include "client/settings.h"
#include "transport/link.h"

namespace memkv::client {

/// What is known of a server.
struct ServerFacts {
  ServerAddress address;
  wire::Welcome welcome;
  bool known = false;       ///< a server process answered over tcp: `welcome` is its
  uint64_t map_number = 1;  ///< grows when the map in `welcome` becomes another
  const std::string& name() const { return address.name; }
  /// True: it is the process that was known already. Over tcp it is the one that is known from here on.
  bool learn(const wire::Welcome& welcome, Transport transport);
};

/// What the parts of a connection know of its peer's life. Thread: the context's.
struct Liveness {
  uint64_t heard_ns = 0;   ///< last frame or payload; or when the first frame after a silence left
  uint64_t pinged_ns = 0;  ///< 0 = no ping is unanswered
  ClockBound clock;        ///< of the server
  uint64_t asked_id = 0;   ///< of the last PING, and when it left: for the clock
  uint64_t asked_ns = 0;

  void on_heard(uint64_t now_ns) { heard_ns = now_ns, pinged_ns = 0; }
};

/// Links come and go; a line stays. Thread: the context's.
struct Line {
  enum class State : uint8_t { kIdle, kConnecting, kWelcoming, kOpen, kClosing };

  const ServerFacts& server;
  const uint32_t number;  ///< of the connection at its server
  const Transport transport;
  const size_t rail;  ///< with rdma, which of this host's devices
  uint16_t worker;    ///< wanted; once it is open, had
  State state = State::kIdle;
  uint64_t since_ns = 0;  ///< when it was opened, or its opening began
  uint64_t epoch = 0;     ///< of the link: uploads belong to one
  std::unique_ptr<transport::Link> link;
  Liveness peer;

  bool open() const { return state == State::kOpen; }
  bool is_one_sided() const { return transport == Transport::kRdma; }
  /// A link that there is ends; LinkOwner::on_closed follows.
  void close(Status why);
  /// The peer does not keep to the protocol.
  void end_for_error(const char* what);
};

}  // namespace memkv::client
