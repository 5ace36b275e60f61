#pragma once
/// The least that two processes with shared memory have to do: a ring each way, with the bare server's protocol. The
/// shm transport is measured against it.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memkv/error.h"
#include "tools/bench/ceiling.h"
#include "tools/bench/child.h"

namespace memkv::bench {

struct RingShared;

/// A process that serves one client over rings. A get is copied from cold memory into a ring and out of it. A put is
/// copied into a ring and read out of it by pread, as MemKV's server does. Both ends poll, and yield the CPU.
class RingPeer {
 public:
  /// Start it before any thread, since it forks.
  static Result<std::unique_ptr<RingPeer>, Message> start(uint64_t ring_bytes);
  ~RingPeer();
  RingPeer(const RingPeer&) = delete;
  RingPeer& operator=(const RingPeer&) = delete;

  struct Test {
    bool put = false;
    bool hash = false;  ///< hash each 64 KiB as it is copied: a put at both ends, a get at the client
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

/// Takes the best over rings of several sizes.
class RingPeers {
 public:
  static Result<RingPeers, Message> start();
  Result<Best, Message> best(RingPeer::Test test);

 private:
  std::vector<std::unique_ptr<RingPeer>> peers_;
};

}  // namespace memkv::bench
