#pragma once
/// A client that writes the bytes of the wire protocol itself, so that it can break all rules of good behaviour.

#include <netinet/in.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "wire/handshake.h"
#include "wire/messages.h"

namespace memkv::test {

/// Where to connect, and as whom. Wire version 1 has no INTRODUCE, and its OPS body begins with the op count alone.
struct Target {
  sockaddr_in address{};
  std::string shm_dir;  ///< folder of the server's socket
  wire::Secret secret{};
  std::array<uint8_t, 16> client_id{};  ///< the same for all connections
  uint16_t wire_version = wire::kVersionMax;
};

/// One connection over tcp. Its handshake blocks, and nothing else does. Thread: one.
class RawClient {
 public:
  struct Frame {
    wire::Opcode opcode{};
    std::string body;
  };

  /// Returns when WELCOME has arrived. None: `why` says what came instead.
  static std::optional<RawClient> open(const Target& target, std::string& why);
  /// Connects over shm, takes the window and leaves. The window's two descriptors belong to the caller.
  static bool take_window(const Target& target, base::UniqueFd (&window)[2], std::string& why);

  int fd() const { return fd_.get(); }
  /// Queues a frame that announces `payload_bytes`. The caller sends them when and how it likes.
  void queue(wire::Opcode opcode, std::span<const std::byte> body, uint32_t payload_bytes = 0);
  void queue_bytes(std::string_view bytes) { out_ += bytes; }
  bool all_sent() const { return out_.empty(); }
  /// Writes what the socket takes. False: the connection has ended.
  bool push();
  /// Reads what is there, at most `bytes_max` of it. False: the connection has ended.
  bool pull(size_t bytes_max);
  /// The next whole frame of what was read, without its payload.
  std::optional<Frame> next_frame();

 private:
  bool shake_hands(const Target& target, uint8_t transport, std::string& why);
  bool send_all(std::span<const std::byte> bytes);
  std::string receive_frame();

  base::UniqueFd fd_;
  wire::SessionKeys keys_{};
  uint16_t wire_version_ = 0;
  uint64_t sequence_ = 0;
  uint64_t request_ = 0;
  std::string out_, in_;
  size_t payload_left_ = 0;  ///< payload of the frame before that has not arrived yet
};

}  // namespace memkv::test
