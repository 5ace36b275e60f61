/// What reclaim may free, and when.

#include <gtest/gtest.h>

#include <cstring>
#include <list>
#include <string>

#include "engine/rig_testing.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr size_t kFill = 1'900'000;  // about the size of a segment

/// Memory mode: a reservation holds a place in the first segment, and the log behind it is so full that the next put
/// waits for that segment.
class RoomInTheOldestSegment : public testing::Test {
 protected:
  RoomInTheOldestSegment() : bytes(bytes_of("room", 1, kRoom)) {
    room = rig.store().reserve(kRoom, name.size());
    do {
      fills.emplace_back(rig, "fill" + std::to_string(fills.size()), 1, kFill);
      rig.reactor().advance(100 * kMs);
    } while (fills.back().acknowledged());
  }
  PayloadIn received(uint32_t chunk) {
    std::memcpy(room.data, bytes.data(), kRoom);
    base::grain_sums({room.data, kRoom}, base::chunk_seed(kNamespace, "room", chunk), sums.data());
    return {room.data, kRoom, sums.data()};
  }
  void expect_that_reclaim_goes_on() {
    rig.reactor().advance(1000 * kMs);
    EXPECT_TRUE(fills.back().acknowledged());
    for (int i = 0; i < 100; ++i) {
      const std::string k = "more" + std::to_string(i);
      ASSERT_EQ(rig.put(k, bytes_of(k, 1, kFill)), Status::kOk);
    }
    EXPECT_EQ(rig.store().ops_in_flight(), 0u);
  }

  static constexpr uint32_t kRoom = 300'000;
  Rig rig{1, 64 * kMi, true};
  const std::string name = "room", bytes;
  std::array<uint64_t, base::grain_count(kRoom)> sums{};
  Reservation room;
  std::list<PendingPut> fills;
};

TEST_F(RoomInTheOldestSegment, ItsPutIsFoundOrEvictedButNeverDangles) {
  PutOp op;
  op.key = rig.key(name);
  op.payload = received(0);
  ASSERT_EQ(rig.run(op, [&] { rig.store().put(op); }), Status::kOk);
  rig.reactor().advance(100 * kMs);
  std::string out;
  const Status status = rig.get("room", out);
  EXPECT_TRUE(status == Status::kMiss || (status == Status::kOk && out == bytes));
  expect_that_reclaim_goes_on();
  EXPECT_EQ(rig.get("room", out), Status::kMiss);
}

TEST_F(RoomInTheOldestSegment, ItsChunkIsMovedForTheCommit) {
  Upload upload;
  upload.key = rig.key(name);
  ASSERT_EQ(rig.store().begin(upload, kRoom, false, false), Status::kOk);
  ChunkOp chunk;
  chunk.upload = &upload;
  chunk.payload = received(0);
  ASSERT_EQ(rig.run(chunk, [&] { rig.store().put_chunk(chunk); }), Status::kOk);
  rig.reactor().advance(1000 * kMs);
  EXPECT_TRUE(fills.back().acknowledged());
  CommitOp commit;
  commit.upload = &upload;
  ASSERT_EQ(rig.run(commit, [&] { rig.store().commit(commit); }), Status::kOk);
  rig.expect("room", bytes);
  expect_that_reclaim_goes_on();
}

TEST_F(RoomInTheOldestSegment, GivenBackItHoldsNothing) {
  rig.store().abandon(room);
  expect_that_reclaim_goes_on();
}

/// Two drives in memory mode: a key that goes to this drive while its queue is short.
std::string key_of_drive(Rig& rig, uint64_t drive, int& count) {
  const uint64_t share = format::choose_layout(rig.capacity() / 2, 1)->slice_bytes >> 12;
  std::string k;
  do {
    k = "k" + std::to_string(count++);
  } while (base::mix64(rig.key(k).digest.hi) % (2 * share) / share != drive);
  return k;
}

TEST(Reclaim, ASlowReaderHoldsItsOwnDriveAlone) {
  Rig rig(2, 64 * kMi, true);
  int count = 0;
  const std::string slow = key_of_drive(rig, 0, count);
  const std::string bytes = bytes_of(slow, 1, kFill);
  ASSERT_EQ(rig.put(slow, bytes), Status::kOk);
  ReadOp read;
  read.key = rig.key(slow);
  read.length = kFill;
  ASSERT_EQ(rig.run(read, [&] { rig.store().read(read); }), Status::kOk);
  std::list<PendingPut> puts;
  const auto put = [&](uint64_t drive) {
    puts.emplace_back(rig, key_of_drive(rig, drive, count), 1, kFill);
    rig.reactor().advance(100 * kMs);
    return puts.back().acknowledged();
  };
  while (put(0)) ASSERT_LT(count, 1000) << "the reader holds nothing";
  PendingPut& waits = puts.back();
  const uint64_t before = rig.store().counters().segments_reclaimed;
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(put(1)) << i;
  EXPECT_GT(rig.store().counters().segments_reclaimed, before);
  EXPECT_EQ(std::memcmp(read.data, bytes.data(), kFill), 0);
  EXPECT_FALSE(waits.acknowledged());
  rig.store().release(read);
  rig.reactor().advance(100 * kMs);
  EXPECT_TRUE(waits.acknowledged());
  EXPECT_TRUE(put(0));
}

