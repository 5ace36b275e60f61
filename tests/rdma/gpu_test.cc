/// GPU memory over rdma, in the guest, against a server in memory mode: MEMKV_SERVERS, GPU_TEST_SERVER_PID,
/// MEMKV_CUDART.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <ostream>
#include <string>

#include "memkv/client.h"
#include "tests/rdma/gpu_memory.h"

namespace memkv {
/// gtest would print a byte.
void PrintTo(Status status, std::ostream* out) { *out << to_string(status); }
}  // namespace memkv

namespace memkv::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr size_t kMiB = 1 << 20;
constexpr size_t kMemory = 20 * kMiB;
constexpr std::byte kPoison{0xEE};

std::vector<std::byte> pattern(size_t bytes, const std::string& key) {
  std::vector<std::byte> out(bytes);
  fill_pattern(out.data(), bytes, pattern_seed(key, 1));
  return out;
}

bool shell(const std::string& command) { return std::system(command.c_str()) == 0; }

class GpuTest : public testing::Test {
 protected:
  GpuTest() : memory_(kMemory) {
    static const auto real = dmabuf_registration();
    real_ = real;
    dmabuf_registration() = register_elsewhere;
    memory_.fill(kPoison);
  }
  Session open(Transport transport, std::vector<std::string> devices = {"rxe0", "rxe1"}) {
    return Session::connect({.transport = transport, .rdma_devices = std::move(devices)}).value();
  }
  Region registered(Session& session) {
    auto region = session.register_memory(memory_.data(), memory_.size(), MemoryKind::kCuda, 0);
    EXPECT_TRUE(region.ok()) << region.error().what;
    return std::move(*region);
  }
  static Outcome run(Session& session, Batch batch, milliseconds deadline = seconds(10)) {
    return session.run(batch, deadline).front();
  }
  /// Drives the session for at most ten seconds, until `fn` is true. Returns whether it became true.
  template <typename Fn>
  static bool soon(Session& session, Fn&& fn) {
    const auto end = std::chrono::steady_clock::now() + seconds(10);
    while (!fn()) {
      if (std::chrono::steady_clock::now() > end) return false;
      session.poll(milliseconds(50));
    }
    return true;
  }

  DeviceMemory memory_;
  decltype(&register_elsewhere) real_;
};

TEST_F(GpuTest, a_device_that_takes_no_dma_buf_says_so) {
  dmabuf_registration() = real_;  // the answer of soft-RoCE itself
  Session session = open(Transport::kRdma);
  const auto region = session.register_memory(memory_.data(), memory_.size(), MemoryKind::kCuda, 0);
  ASSERT_FALSE(region.ok());
  EXPECT_EQ(region.error().status, Status::kUnsupported);
  EXPECT_THAT(region.error().what, HasSubstr("RDMA device rxe0: it does not register a dma-buf: Operation not supp"));
  EXPECT_THAT(region.error().what, HasSubstr("rxe1"));
  dmabuf_registration() = nullptr;
  const auto old = session.register_memory(memory_.data(), memory_.size(), MemoryKind::kCuda, 0);
  EXPECT_THAT(old.error().what, HasSubstr("libibverbs is too old"));
}

TEST_F(GpuTest, blocks_of_all_sizes_go_both_ways) {
  Session session = open(Transport::kRdma);
  Session other = open(Transport::kTcp);  // looks into the store over another transport
  const Region region = registered(session);
  for (const size_t bytes : {size_t{1}, size_t{4096}, size_t{8192}, size_t{8193}, size_t{65536}, kMiB - 5, 2 * kMiB,
                             2 * kMiB + 1, 5 * kMiB + 4097, 16 * kMiB}) {
    const std::string out = "out/" + std::to_string(bytes), in = "in/" + std::to_string(bytes);
    const size_t at = bytes % 4096 == 0 ? 8192 : 777;
    SCOPED_TRACE(bytes);
    memory_.write(at, pattern(bytes, out));
    Outcome outcome = run(session, std::move(Batch().put(out, memory_.part(at, bytes))));
    ASSERT_EQ(outcome.status, Status::kOk);
    std::vector<std::byte> seen(bytes);
    ASSERT_TRUE(run(other, std::move(Batch().get(out, seen))).hit());
    EXPECT_TRUE(seen == pattern(bytes, out)) << "put";

    const auto sent = pattern(bytes, in);
    ASSERT_EQ(run(other, std::move(Batch().put(in, sent))).status, Status::kOk);
    memory_.fill(kPoison);
    outcome = run(session, std::move(Batch().get(in, memory_.part(at, bytes))));
    ASSERT_EQ(outcome.status, Status::kOk);
    EXPECT_EQ(outcome.bytes, bytes);
    EXPECT_TRUE(memory_.read(at, bytes) == sent) << "get";
    EXPECT_EQ(memory_.read(at - 1, 1)[0], kPoison);
    EXPECT_EQ(memory_.read(at + bytes, 1)[0], kPoison);
  }
  EXPECT_EQ(session.counters().staged_bytes, 0u);
}

