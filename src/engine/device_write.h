#pragma once
/// One write of a log to its device.

#include <cstddef>
#include <cstdint>

#include "io/device.h"
#include "io/reactor.h"

namespace memkv::engine {

/// A device without room for one more op says nothing of the drive: the write waits, and is tried again. What it refuses
/// otherwise is completed from the loop, like every other failure.
///
/// Borrows the memory until `on_done`. Thread: worker.
class DeviceWrite {
 public:
  DeviceWrite() = default;
  ~DeviceWrite();
  DeviceWrite(const DeviceWrite&) = delete;
  DeviceWrite& operator=(const DeviceWrite&) = delete;

  /// Once, before anything else.
  void set_up(io::Reactor& reactor, io::BlockDevice& device, bool dsync, io::IoOp::Fn on_done, void* context);
  void start(std::byte* memory, size_t bytes, uint64_t offset);
  /// The same again.
  void start_again();
  bool pending() const { return io_.pending() || again_.armed(); }
  size_t bytes() const { return piece_.iov_len; }
  const std::byte* memory() const { return static_cast<const std::byte*>(piece_.iov_base); }

 private:
  io::Reactor* reactor_ = nullptr;
  io::BlockDevice* device_ = nullptr;
  bool dsync_ = false;
  io::IoOp io_;
  iovec piece_{};
  uint64_t offset_ = 0;
  io::Timer again_;
};

}  // namespace memkv::engine
