#include "tools/bench/bare_ring.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <new>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/hash.h"
#include "base/metrics.h"
#include "io/huge_memory.h"
#include "tools/bench/bare.h"
#include "tools/bench/rounds.h"

namespace memkv::bench {

struct RingIndex {
  alignas(128) std::atomic<uint64_t> written{0};
  alignas(128) std::atomic<uint64_t> read{0};
};
struct RingShared {
  RingIndex get, put;
};

namespace {

constexpr size_t kPart = base::kGrainBytes;  // size of a part that is shown to the other end, and hashed
constexpr uint64_t kColdBytes = 256 << 20;
constexpr uint64_t kPageBytes = 4096;

uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void hash_part(const std::byte* data, size_t bytes) {
  uint64_t sum = base::xxh3({data, bytes}, 1);
  asm volatile("" : : "r"(sum));  // keeps the sum from being optimized away
}

/// One direction, from the writer's or the reader's side. It waits by polling, and naps after a long while without
/// work.
class Ring {
 public:
  Ring(RingIndex& index, std::byte* memory, uint64_t bytes, int read_fd)
      : index_(index), memory_(memory), bytes_(bytes), fd_(read_fd) {}

  void write(const void* data, size_t bytes) {
    const auto* from = static_cast<const std::byte*>(data);
    while (bytes > 0) {
      const uint64_t at = index_.written.load(std::memory_order_relaxed), offset = at & (bytes_ - 1);
      const uint64_t room = wait([&] { return bytes_ - (at - index_.read.load(std::memory_order_acquire)); });
      const size_t n = std::min({bytes, kPart, room, bytes_ - offset});
      std::memcpy(memory_ + offset, from, n);
      index_.written.store(at + n, std::memory_order_release);
      from += n;
      bytes -= n;
    }
  }
  void read(void* data, size_t bytes, bool hash) {
    auto* to = static_cast<std::byte*>(data);
    while (bytes > 0) {
      const uint64_t at = index_.read.load(std::memory_order_relaxed), offset = at & (bytes_ - 1);
      const uint64_t there = wait([&] { return index_.written.load(std::memory_order_acquire) - at; });
      const size_t n = std::min({bytes, kPart, there, bytes_ - offset});
      if (fd_ < 0) {
        std::memcpy(to, memory_ + offset, n);
      } else if (pread(fd_, to, n, static_cast<off_t>(offset)) != static_cast<ssize_t>(n)) {
        _exit(1);
      }
      index_.read.store(at + n, std::memory_order_release);
      if (hash) hash_part(to, n);
      to += n;
      bytes -= n;
    }
  }