TEST(Reclaim, WhatWasReadFromADriveHoldsNoSegment) {
  Rig rig(1, 64 * kMi);
  ASSERT_EQ(rig.put("slow", bytes_of("slow", 1, kFill)), Status::kOk);
  Slot slot;
  const std::string slow = "slow";
  ReadOp read;
  read.key = rig.key(slow);
  read.length = kFill;
  read.buffer = slot.data;
  read.buffer_bytes = base::kChunkBytes;
  ASSERT_EQ(rig.run(read, [&] { rig.store().read(read); }), Status::kOk);
  std::list<PendingPut> puts;
  for (int i = 0; i < 100; ++i) {
    puts.emplace_back(rig, "fill" + std::to_string(i), 1, kFill);
    rig.reactor().advance(100 * kMs);
    ASSERT_TRUE(puts.back().acknowledged()) << i;
  }
  rig.store().release(read);
}

/// One drive. Its first segment holds a record with a damaged header, whose key is "bad".
class DamagedHeader : public testing::TestWithParam<RigKind> {
 protected:
  void damage() {
    const std::string_view image(reinterpret_cast<const char*>(rig.image(0)->data()), rig.image(0)->size());
    const size_t at = image.find(kBad);
    ASSERT_NE(at, image.npos);
    rig.image(0)->data()[at] ^= std::byte{1};
  }
  void reclaim_the_first_segment() {
    for (int i = 0; rig.store().counters().segments_reclaimed == 0; ++i) {
      ASSERT_LT(i, 1000);
      const std::string k = "fill" + std::to_string(i);
      ASSERT_EQ(rig.put(k, bytes_of(k, 1, kFill)), Status::kOk);
    }
  }
  static constexpr std::string_view kBad = "the key of the damaged record";
  const std::string bad{kBad};
  Rig rig{1, 64 * kMi, GetParam()};
  std::string out;
};

TEST_P(DamagedHeader, ItsBlockGoesWithTheSegment) {
  const std::string hot = bytes_of("hot", 1, 300'000);
  ASSERT_EQ(rig.put("hot", hot), Status::kOk);
  ASSERT_EQ(rig.put(bad, bytes_of(bad, 1, 300'000)), Status::kOk);
  rig.expect("hot", hot);
  damage();
  reclaim_the_first_segment();
  EXPECT_EQ(rig.get(bad, out), Status::kMiss);
  EXPECT_FALSE(rig.store().exists(rig.key(bad)));
  rig.expect("hot", hot);
}

TEST_P(DamagedHeader, ItsChunkFailsTheCommit) {
  Upload upload;
  upload.key = rig.key(bad);
  ASSERT_EQ(rig.store().begin(upload, 300'000, false, false), Status::kOk);
  ASSERT_EQ(rig.put_part(upload, bad, 0, bytes_of(bad, 1, 300'000)), Status::kOk);
  damage();
  reclaim_the_first_segment();
  CommitOp commit;
  commit.upload = &upload;
  EXPECT_EQ(rig.run(commit, [&] { rig.store().commit(commit); }), Status::kIo);
  EXPECT_EQ(rig.get(bad, out), Status::kMiss);
}

/// The commit waits, since the merge before it hangs in a read. Meanwhile reclaim takes the segment with the chunk,
/// which is as large.
TEST(Reclaim, AChunkThatGoesWhileItsCommitWaitsFailsTheCommit) {
  using OpView = io::FaultyDevice::OpView;
  Rig rig(1, 24 * kMi);
  const std::string large = "large", other = "other";
  Upload upload;
  upload.key = rig.key(large);
  ASSERT_EQ(rig.store().begin(upload, kFill, false, /*range_write=*/true), Status::kOk);
  ASSERT_EQ(rig.put_part(upload, large, 0, bytes_of(large, 1, kFill)), Status::kOk);
  ASSERT_EQ(rig.put(other, bytes_of(other, 1, kFill)), Status::kOk);
  int held = 0;
  rig.device(0).set_gate(
      [&](const OpView& view) { return view.kind == io::FaultyDevice::OpKind::kRead && held++ == 0; });
  Slot slot;
  WriteOp write;
  write.key = rig.key(other);
  write.offset = 100;
  write.payload = {slot.data, 100, nullptr};
  write.on_done = [](StoreOp&) {};
  rig.store().write(write);
  rig.reactor().advance(kMs);
  ASSERT_EQ(held, 1);
  CommitOp commit;
  bool done = false;
  commit.upload = &upload;
  commit.context = &done;
  commit.on_done = [](StoreOp& op) { *static_cast<bool*>(op.context) = true; };
  rig.store().commit(commit);
  for (int i = 0; rig.store().counters().segments_reclaimed == 0; ++i) {
    ASSERT_LT(i, 100);
    const std::string k = "fill" + std::to_string(i);
    ASSERT_EQ(rig.put(k, bytes_of(k, 1, kFill)), Status::kOk);
  }
  ASSERT_FALSE(done);
  rig.device(0).set_gate({});
  rig.device(0).release_all();
  rig.reactor().advance(100 * kMs);
  ASSERT_TRUE(done);
  EXPECT_EQ(commit.status, Status::kIo);
  std::string out;
  EXPECT_EQ(rig.get(large, out), Status::kMiss);
}

INSTANTIATE_TEST_SUITE_P(Rigs, DamagedHeader, testing::Values(RigKind::kFaulty, RigKind::kMemory));

}  // namespace
}  // namespace memkv::engine
