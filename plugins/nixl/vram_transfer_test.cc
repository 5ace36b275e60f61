#include "vram_transfer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>
#include <thread>

#include "cuda_testing.h"
#include "tests/support/pattern.h"

namespace memkv::nixl {
namespace {

using Bytes = std::vector<unsigned char>;
constexpr uint64_t kSlot = StagingPool::kSlotBytes;
constexpr uint64_t kLater = ~0ull;

/// A store of one block. Ops are answered when the test says so (`open`), in any order.
class OneBlockWire final : public StagedWire {
 public:
  struct Op {
    bool under_way = false;
    bool canceled = false;
    uint64_t offset = 0;
    Piece to;
    Generation demanded = 0;
    std::vector<ConstPiece> from;
    uint64_t fed = 0;
  };

  void get(uint32_t lane, uint64_t offset, Piece to, Generation if_generation) override {
    EXPECT_FALSE(ops[lane].under_way);
    EXPECT_LE(to.size, kSlot);
    EXPECT_EQ(offset / kSlot, (offset + to.size - 1) / kSlot) << "a unit lies in one chunk";
    ++gets;
    ops[lane] = {true, false, offset, to, if_generation, {}};
  }
  void put(std::span<const ConstPiece> pieces) override {
    ++puts;
    ops[0] = {.under_way = true, .from = {pieces.begin(), pieces.end()}};
  }
  void feed(uint64_t bytes) override {
    EXPECT_TRUE(ops[0].under_way);
    EXPECT_GT(bytes, ops[0].fed);
    ops[0].fed = bytes;
    fed.push_back(bytes);
  }
  bool done(uint32_t lane, Outcome& outcome) override {
    Op& op = ops[lane];
    EXPECT_TRUE(op.under_way);
    if (!open && !op.canceled) return false;
    if (!op.canceled && present && !op.from.empty()) {
      op.under_way = false;
      outcome = {.status = Status::kExists};
      return true;
    }
    if (!op.canceled && op.fed < size_of(op)) return false;
    op.under_way = false;
    if (op.canceled) {
      outcome = {.status = Status::kCanceled};
      return true;
    }
    if (before_answer) before_answer();
    outcome = op.from.empty() ? answer_get(op) : answer_put(op);
    return true;
  }
  void cancel(uint32_t lane) override {
    EXPECT_TRUE(ops[lane].under_way);
    ops[lane].canceled = true;
  }
  size_t under_way() const {
    return static_cast<size_t>(std::count_if(ops.begin(), ops.end(), [](const Op& op) { return op.under_way; }));
  }

  Bytes block;
  Generation generation = 1;
  bool open = true;
  bool present = false;       ///< a put is told that the block is there
  std::vector<uint64_t> fed;  ///< what each feed said
  int gets = 0, puts = 0;
  std::function<void()> before_answer;
  std::vector<Op> ops = std::vector<Op>(StagedRead::kLanesMax);

 private:
  static uint64_t size_of(const Op& put) {
    uint64_t bytes = 0;
    for (const ConstPiece& piece : put.from) bytes += piece.size;
    return bytes;
  }
  Outcome answer_get(const Op& op) {
    if (op.demanded && op.demanded != generation) return {.status = Status::kChanged};
    if (op.offset >= block.size()) return {.status = Status::kMiss};
    const size_t bytes = std::min<size_t>(op.to.size, block.size() - op.offset);
    std::memcpy(op.to.data, block.data() + op.offset, bytes);
    return {.status = Status::kOk, .generation = generation, .bytes = bytes, .block_bytes = block.size()};
  }
  Outcome answer_put(const Op& op) {
    block.clear();
    for (const ConstPiece& piece : op.from) {
      const auto* bytes = static_cast<const unsigned char*>(piece.data);
      block.insert(block.end(), bytes, bytes + piece.size);
    }
    return {.status = Status::kOk, .generation = ++generation, .bytes = block.size()};
  }
};

class VramTransferThreads : public testing::Test {
 protected:
  VramTransferThreads() : pool(10 * kSlot) {
    fake_cuda();
    cuda = copier.start_cuda().value();
    EXPECT_TRUE(pool.open(*cuda, 0).ok());
  }
  ~VramTransferThreads() override {
    StagingPool::Ask all;
    EXPECT_TRUE(pool.ask(all, 10)) << "a slot was lost";
    pool.give_back(all);
  }
  static Status run(StagedTransfer& transfer) {
    while (!transfer.step(0)) std::this_thread::sleep_for(std::chrono::microseconds(20));
    return transfer.outcome().status;
  }
  Status read(uint64_t offset, std::span<const LocalPiece> pieces) {
    uint64_t length = 0;
    for (const LocalPiece& piece : pieces) length += piece.length;
    StagedRead transfer(wire, pool, copier, {offset, length, pieces, kLater});
    return run(transfer);
  }

