#pragma once
/// Whole handshake frames over a socket, for both sides: one op at a time, a deadline, and an end that comes once.

#include <array>

#include "base/unique_fd.h"
#include "io/reactor.h"
#include "wire/messages.h"

namespace memkv::transport {

/// Reads exactly the frame that it was asked for, and no byte beyond it: what follows belongs to the link. Thread: the
/// reactor's.
class HandshakeIo {
 public:
  HandshakeIo(const HandshakeIo&) = delete;
  HandshakeIo& operator=(const HandshakeIo&) = delete;

 protected:
  /// `deadline_ns` on the reactor's clock, 0 = none.
  HandshakeIo(io::Reactor& reactor, int fd, uint64_t deadline_ns);
  virtual ~HandshakeIo();

  void connect(const sockaddr* address, socklen_t length);
  /// Reads one frame: of the frozen handshake (version 0), or of this version of the protocol.
  void read_frame(uint8_t version = 0);
  /// Reads a frame that may have a MAC and bring two descriptors: the first one after the handshake on a unix socket.
  void read_frame_with_descriptors();
  void write(std::span<const std::byte> bytes);  ///< borrowed until on_written
  /// Ends the handshake: sends `farewell` (borrowed), then calls on_end(why) from the reactor, when no op is in flight.
  void fail(const Error& why, std::span<const std::byte> farewell = {});

  virtual void on_connected() {}
  virtual void on_frame(std::span<const std::byte> frame) = 0;
  virtual void on_written() = 0;
  virtual void on_end(const Error& why) = 0;  ///< may destroy this

  bool failing() const { return failing_; }
  /// Call it after the last frame. It stops the deadline and gives the socket to the caller.
  [[nodiscard]] int release_fd();
  void set_fd(int fd) { fd_.reset(fd); }

  std::array<base::UniqueFd, 2> descriptors_;  ///< those that came with a frame

  io::Reactor& reactor_;

 private:
  /// What the op under way does: its completion is understood by this.
  enum class Step : uint8_t {
    kIdle,     ///< no op
    kConnect,  ///< connects
    kHeader,   ///< reads a frame's header
    kBody,     ///< reads the body that the header announced
    kWrite,    ///< writes a frame, or the farewell
    kEnd,      ///< on_end() comes with the op or the timer
  };

  void on_op(int32_t result);
  void on_deadline();
  void on_read(size_t bytes);
  void submit_read();
  void submit_write();
  void end_soon();
  void take_descriptors();

  base::UniqueFd fd_;
  io::IoOp op_;
  io::Timer timer_;
  Step step_ = Step::kIdle;
  bool failing_ = false;
  bool farewell_ = false;  // what is being written is the last that the peer hears
  Error why_;
  std::span<const std::byte> out_;
  iovec piece_{};
  uint8_t version_ = 0;
  size_t have_ = 0;
  size_t want_ = 0;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(2 * sizeof(int))> control_;
  std::array<std::byte, wire::kHelloBytesMax> buffer_;
};

}  // namespace memkv::transport
