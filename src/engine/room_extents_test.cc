/// Rooms that share an extent: where they lie, what a walk and a listing find of them, what they take of the memory.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <list>

#include "engine/rig_testing.h"

namespace memkv::engine {
namespace {

constexpr size_t kSmall = 4096;

/// A put whose payload is received where it stays.
struct RoomPut {
  RoomPut(Rig& owner, std::string name, size_t size) : rig(owner), key(std::move(name)), bytes(bytes_of(key, 1, size)) {
    room = rig.store().reserve(static_cast<uint32_t>(size), key.size());
    op.key = rig.key(key);
    op.context = &done;
    op.on_done = [](StoreOp& o) { ++*static_cast<int*>(o.context); };
  }
  void start() {
    std::memcpy(room.data, bytes.data(), bytes.size());
    base::grain_sums({room.data, bytes.size()}, base::chunk_seed(kNamespace, key, 0), sums.data());
    op.payload = {room.data, static_cast<uint32_t>(bytes.size()), sums.data()};
    rig.store().put(op);
  }
  void abandon() { rig.store().abandon(room); }
  bool run() {
    if (room.data == nullptr) return false;
    start();
    while (done == 0) rig.any_reactor().run_once(1'000'000);
    return op.status == Status::kOk;
  }

  Rig& rig;
  std::string key, bytes;
  std::array<uint64_t, base::grain_count(base::kChunkBytes)> sums{};
  Reservation room;
  PutOp op;
  int done = 0;
};

std::string read_key(Rig& rig, const std::string& key) {
  char text[1024];
  Store::KeyOp op;
  op.key = {rig.key(key).digest, kNamespace, {}};
  op.key_out = text;
  if (rig.run(op, [&] { rig.store().read_key(op); }) != Status::kOk) return "(not found)";
  return {text, op.key_bytes_out};
}

class RoomExtentsTest : public testing::Test {
 protected:
  std::list<RoomPut> take_rooms(size_t count, size_t size) {
    std::list<RoomPut> puts;
    for (size_t i = 0; i < count; ++i) puts.emplace_back(rig, "key" + std::to_string(i), size);
    return puts;
  }
  static bool acknowledged(const std::list<RoomPut>& puts) {
    return std::ranges::all_of(puts, [](const RoomPut& put) { return put.done == 1 && put.op.status == Status::kOk; });
  }

  Rig rig{1, 64 * kMi, true};
};

TEST_F(RoomExtentsTest, rooms_that_are_taken_together_lie_side_by_side) {
  std::list<RoomPut> puts = take_rooms(16, kSmall);
  const std::byte* next = puts.front().room.data;
  for (RoomPut& put : puts) {
    EXPECT_EQ(put.room.data, next);
    next = put.room.data + kSmall;
    put.start();
  }
  ASSERT_TRUE(rig.reactor().run_until([&] { return acknowledged(puts); }));
  for (const RoomPut& put : puts) {
    rig.expect(put.key, put.bytes);
    EXPECT_EQ(read_key(rig, put.key), put.key);
  }
}

TEST_F(RoomExtentsTest, so_do_those_of_puts_that_come_one_after_another) {
  RoomPut first(rig, "first", kSmall);
  ASSERT_TRUE(first.run());
  std::byte* last = nullptr;
  for (int i = 0; i < 200; ++i) {
    RoomPut put(rig, "key" + std::to_string(i), kSmall);
    ASSERT_TRUE(put.run());
    last = put.room.data;
  }
  EXPECT_LT(last - first.room.data, 1.04 * 200 * kSmall);
}

TEST_F(RoomExtentsTest, other_sizes_are_packed_and_large_ones_stand_alone) {
  std::list<RoomPut> puts;
  for (const size_t size : {size_t{100}, size_t{5000}, kSmall, size_t{64 * 1024}, size_t{64 * 1024 + 1}, size_t{77}}) {
    puts.emplace_back(rig, "key" + std::to_string(size), size);
    puts.back().start();
  }
  EXPECT_EQ(std::next(puts.begin())->room.data - puts.begin()->room.data, 128);
  ASSERT_TRUE(rig.reactor().run_until([&] { return acknowledged(puts); }));
  for (const RoomPut& put : puts) {
    rig.expect(put.key, put.bytes);
    EXPECT_EQ(read_key(rig, put.key), put.key);
    std::string part;
    ASSERT_EQ(rig.get_unit(put.key, 10, 50, part), Status::kOk);
    EXPECT_EQ(part, put.bytes.substr(10, 50));
  }
}

TEST_F(RoomExtentsTest, a_record_is_found_while_another_room_of_its_extent_is_open) {
  std::list<RoomPut> puts = take_rooms(3, kSmall);
  puts.front().start();
  puts.back().start();
  ASSERT_TRUE(rig.reactor().run_until([&] { return puts.front().done + puts.back().done == 2; }));
  rig.expect("key0", puts.front().bytes);
  EXPECT_EQ(read_key(rig, "key2"), "key2");
  std::next(puts.begin())->abandon();
  EXPECT_EQ(read_key(rig, "key0"), "key0");
}

TEST_F(RoomExtentsTest, the_longest_keys_find_room_in_the_header) {
  std::list<RoomPut> puts;
  for (char c = 'a'; c <= 'z'; ++c) puts.emplace_back(rig, std::string(kKeyBytesMax, c), kSmall);
  for (RoomPut& put : puts) put.start();
  ASSERT_TRUE(rig.reactor().run_until([&] { return acknowledged(puts); }));
  for (const RoomPut& put : puts) EXPECT_EQ(read_key(rig, put.key), put.key);
}

/// Rooms of one extent in every order, some given back, large ones and records of another kind in between, until all
/// segments were reclaimed several times: what reclaim walks over is sound, or the block that is read all the time would
/// be gone.
TEST_F(RoomExtentsTest, reclaim_passes_rooms_that_were_given_back_and_keeps_what_is_read) {
  RoomPut kept(rig, "kept", kSmall);
  ASSERT_TRUE(kept.run());
  for (size_t round = 0; round < 2000; ++round) {
    std::list<RoomPut> puts;
    for (size_t i = 0; i < 40; ++i) {
      RoomPut& put = puts.emplace_back(rig, "key" + std::to_string(i), i == round % 41 ? 100'000 : kSmall);
      if (put.room.data == nullptr) puts.pop_back();
    }
    size_t i = 0;
    for (RoomPut& put : puts) ++i % 7 == round % 7 ? put.abandon() : put.start();
    rig.reactor().advance(1'000'000);
    if (round % 5 == 0) (void)rig.remove("key1");
    rig.expect("kept", kept.bytes);
  }
  EXPECT_GT(rig.store().counters().segments_reclaimed, 100u);
}

}  // namespace
}  // namespace memkv::engine
