#include "tools/bench/ceiling.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "base/random.h"
#include "io/device.h"
#include "io/huge_memory.h"
#include "tools/bench/bare.h"
#include "tools/bench/rounds.h"

namespace memkv::bench {
namespace {

constexpr uint64_t kColdBytes = 256 << 20;
constexpr double kSeconds = 0.5;

/// Calls `once(i)` for half a second, over blocks of cold memory. Returns GiB/s.
template <typename Once>
double rate(uint64_t block_bytes, Once&& once) {
  const double started = monotonic_seconds();
  uint64_t i = 0;
  do {
    once(i++);
  } while (i % 16 != 0 || monotonic_seconds() - started < kSeconds);
  return static_cast<double>(i * block_bytes) / (monotonic_seconds() - started) / (1 << 30);
}

/// Keeps `depth` ops under way on a device.
class DriveLoop {
 public:
  DriveLoop(io::BlockDevice& device, std::span<std::byte> memory, uint64_t file_bytes, uint64_t block, bool write)
      : device_(device), memory_(memory), places_(file_bytes / block), block_(block), write_(write) {}

  uint64_t run(io::Reactor& reactor, uint32_t depth, double seconds) {
    ops_.resize(depth);
    until_ = monotonic_seconds() + seconds;
    for (uint32_t i = 0; i < depth; i++) {
      ops_[i].io.context = this;
      ops_[i].io.on_done = [](io::IoOp& op, int32_t n) { static_cast<DriveLoop*>(op.context)->on_done(op, n); };
      ops_[i].piece = {memory_.data() + i * block_, block_};
      start(ops_[i]);
    }
    while (reactor.pending() > 0) reactor.run_once(100'000'000);
    return failed_ ? 0 : done_;
  }

 private:
  struct One {
    io::IoOp io;
    iovec piece{};
  };
  void start(One& one) {
    const uint64_t offset = random_.below(places_) * block_;
    const auto started = write_ ? device_.write(one.io, offset, {&one.piece, 1}, device_.info().volatile_cache)
                                : device_.read(one.io, offset, {&one.piece, 1});
    failed_ = failed_ || !started;
  }
  void on_done(io::IoOp& op, int32_t n) {
    failed_ = failed_ || n < 0;
    done_++;
    if (!failed_ && monotonic_seconds() < until_) start(reinterpret_cast<One&>(op));
  }
  io::BlockDevice& device_;
  std::span<std::byte> memory_;
  uint64_t places_, block_;
  bool write_, failed_ = false;
  double until_ = 0;
  uint64_t done_ = 0;
  std::vector<One> ops_;
  base::Random random_{1};
};

}  // namespace

Result<Best, Message> best_of_peer(const PeerTest& test) {
  Best best;
  for (const uint32_t connections : test.connections) {
    for (const uint32_t depth : test.depths) {
      PeerPlan plan;
      plan.peer = test.peer;
      plan.put = test.put;
      plan.hash = test.hash;
      plan.lend = test.lend && test.put;
      plan.block_bytes = test.block_bytes;
      plan.connections = connections;
      plan.depth = depth;
      plan.keys = test.keys;
      plan.bytes = uint64_t{1} << 50;
      plan.window_bytes = std::max(test.window_bytes, connections * depth * test.block_bytes);
      plan.seconds_max = test.seconds;
      plan.congestion = test.congestion;
      PeerResult result;
      if (auto run = run_peer(plan, result); !run) return run.error();
      if (result.gib_per_s() <= best.gib_per_s) continue;
      best = {result.gib_per_s(),
              result.ops_per_s(),
              connections,
              depth,
              static_cast<double>(result.latency.percentile_ns(50)) / 1e3,
              result.cpu_s_per_gib()};
    }
  }
  return best;
}

Result<BareServers, Message> start_bare_servers(const std::string& congestion) {
  auto plain = start_bare({.congestion = congestion});
  if (!plain) return plain.error();
  auto hashing = start_bare({.hash = true, .congestion = congestion});
  if (!hashing) return hashing.error();
  auto lending = start_bare({.lend = true, .congestion = congestion});
  if (!lending) return lending.error();
  return BareServers{std::move(*plain), std::move(*hashing), std::move(*lending)};
}

double memcpy_gib_per_s(uint64_t block_bytes) {
  auto from = io::HugeMemory::make(kColdBytes, true), to = io::HugeMemory::make(kColdBytes, true);
  if (!from || !to) return 0;
  const uint64_t places = kColdBytes / block_bytes;
  return rate(block_bytes, [&](uint64_t i) {
    const uint64_t at = i % places * block_bytes;
    std::memcpy(to->data() + at, from->data() + at, block_bytes);
  });
}

double fan_out_gib_per_s(uint64_t block_bytes) {
  const uint64_t set_bytes = (kFanOut + 1) * block_bytes;
  const uint64_t sets = std::max<uint64_t>(1, kColdBytes / set_bytes);
  auto memory = io::HugeMemory::make(sets * set_bytes, /*prefault=*/true);
  if (!memory) return 0;
  const double set_rate = rate(block_bytes, [&](uint64_t i) {
    std::byte* source = memory->data() + i % sets * set_bytes;
    for (uint64_t to = 1; to <= kFanOut; to++) std::memcpy(source + to * block_bytes, source, block_bytes);
  });
  return set_rate * kFanOut;
}

double hash_gib_per_s(uint64_t block_bytes) {
  auto from = io::HugeMemory::make(kColdBytes, true);
  if (!from) return 0;
  const uint64_t places = kColdBytes / block_bytes;
  return rate(block_bytes, [&](uint64_t i) { hash_block({from->data() + i % places * block_bytes, block_bytes}, i); });
}

Result<double, Message> drive_gib_per_s(const std::string& path, uint64_t file_bytes, uint64_t block_bytes, bool write,
                                        uint32_t depth, double seconds) {
  auto file = io::DriveFile::open(path, {.lock = false});
  if (!file) return file.error();
  auto reactor = io::make_reactor({}, nullptr);
  if (!reactor) return Message{reactor.error().status, reactor.error().what};
  auto memory = io::HugeMemory::make(block_bytes * depth, true);
  if (!memory) return Message{memory.error().status, "no memory for the drive test"};
  (*reactor)->register_memory(memory->bytes());
  const auto device = (*file)->bind(**reactor);
  const double started = monotonic_seconds();
  const uint64_t ops =
      DriveLoop(*device, memory->bytes(), file_bytes, block_bytes, write).run(**reactor, depth, seconds);
  if (ops == 0) return Message{Status::kIo, "the drive test failed on " + path};
  return static_cast<double>(ops * block_bytes) / (monotonic_seconds() - started) / (1 << 30);
}

Result<void, Message> make_drive_file(const std::string& path, uint64_t bytes) {
  return io::create_drive_file(path, bytes, nullptr, nullptr);
}

}  // namespace memkv::bench
