#pragma once
/// Whole handshake frames over a socket, for both sides: one op at a time, a deadline, and an end that comes once.

#include <array>

#include "base/unique_fd.h"
#include "io/reactor.h"
#include "wire/messages.h"

namespace memkv::transport {

/// Reads exactly the frame asked for and no byte beyond it, so that what follows is the link's. Thread: the reactor's.
class HandshakeIo {
 public:
  HandshakeIo(const HandshakeIo&) = delete;
  HandshakeIo& operator=(const HandshakeIo&) = delete;

 protected:
  /// `deadline_ns` on the reactor's clock, 0 = none.
  HandshakeIo(io::Reactor& reactor, int fd, uint64_t deadline_ns);
  virtual ~HandshakeIo();

  void connect(const sockaddr* address, socklen_t length);
  /// Of the frozen handshake, or of the protocol's first version that comes behind it.
  void read_frame(uint8_t version = 0);
  /// One that may be MACed, and may bring two descriptors: the first after the handshake on a unix socket.
  void read_frame_with_descriptors();
  void write(std::span<const std::byte> bytes);  ///< borrowed until on_written
  /// Ends it: on_end(why) comes from the reactor when no op is in flight, after `farewell` (borrowed) was sent.
  void fail(const Error& why, std::span<const std::byte> farewell = {});

  virtual void on_connected() {}
  virtual void on_frame(std::span<const std::byte> frame) = 0;
  virtual void on_written() = 0;
  virtual void on_end(const Error& why) = 0;  ///< may destroy this

  bool failing() const { return failing_; }
  /// After the last frame: the deadline is over and the socket the caller's.
  [[nodiscard]] int release_fd();
  void set_fd(int fd) { fd_.reset(fd); }

  std::array<base::UniqueFd, 2> descriptors_;  ///< that came along

  io::Reactor& reactor_;

 private:
  enum class Step : uint8_t { kIdle, kConnect, kHeader, kBody, kWrite, kEnd };

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