 private:
  template <typename Ready>
  uint64_t wait(Ready&& ready) {
    for (uint64_t turns = 0;; turns++) {
      if (const uint64_t n = ready(); n > 0) return n;
      turns < 20'000 ? static_cast<void>(sched_yield()) : static_cast<void>(usleep(2000));
    }
  }
  RingIndex& index_;
  std::byte* const memory_;
  const uint64_t bytes_;
  const int fd_;
};

int serve(RingShared& shared, std::byte* get_memory, uint64_t ring_bytes, int put_fd) {
  auto cold = io::HugeMemory::make(kColdBytes, true);
  if (!cold) return 1;
  Ring in(shared.put, nullptr, ring_bytes, put_fd), out(shared.get, get_memory, ring_bytes, -1);
  while (true) {
    BareHeader header{};
    in.read(&header, sizeof header, false);
    const bool put = (header.put & 1) != 0, hash = (header.put & 2) != 0;
    const uint64_t places = std::max<uint64_t>(1, kColdBytes / header.bytes);
    std::byte* block = cold->data() + header.number % places * header.bytes;
    if (put) in.read(block, header.bytes, hash);
    out.write(&header, sizeof header);
    if (!put) out.write(block, header.bytes);
  }
}

}  // namespace

Result<std::unique_ptr<RingPeer>, Message> RingPeer::start(uint64_t ring_bytes) {
  std::unique_ptr<RingPeer> peer(new RingPeer);
  peer->ring_bytes_ = ring_bytes;
  const uint64_t bytes = kPageBytes + ring_bytes;
  void* get = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  const uint64_t put_bytes = base::align_up(ring_bytes, io::kHugePageBytes);
  peer->put_fd_ = memfd_create("memkv-bare-ring", MFD_CLOEXEC);
  if (get == MAP_FAILED || peer->put_fd_ < 0 || ftruncate(peer->put_fd_, static_cast<off_t>(put_bytes)) != 0) {
    return Message{Status::kIo, "no shared memory for the bare ring"};
  }
  (void)io::use_huge_pages(peer->put_fd_, put_bytes);
  peer->shared_ = new (get) RingShared;
  peer->child_ = Child::fork(
      "", [&] { return serve(*peer->shared_, static_cast<std::byte*>(get) + kPageBytes, ring_bytes, peer->put_fd_); });
  return peer;
}

RingPeer::~RingPeer() {
  child_.reset();
  if (shared_ != nullptr) munmap(shared_, kPageBytes + ring_bytes_);
  if (put_fd_ >= 0) close(put_fd_);
}

/// Moves blocks through the bare ring for the time of the test, with `depth` of them under way. It does the same copies
/// and hashes as the shm transport and nothing else, so its rate is the ceiling of that transport.
Result<Best, Message> RingPeer::measure(const Test& test) {
  auto window = io::HugeMemory::make(std::max(test.window_bytes, test.block_bytes), true);
  void* put = mmap(nullptr, ring_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, put_fd_, 0);
  if (!window || put == MAP_FAILED) return Message{Status::kIo, "no memory for the bare ring"};
  Ring out(shared_->put, static_cast<std::byte*>(put), ring_bytes_, -1);
  Ring in(shared_->get, reinterpret_cast<std::byte*>(shared_) + kPageBytes, ring_bytes_, -1);
  const uint64_t places = std::max<uint64_t>(1, window->bytes().size() / test.block_bytes);
  const auto block = [&](uint64_t i) { return window->data() + i % places * test.block_bytes; };
  const auto ask = [&](uint64_t i) {
    const BareHeader header{(test.put ? 1u : 0u) | (test.hash ? 2u : 0u), static_cast<uint32_t>(test.block_bytes), i};
    if (test.put && test.hash) hash_block({block(i), test.block_bytes}, i);
    out.write(&header, sizeof header);
    if (test.put) out.write(block(i), test.block_bytes);
  };
  base::Histogram latency;
  std::deque<uint64_t> asked_ns;
  uint64_t asked = 0, done = 0;
  const double started = monotonic_seconds();
  double ended = started;
  for (bool more = true; more || done < asked;) {
    while (more && asked - done < test.depth) {
      if (test.depth == 1) asked_ns.push_back(now_ns());
      ask(asked++);
    }
    BareHeader header{};
    in.read(&header, sizeof header, false);
    if (!test.put) in.read(block(done), test.block_bytes, test.hash);
    if (test.depth == 1) {
      latency.record(now_ns() - asked_ns.front());
      asked_ns.pop_front();
    }
    done++;
    if (done % 8 == 0 || test.block_bytes > 65536) more = (ended = monotonic_seconds()) - started < test.seconds;
  }
  munmap(put, ring_bytes_);
  const double seconds = monotonic_seconds() - started;
  Best best;
  best.ops_per_s = static_cast<double>(done) / seconds;
  best.gib_per_s = best.ops_per_s * static_cast<double>(test.block_bytes) / (1 << 30);
  best.connections = 1;
  best.depth = test.depth;
  best.p50_us = test.depth == 1 ? static_cast<double>(latency.percentile_ns(50)) / 1e3 : 0;
  return best;
}

Result<RingPeers, Message> RingPeers::start() {
  RingPeers peers;
  for (const uint64_t bytes : {256u << 10, 1u << 20, 4u << 20}) {
    auto peer = RingPeer::start(bytes);
    if (!peer) return peer.error();
    peers.peers_.push_back(std::move(*peer));
  }
  return peers;
}

Result<Best, Message> RingPeers::best(RingPeer::Test test) {
  Best best;
  for (const auto& peer : peers_) {
    auto one = peer->measure(test);
    if (!one) return one.error();
    if (one->gib_per_s > best.gib_per_s) best = *one;
  }
  return best;
}

}  // namespace memkv::bench
