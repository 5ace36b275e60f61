/// What reclaim may free, and when.

#include <gtest/gtest.h>

#include <cstring>
#include <list>
#include <string>

#include "engine/rig_testing.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr size_t kFill = 1'900'000;  // about a segment

/// Memory mode: a room in the first segment, and behind it a log so full that the next put waits for that segment.
class RoomInTheOldestSegment : public testing::Test {
 protected:
  RoomInTheOldestSegment() : bytes(bytes_of("room", 1, kRoom)) {
    room = rig.store().reserve(kRoom);
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

}  // namespace
}  // namespace memkv::engine
