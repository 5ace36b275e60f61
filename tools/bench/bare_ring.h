#pragma once
/// The least that two processes with shared memory can do: a ring each way, the protocol of the bare server. What the
/// shm transport is measured against.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memkv/error.h"
#include "tools/bench/ceiling.h"
#include "tools/bench/child.h"

namespace memkv::bench {

struct RingShared;

/// A process that serves one client over rings. A get is copied from cold memory into a ring and out of it; a put is
/// copied into a ring and read out of it by pread, as MemKV's server does. Both ends poll, and yield the CPU.
class RingPeer {
 public:
  /// Start it before threads.
  static Result<std::unique_ptr<RingPeer>, Message> start(uint64_t ring_bytes);
  ~RingPeer();
  RingPeer(const RingPeer&) = delete;
  RingPeer& operator=(const RingPeer&) = delete;

  struct Test {
    bool put = false;
    bool hash = false;  ///< both ends of a put, the client of a get, each 64 KiB as it is copied
    uint64_t block_bytes = 0;
    uint64_t window_bytes = 0;
    uint32_t depth = 8;
    double seconds = 0.4;
  };
  Result<Best, Message> measure(const Test& test);

 private:
  RingPeer() = default;
  uint64_t ring_bytes_ = 0;
  int put_fd_ = -1;
  RingShared* shared_ = nullptr;
  std::unique_ptr<Child> child_;
};

/// The best over rings of several sizes.
class RingPeers {
 public:
  static Result<RingPeers, Message> start();
  Result<Best, Message> best(RingPeer::Test test);

 private:
  std::vector<std::unique_ptr<RingPeer>> peers_;
};

}  // namespace memkv::bench