TEST_F(GpuTest, ranges_short_blocks_pieces_and_misses) {
  Session session = open(Transport::kRdma);
  const Region region = registered(session);
  const auto block = pattern(3 * kMiB, "ranges");
  ASSERT_EQ(run(session, std::move(Batch().put("ranges", block))).status, Status::kOk);
  Outcome outcome = run(session, std::move(Batch().get("ranges", memory_.part(0, kMiB), 1'500'001)));
  ASSERT_EQ(outcome.status, Status::kOk);
  EXPECT_TRUE(std::ranges::equal(memory_.read(0, kMiB), std::span(block).subspan(1'500'001, kMiB)));

  ASSERT_EQ(run(session, std::move(Batch().put("short", std::span(block).first(100)))).status, Status::kOk);
  memory_.fill(kPoison);
  outcome = run(session, std::move(Batch().get("short", memory_.part(4096, 65536))));
  ASSERT_EQ(outcome.status, Status::kOk);
  EXPECT_EQ(outcome.bytes, 100u);
  EXPECT_TRUE(std::ranges::equal(memory_.read(4096, 100), std::span(block).first(100)));
  EXPECT_EQ(memory_.read(4196, 1)[0], kPoison);

  const std::vector<Piece> pieces = {{memory_.data() + 10 * kMiB, 100'000}, {memory_.data() + 7, 1'900'000}};
  outcome = run(session, std::move(Batch().get("ranges", std::span(pieces))));
  ASSERT_EQ(outcome.status, Status::kOk);
  EXPECT_TRUE(std::ranges::equal(memory_.read(10 * kMiB, 100'000), std::span(block).first(100'000)));
  EXPECT_TRUE(std::ranges::equal(memory_.read(7, 1'900'000), std::span(block).subspan(100'000, 1'900'000)));
  EXPECT_EQ(run(session, std::move(Batch().get("nobody", memory_.part(0, 100)))).status, Status::kMiss);
}

TEST_F(GpuTest, many_at_once_and_a_region_that_goes_under_them) {
  Session session = open(Transport::kRdma);
  const auto block = pattern(kMiB, "many");
  ASSERT_EQ(run(session, std::move(Batch().put("many", block))).status, Status::kOk);
  auto region = std::make_unique<Region>(registered(session));
  Batch batch;
  for (size_t i = 0; i < 16; i++) batch.get("many", memory_.part(i * kMiB, kMiB));
  for (const Outcome& outcome : session.run(batch, seconds(20))) EXPECT_TRUE(outcome.hit());
  for (size_t i = 0; i < 16; i++) EXPECT_TRUE(memory_.read(i * kMiB, kMiB) == block) << i;
  const Session::Ticket ticket = session.submit(batch, seconds(20));
  region.reset();  // waits until the server cannot write any more
  memory_.fill(kPoison);
  while (!session.done(ticket)) session.poll(milliseconds(100));
  for (const Outcome& outcome : session.collect(ticket)) {
    EXPECT_TRUE(outcome.hit() || outcome.status == Status::kUnsupported) << to_string(outcome.status);
  }
  EXPECT_TRUE(memory_.read(0, kMemory) == std::vector<std::byte>(kMemory, kPoison)) << "written after its region went";
}

TEST_F(GpuTest, pieces_that_cannot_go_together_are_refused) {
  Session session = open(Transport::kRdma);
  const Region region = registered(session);
  std::vector<std::byte> host(4096);
  const std::vector<Piece> mixed = {{memory_.data(), 4096}, {host.data(), 4096}};
  EXPECT_EQ(run(session, std::move(Batch().get("k", std::span(mixed)))).status, Status::kInvalid);
  const auto over = std::span(memory_.data() + kMemory - 100, 200);
  EXPECT_EQ(run(session, std::move(Batch().get("k", over))).status, Status::kInvalid) << "half of it is not registered";
  std::vector<Piece> to;
  std::vector<ConstPiece> from;
  for (size_t i = 0; i < 9; i++) {
    to.push_back({memory_.data() + i * 8192, 4096});
    from.push_back({memory_.data() + i * 8192, 4096});
  }
  EXPECT_EQ(run(session, std::move(Batch().get("k", std::span<const Piece>(to)))).status, Status::kUnsupported)
      << "an op names 8";
  EXPECT_EQ(run(session, std::move(Batch().put("nine", std::span<const ConstPiece>(from)))).status,
            Status::kUnsupported);
  EXPECT_EQ(run(session, std::move(Batch().exists("nine"))).status, Status::kMiss) << "nothing was done";
}

/// Flips a bit of these bytes where the server keeps them. False: the server does not have them.
bool rot(std::span<const std::byte> bytes) {
  const std::string proc = std::string("/proc/") + std::getenv("GPU_TEST_SERVER_PID");
  const int fd = ::open((proc + "/mem").c_str(), O_RDWR | O_CLOEXEC);
  std::ifstream maps(proc + "/maps");
  std::vector<std::byte> window(4 * kMiB);
  bool found = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0, end = 0;
    char access[8] = "";
    if (std::sscanf(line.c_str(), "%lx-%lx %7s", &begin, &end, access) != 3 || access[1] != 'w') continue;
    for (; begin < end; begin += window.size() - bytes.size()) {
      const ssize_t got = pread(fd, window.data(), std::min(window.size(), end - begin), static_cast<off_t>(begin));
      if (got < static_cast<ssize_t>(bytes.size())) break;
      void* at = memmem(window.data(), static_cast<size_t>(got), bytes.data(), bytes.size());
      if (!at) continue;
      const auto flipped = bytes[0] ^ std::byte{1};
      const auto where = begin + static_cast<size_t>(static_cast<std::byte*>(at) - window.data());
      found = pwrite(fd, &flipped, 1, static_cast<off_t>(where)) == 1 || found;
    }
  }
  close(fd);
  return found;
}

TEST_F(GpuTest, the_server_finds_bytes_that_rotted) {
  Session session = open(Transport::kRdma);
  const Region region = registered(session);
  for (const size_t bytes : {size_t{4096}, kMiB}) {
    SCOPED_TRACE(bytes);
    const auto block = pattern(bytes, "rot" + std::to_string(bytes));
    ASSERT_EQ(run(session, std::move(Batch().put("rot", block))).status, Status::kOk);
    ASSERT_EQ(run(session, std::move(Batch().get("rot", memory_.part(0, bytes)))).status, Status::kOk);
    ASSERT_TRUE(rot(std::span(block).subspan(bytes / 2, 64)));
    memory_.fill(kPoison);
    EXPECT_EQ(run(session, std::move(Batch().get("rot", memory_.part(0, bytes)))).status, Status::kMiss);
    EXPECT_TRUE(memory_.read(0, bytes) == std::vector<std::byte>(bytes, kPoison)) << "nothing was written";
  }
  EXPECT_EQ(session.counters().corrupt, 0u) << "the client has not looked";
}

TEST_F(GpuTest, no_rail_means_unsupported_and_a_rail_that_is_back_serves_again) {
  Session session = open(Transport::kAuto, {"rxe1"});
  const Region region = registered(session);
  const auto block = pattern(kMiB, "rail");
  ASSERT_EQ(run(session, std::move(Batch().put("rail", block))).status, Status::kOk);
  const auto get = [&] { return run(session, std::move(Batch().get("rail", memory_.part(0, kMiB)))).status; };
  ASSERT_EQ(get(), Status::kOk) << "it waits for the first probe";
  ASSERT_TRUE(shell("rdma link delete rxe1 &"));  // it waits until we let go of the device
  memory_.fill(kPoison);
  ASSERT_TRUE(soon(session, [&] { return get() == Status::kUnsupported; }));
  memory_.fill(kPoison);
  EXPECT_EQ(get(), Status::kUnsupported);
  EXPECT_EQ(run(session, std::move(Batch().put("rail", memory_.part(0, kMiB)))).status, Status::kUnsupported);
  EXPECT_EQ(run(session, std::move(Batch().put("rail", memory_.part(0, 5 * kMiB)))).status, Status::kUnsupported);
  EXPECT_TRUE(memory_.read(0, kMiB) == std::vector<std::byte>(kMiB, kPoison));
  std::vector<std::byte> seen(kMiB);
  ASSERT_TRUE(run(session, std::move(Batch().get("rail", seen))).hit()) << "host memory goes over tcp";
  EXPECT_TRUE(seen == block) << "the puts had no effect";
  ASSERT_TRUE(soon(session, [] { return shell("rdma link add rxe1 type rxe netdev nic1"); }));
  EXPECT_TRUE(soon(session, [&] { return get() == Status::kOk; })) << "registered anew with the new device";
  EXPECT_TRUE(memory_.read(0, kMiB) == block);
}

TEST_F(GpuTest, a_client_over_tcp_takes_no_gpu_memory) {
  Session session = open(Transport::kTcp);
  const auto region = session.register_memory(memory_.data(), memory_.size(), MemoryKind::kCuda, 0);
  ASSERT_FALSE(region.ok());
  EXPECT_EQ(region.error().status, Status::kUnsupported);
}

}  // namespace
}  // namespace memkv::test