  Copier copier;
  StagingPool pool;  // before the copier: it unpins
  CudaThread* cuda = nullptr;
  OneBlockWire wire;
};

TEST_F(VramTransferThreads, a_block_of_many_chunks_reaches_vram) {
  wire.block = test::pattern("block", 1, 9 * kSlot + 777);
  DeviceMemory target(wire.block.size());
  const LocalPiece piece{target.place(), wire.block.size(), 0};
  const uint64_t pageable = fake_counts().pageable_copies;
  EXPECT_EQ(read(0, {&piece, 1}), Status::kOk);
  EXPECT_EQ(target.bytes(), wire.block);
  EXPECT_EQ(wire.gets, 10);
  EXPECT_EQ(fake_counts().pageable_copies, pageable) << "staging is pinned";
}

TEST_F(VramTransferThreads, any_range_reaches_any_pieces_of_host_and_devices) {
  const uint64_t seed = 20261126;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  wire.block = test::pattern("ranges", 2, 3 * kSlot + 100);
  for (int round = 0; round < 30; ++round) {
    const uint64_t offset = random() % wire.block.size();
    const uint64_t length = 1 + random() % (wire.block.size() - offset);
    DeviceMemory first(length, 0), second(length, 1);
    Bytes host(length);
    std::vector<LocalPiece> pieces;
    for (uint64_t at = 0; at < length;) {
      const uint64_t bytes = std::min(length - at, 1 + random() % (kSlot + kSlot / 2));
      const Place places[] = {first.place(), second.place(), host_place(host.data())};
      pieces.push_back({places[random() % 3] + at, bytes, 0});
      at += bytes;
    }
    ASSERT_EQ(read(offset, pieces), Status::kOk);
    uint64_t at = 0;
    const Bytes of_first = first.bytes(), of_second = second.bytes();
    for (const LocalPiece& piece : pieces) {
      const Bytes& where =
          piece.place.kind == MemoryKind::kHost ? host : (piece.place.device == 0 ? of_first : of_second);
      ASSERT_EQ(std::memcmp(where.data() + at, wire.block.data() + offset + at, piece.length), 0) << "round " << round;
      at += piece.length;
    }
  }
}

TEST_F(VramTransferThreads, several_units_are_under_way_together_and_no_more_than_lanes) {
  wire.block = test::pattern("lanes", 1, 9 * kSlot);
  wire.open = false;
  DeviceMemory target(wire.block.size());
  const LocalPiece piece{target.place(), wire.block.size(), 0};
  StagedRead transfer(wire, pool, copier, {0, wire.block.size(), {&piece, 1}, kLater});
  EXPECT_FALSE(transfer.step(0));
  EXPECT_EQ(wire.under_way(), StagedRead::kLanesMax);
  wire.open = true;
  EXPECT_EQ(run(transfer), Status::kOk);
}

TEST_F(VramTransferThreads, a_miss_and_a_short_block_are_misses) {
  DeviceMemory target(2 * kSlot);
  const LocalPiece piece{target.place(), 2 * kSlot, 0};
  EXPECT_EQ(read(0, {&piece, 1}), Status::kMiss);
  wire.block = test::pattern("short", 1, 2 * kSlot - 1);
  EXPECT_EQ(read(0, {&piece, 1}), Status::kMiss);
}

TEST_F(VramTransferThreads, a_block_that_changes_once_is_read_as_one_generation) {
  const Bytes before = test::pattern("versions", 1, 3 * kSlot);
  const Bytes after = test::pattern("versions", 2, 3 * kSlot);
  wire.block = before;
  int answers = 0;
  wire.before_answer = [&] {
    if (++answers == 2) {
      wire.block = after;
      wire.generation = 2;
    }
  };
  DeviceMemory target(3 * kSlot);
  const LocalPiece piece{target.place(), 3 * kSlot, 0};
  EXPECT_EQ(read(0, {&piece, 1}), Status::kOk);
  EXPECT_EQ(target.bytes(), after);
  EXPECT_EQ(wire.gets, 4) << "only the unit of the older generation is read again";
}

TEST_F(VramTransferThreads, a_block_that_keeps_changing_is_a_miss) {
  wire.block = test::pattern("restless", 1, 3 * kSlot);
  wire.before_answer = [&] { ++wire.generation; };
  DeviceMemory target(3 * kSlot);
  const LocalPiece piece{target.place(), 3 * kSlot, 0};
  EXPECT_EQ(read(0, {&piece, 1}), Status::kMiss);
}

TEST_F(VramTransferThreads, an_exhausted_pool_makes_readers_wait_and_the_deadline_ends_that) {
  wire.block = test::pattern("queue", 1, kSlot);
  DeviceMemory target(kSlot);
  const LocalPiece piece{target.place(), kSlot, 0};
  StagingPool::Ask all;
  ASSERT_TRUE(pool.ask(all, 10));
  StagedRead late(wire, pool, copier, {0, kSlot, {&piece, 1}, 1000});
  StagedWrite late_write(wire, pool, copier, {0, kSlot, {&piece, 1}, 1000});
  StagedRead patient(wire, pool, copier, {0, kSlot, {&piece, 1}, kLater});
  EXPECT_FALSE(late.step(999));
  EXPECT_FALSE(late_write.step(999));
  EXPECT_FALSE(patient.step(999));
  late.step(1000);
  EXPECT_TRUE(late.step(1000));
  EXPECT_TRUE(late_write.step(1000));
  EXPECT_EQ(late.outcome().status, Status::kDeadline);
  EXPECT_EQ(late_write.outcome().status, Status::kDeadline);
  pool.give_back(all);
  EXPECT_EQ(run(patient), Status::kOk);
  EXPECT_EQ(target.bytes(), wire.block);
}

TEST_F(VramTransferThreads, cancel_waits_for_copies_under_way_and_then_the_memory_is_quiet) {
  wire.block = test::pattern("cancel", 1, 9 * kSlot);
  DeviceMemory target(wire.block.size());
  const LocalPiece piece{target.place(), wire.block.size(), 0};
  StagedRead transfer(wire, pool, copier, {0, wire.block.size(), {&piece, 1}, kLater});
  {
    const HeldStreams held;
    EXPECT_FALSE(transfer.step(0));
    while (fake_counts().queued == 0) std::this_thread::sleep_for(std::chrono::microseconds(20));
    transfer.cancel();
    EXPECT_FALSE(transfer.step(0)) << "copies are under way";
  }
  EXPECT_EQ(run(transfer), Status::kCanceled);
  EXPECT_EQ(fake_counts().queued, 0u);
}

TEST_F(VramTransferThreads, cancel_on_the_wire_and_in_line) {
  wire.block = test::pattern("cancel", 1, 2 * kSlot);
  wire.open = false;
  DeviceMemory target(2 * kSlot);
  const LocalPiece piece{target.place(), 2 * kSlot, 0};
  StagedRead on_wire(wire, pool, copier, {0, 2 * kSlot, {&piece, 1}, kLater});
  EXPECT_FALSE(on_wire.step(0));
  on_wire.cancel();
  EXPECT_EQ(run(on_wire), Status::kCanceled);
  StagingPool::Ask all;
  ASSERT_TRUE(pool.ask(all, 10));
  StagedRead read_in_line(wire, pool, copier, {0, 2 * kSlot, {&piece, 1}, kLater});
  StagedWrite write_in_line(wire, pool, copier, {0, 2 * kSlot, {&piece, 1}, kLater});
  EXPECT_FALSE(read_in_line.step(0));
  EXPECT_FALSE(write_in_line.step(0));
  read_in_line.cancel();
  write_in_line.cancel();
  EXPECT_EQ(run(read_in_line), Status::kCanceled);
  EXPECT_EQ(run(write_in_line), Status::kCanceled);
  pool.give_back(all);
}

TEST_F(VramTransferThreads, vram_reaches_the_wire_in_one_put) {
  const Bytes source = test::pattern("put", 1, 4 * kSlot + 999);
  DeviceMemory first(source.size(), 0);
  first.write(source);
  Bytes host(source.begin(), source.begin() + 5000);
  const LocalPiece pieces[] = {{host_place(host.data()), 5000, 0}, {first.place() + 5000, source.size() - 5000, 0}};
  StagedWrite transfer(wire, pool, copier, {0, source.size(), pieces, kLater});
  EXPECT_EQ(run(transfer), Status::kOk);
  EXPECT_EQ(wire.puts, 1);
  EXPECT_EQ(wire.block, source);
  EXPECT_EQ(transfer.outcome().bytes, source.size());
}

TEST_F(VramTransferThreads, chunks_of_a_write_are_on_the_wire_while_the_next_are_copied) {
  const Bytes source = test::pattern("stream", 1, 9 * kSlot + 5);
  DeviceMemory tensor(source.size());
  tensor.write(source);
  const LocalPiece piece{tensor.place(), source.size(), 0};
  StagedWrite transfer(wire, pool, copier, {0, source.size(), {&piece, 1}, kLater});
  {
    const HeldStreams held;
    EXPECT_FALSE(transfer.step(0));
    EXPECT_EQ(wire.puts, 1) << "the put leaves before its bytes are copied";
    while (fake_counts().queued < 4 * kSlot / kCopyPieceBytesMax) std::this_thread::yield();
    EXPECT_FALSE(transfer.step(0));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(fake_counts().queued, StagedWrite::kCopiesMax * kSlot / kCopyPieceBytesMax) << "no more copies ahead";
    EXPECT_TRUE(wire.fed.empty()) << "nothing is copied yet";
    fake_cuda().let(kSlot / kCopyPieceBytesMax);
    while (wire.fed.empty()) transfer.step(0);
    EXPECT_EQ(wire.fed, std::vector<uint64_t>{kSlot}) << "the first chunk is on the wire";
    while (fake_counts().queued < StagedWrite::kCopiesMax * kSlot / kCopyPieceBytesMax) std::this_thread::yield();
  }
  EXPECT_EQ(run(transfer), Status::kOk);
  EXPECT_GT(wire.fed.size(), 1u);
  EXPECT_EQ(wire.fed.back(), source.size());
  EXPECT_EQ(wire.block, source);
}

TEST_F(VramTransferThreads, a_write_of_what_is_there_stops_copying) {
  const Bytes source = test::pattern("there", 1, 9 * kSlot);
  DeviceMemory tensor(source.size());
  const LocalPiece piece{tensor.place(), source.size(), 0};
  wire.present = true;
  const uint64_t bytes = fake_counts().bytes;
  StagedWrite transfer(wire, pool, copier, {0, source.size(), {&piece, 1}, kLater});
  EXPECT_EQ(run(transfer), Status::kExists);
  EXPECT_LE(fake_counts().bytes - bytes, StagedWrite::kCopiesMax * kSlot);
  EXPECT_EQ(fake_counts().queued, 0u);
}

TEST_F(VramTransferThreads, a_write_canceled_while_it_copies_waits_for_cuda) {
  const Bytes source = test::pattern("stop", 1, 6 * kSlot);
  DeviceMemory tensor(source.size());
  const LocalPiece piece{tensor.place(), source.size(), 0};
  StagedWrite transfer(wire, pool, copier, {0, source.size(), {&piece, 1}, kLater});
  {
    const HeldStreams held;
    EXPECT_FALSE(transfer.step(0));
    while (fake_counts().queued == 0) std::this_thread::yield();
    transfer.cancel();
    EXPECT_FALSE(transfer.step(0)) << "the wire is quiet, copies are under way";
  }
  EXPECT_EQ(run(transfer), Status::kCanceled);
  EXPECT_TRUE(wire.block.empty());
  EXPECT_EQ(fake_counts().queued, 0u);
}

TEST_F(VramTransferThreads, transfers_are_run_again) {
  Bytes source = test::pattern("again", 1, 5 * kSlot + 1);
  DeviceMemory from(source.size()), into(source.size());
  const LocalPiece out{from.place(), source.size(), 0}, in{into.place(), source.size(), 0};
  StagedWrite write(wire, pool, copier, {0, source.size(), {&out, 1}, kLater});
  StagedRead read(wire, pool, copier, {0, source.size(), {&in, 1}, kLater});
  for (uint32_t round = 0; round < 3; ++round) {
    source = test::pattern("again", round, source.size());
    from.write(source);
    write.restart(kLater);
    ASSERT_EQ(run(write), Status::kOk);
    read.restart(kLater);
    ASSERT_EQ(run(read), Status::kOk);
    ASSERT_EQ(into.bytes(), source);
    read.restart(kLater);
    read.cancel();
    ASSERT_EQ(run(read), Status::kCanceled);
  }
}

TEST_F(VramTransferThreads, a_write_larger_than_the_pool_does_not_fit) {
  EXPECT_TRUE(StagedWrite::fits(pool, 10 * kSlot));
  EXPECT_FALSE(StagedWrite::fits(pool, 10 * kSlot + 1));
}

TEST_F(VramTransferThreads, what_cuda_refuses_fails_the_transfer_and_sends_nothing) {
  DeviceMemory target(3 * kSlot);
  const LocalPiece piece{target.place(), 3 * kSlot, 0};
  wire.block = test::pattern("refused", 1, 3 * kSlot);
  const FailingCall failing("MemcpyAsync", 2);
  StagedRead read(wire, pool, copier, {0, 3 * kSlot, {&piece, 1}, kLater});
  EXPECT_EQ(run(read), Status::kIo);
  EXPECT_STREQ(read.cuda_error(), "out of memory");
  StagedWrite write(wire, pool, copier, {0, 3 * kSlot, {&piece, 1}, kLater});
  EXPECT_EQ(run(write), Status::kIo);
  EXPECT_TRUE(wire.fed.empty());
  EXPECT_EQ(wire.generation, 1u) << "no put came to its end";
}

}  // namespace
}  // namespace memkv::nixl
