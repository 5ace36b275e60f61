#pragma once
/// Opening a link: what the two ends tell each other over the control connection behind the handshake.

#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "transport/link.h"
#include "transport/rdma/rdma_link.h"

namespace memkv::transport::rdma {

/// Frame 0 of a direction, with `body`, MACed. Returns its bytes.
size_t write_control(wire::Opcode opcode, std::span<const std::byte> body, const base::SipKey& key,
                     std::span<std::byte> out);
/// Frame 0 of a direction: the peer's end. kUnavailable: the peer said GOODBYE, in `goodbye` if that is given.
Result<wire::RdmaEnd> read_control(std::span<const std::byte> frame, const base::SipKey& key, wire::Opcode expected,
                                   std::string* goodbye = nullptr);

/// The server's side, behind the acceptor: makes a queue pair on the device that reaches the client's, connects it,
/// tells the client. Owned by the caller until on_done. Thread: the reactor's.
class Opening {
 public:
  using Fn = void (*)(void* context, Opening& opening, Result<LinkParts, Message> parts);
  static std::unique_ptr<Opening> make(Poller& poller, int fd, const wire::SessionKeys& keys,
                                       const wire::RdmaEnd& client, uint64_t deadline_ns, Fn on_done, void* context);
  virtual ~Opening() = default;  ///< from inside on_done or later
};

/// The client's side. `rail`: which of this host's devices. See Connector.
std::unique_ptr<Connector> make_connector(Poller& poller, size_t rail, const sockaddr* address, socklen_t length,
                                          const Connector::Options& options, LinkOwner& owner, Connector::Fn on_done,
                                          void* context);
/// Tells the client why there is no RDMA here, and closes. Never blocks: what the socket does not take at once is lost.
void refuse(int fd, const wire::SessionKeys& keys, std::string_view why);

}  // namespace memkv::transport::rdma
