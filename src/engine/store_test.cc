/// The store over an image in memory: round trips, restarts, a log that wraps, power cuts. Operations run one after
/// another on a simulated reactor.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "engine/rig_testing.h"

namespace memkv::engine {
namespace {

const size_t kSizes[] = {0, 1, 4096, 65536, 65537, 549 * 1024, 2 * kMi - 1, 2 * kMi, 2 * kMi + 1, 8'262'779};

void put_all_sizes(Rig& rig) {
  for (const size_t size : kSizes) {
    const std::string k = "size" + std::to_string(size);
    const std::string bytes = bytes_of(k, 1, size);
    ASSERT_EQ(size > base::kChunkBytes ? rig.put_large(k, bytes) : rig.put(k, bytes), Status::kOk) << size;
  }
}

void check_all_sizes(Rig& rig) {
  for (const size_t size : kSizes) {
    const std::string k = "size" + std::to_string(size);
    const std::string bytes = bytes_of(k, 1, size);
    rig.expect(k, bytes);
    for (const uint64_t at : {size / 3, size / 2, size - std::min<size_t>(size, 5)}) {
      const auto want =
          static_cast<uint32_t>(std::min<uint64_t>({size - at, 100'000, base::kChunkBytes - at % base::kChunkBytes}));
      std::string out;
      ASSERT_EQ(rig.get_unit(k, at, want, out), Status::kOk) << size << " at " << at;
      ASSERT_EQ(out, bytes.substr(at, want)) << size << " at " << at;
    }
  }
}

TEST(Store, EverySizeAndRangeSurvivesARestart) {
  for (const int drives : {1, 3}) {
    Rig rig(drives, 256 * kMi);
    put_all_sizes(rig);
    check_all_sizes(rig);
    rig.reopen();
    check_all_sizes(rig);
  }
}

TEST(Store, MemoryModeReadsInPlace) {
  Rig rig(1, 256 * kMi, true);
  put_all_sizes(rig);
  check_all_sizes(rig);
  const Reservation room = rig.store().reserve(300'000, 8);
  ASSERT_NE(room.data, nullptr);
  const std::string bytes = bytes_of("reserved", 1, 300'000);
  std::memcpy(room.data, bytes.data(), bytes.size());
  std::vector<uint64_t> sums(base::grain_count(bytes.size()));
  base::grain_sums({room.data, bytes.size()}, base::chunk_seed(kNamespace, "reserved", 0), sums.data());
  PutOp op;
  const std::string name = "reserved";
  op.key = rig.key(name);
  op.payload = {room.data, 300'000, sums.data()};
  ASSERT_EQ(rig.run(op, [&] { rig.store().put(op); }), Status::kOk);
  rig.expect("reserved", bytes);
  rig.store().abandon(rig.store().reserve(100'000, 8));
}

TEST(Store, OverwriteRemoveIfAbsentAndListOverRestarts) {
  Rig rig(3, 128 * kMi);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 50; ++i) {
      const std::string k = "k" + std::to_string(i);
      const size_t size = 1 + base::mix64(static_cast<uint64_t>(round * 100 + i)) % 200'000;
      ASSERT_EQ(rig.put(k, bytes_of(k, static_cast<uint64_t>(round), size)), Status::kOk);
    }
    for (int i = 0; i < 50; i += 7) ASSERT_EQ(rig.remove("k" + std::to_string(i)), Status::kOk);
    rig.reopen();
    for (int i = 0; i < 50; ++i) {
      const std::string k = "k" + std::to_string(i);
      const size_t size = 1 + base::mix64(static_cast<uint64_t>(round * 100 + i)) % 200'000;
      std::string out;
      if (i % 7 == 0) {
        ASSERT_EQ(rig.get(k, out), Status::kMiss);
        ASSERT_EQ(rig.remove(k), Status::kMiss);
      } else {
        rig.expect(k, bytes_of(k, static_cast<uint64_t>(round), size));
        ASSERT_EQ(rig.put(k, "x", true), Status::kExists);
      }
    }
  }
  FlushOp flush;
  flush.namespace_id = kNamespace;
  ASSERT_EQ(rig.run(flush, [&] { rig.store().flush_namespace(flush); }), Status::kOk);
  rig.reopen();
  std::string out;
  for (int i = 0; i < 50; ++i) ASSERT_EQ(rig.get("k" + std::to_string(i), out), Status::kMiss);
}

TEST(Store, RangeWritesKeepHolesAndGrow) {
  Rig rig(2, 128 * kMi);
  const std::string k = "ranged";
  const std::string bytes = bytes_of(k, 1, 5 * kMi);
  ASSERT_EQ(rig.write(k, 1000, bytes.substr(1000, 500)), Status::kOk);
  std::string out;
  ASSERT_EQ(rig.get_unit(k, 0, 100, out), Status::kMiss);
  ASSERT_EQ(rig.get_unit(k, 1000, 500, out), Status::kOk);
  ASSERT_EQ(out, bytes.substr(1000, 500));
  ASSERT_EQ(rig.write(k, 3 * kMi, bytes.substr(3 * kMi, 2 * kMi - 1 * kMi)), Status::kOk);
  ASSERT_EQ(rig.get_unit(k, 2 * kMi, 100, out), Status::kMiss);
  rig.reopen();
  ASSERT_EQ(rig.get_unit(k, 1000, 500, out), Status::kOk);
  ASSERT_EQ(out, bytes.substr(1000, 500));
  ASSERT_EQ(rig.write(k, 0, bytes.substr(0, 2 * kMi)), Status::kOk);
  ASSERT_EQ(rig.write(k, 2 * kMi, bytes.substr(2 * kMi, kMi)), Status::kOk);
  ASSERT_EQ(rig.write(k, 4 * kMi, bytes.substr(4 * kMi)), Status::kOk);
  rig.expect(k, bytes);
  rig.reopen();
  rig.expect(k, bytes);
  for (const auto& name : {"small", "grown"}) {
    ASSERT_EQ(rig.put(name, bytes_of(name, 1, 10'000)), Status::kOk);
  }
  ASSERT_EQ(rig.write("small", 5'000, bytes_of("x", 1, 2'000)), Status::kOk);
  std::string expected = bytes_of("small", 1, 10'000);
  expected.replace(5'000, 2'000, bytes_of("x", 1, 2'000));
  rig.expect("small", expected);
}

TEST(Store, RangeUploadGrowsAWholeRecord) {
  Rig rig(1, 256 * kMi);
  const std::string bytes = bytes_of("grows", 1, 500'000 + 4 * kMi);
  ASSERT_EQ(rig.put("grows", bytes.substr(0, 500'000)), Status::kOk);
  ASSERT_EQ(rig.write_large("grows", 500'000, bytes.substr(500'000)), Status::kOk);
  rig.expect("grows", bytes);
  rig.reopen();
  rig.expect("grows", bytes);
}

TEST(Store, OverlappingCutsMakeTheWholeBlock) {
  for (const bool memory : {false, true}) {
    Rig rig(2, 256 * kMi, memory);
    const size_t size = 9 * kMi, cut = 333'333;
    const std::string bytes = bytes_of("cuts", 1, size);
    for (size_t turn = 0; turn < 29; ++turn) {
      const size_t at = turn * 11 % 29 * (cut - 5'000);
      const std::string piece = bytes.substr(at, cut);
      if (piece.empty()) continue;
      const bool crosses = at / base::kChunkBytes != (at + piece.size() - 1) / base::kChunkBytes;
      ASSERT_EQ(crosses ? rig.write_large("cuts", at, piece) : rig.write("cuts", at, piece), Status::kOk) << at;
    }
    rig.expect("cuts", bytes);
    EXPECT_EQ(rig.store().ops_in_flight(), 0u);
  }
}

TEST(Store, AbortedRangeUploadLeavesNothingInFlight) {
  Rig rig(1, 256 * kMi);
  const std::string bytes = bytes_of("aborted", 1, 3 * kMi), name = "aborted";
  Slot slots[2];
  Upload upload;
  upload.key = rig.key(name);
  ASSERT_EQ(rig.store().begin(upload, bytes.size(), false, true), Status::kOk);
  ChunkOp ops[2];
  for (uint32_t n = 0; n < 2; ++n) {  // both are merged, so the second one waits for the first
    ops[n].upload = &upload;
    ops[n].chunk_number = n;
    ops[n].offset_in_chunk = 1000;
    ops[n].payload = {slots[n].data, 500'000, nullptr};
    ops[n].on_done = [](StoreOp&) {};
    rig.store().put_chunk(ops[n]);
  }
  rig.store().abort(upload);
  rig.reactor().advance(1'000'000'000);
  EXPECT_EQ(ops[0].status, Status::kCanceled);
  EXPECT_EQ(ops[1].status, Status::kCanceled);
  EXPECT_EQ(rig.store().ops_in_flight(), 0u);
}

TEST(Store, WhatWasEvictedAndRemovedStaysAway) {
  for (const bool large : {false, true}) {
    Rig rig(2, 64 * kMi);
    const std::string bytes = bytes_of("old", 1, large ? 5 * kMi : 5'000);
    ASSERT_EQ(large ? rig.put_large("old", bytes) : rig.put("old", bytes), Status::kOk);
    for (int i = 0; rig.store().exists(rig.key("old")); ++i) {
      ASSERT_LT(i, 1000);
      const std::string k = "fill" + std::to_string(i);
      ASSERT_EQ(rig.put(k, bytes_of(k, 1, 200'000)), Status::kOk);
    }
    ASSERT_EQ(rig.remove("old"), Status::kMiss);
    rig.reopen();
    EXPECT_FALSE(rig.store().exists(rig.key("old"))) << large;
  }
}

TEST(Store, ThreeTimesTheCapacityKeepsWhatIsRead) {
  for (const bool memory : {false, true}) {
    Rig rig(2, 64 * kMi, memory);
    const std::string hot = bytes_of("hot", 1, 700'000);
    ASSERT_EQ(rig.put("hot", hot), Status::kOk);
    uint64_t written = 0;
    for (int i = 0; written < 400 * kMi; ++i) {
      const std::string k = "fill" + std::to_string(i);
      const size_t size = i % 3 == 0 ? 1'900'000 : i % 3 == 1 ? 4096 : 300'000;
      ASSERT_EQ(rig.put(k, bytes_of(k, 1, size)), Status::kOk) << "after " << written;
      written += size;
      if (i % 8 == 0) rig.expect("hot", hot);
    }
    const StoreCounters& c = rig.store().counters();
    EXPECT_GT(c.dropped_evicted, 0u);
    EXPECT_LE(c.bytes_used, c.bytes_usable);
    if (memory) continue;
    rig.reopen();
    rig.expect("hot", hot);
  }
}

TEST(Store, AFullLogOfSmallHotBlocksStillTakesLargeOnes) {
  Rig rig(1, 128 * kMi);
  int n = 0;
  for (const size_t size : {size_t{4096}, size_t{65536}, size_t{1} << 20}) {
    for (uint64_t at = 0; at < 32 * kMi; at += size, ++n) {
      const std::string k = "k" + std::to_string(n);
      const std::string bytes = bytes_of(k, 1, size);
      ASSERT_EQ(rig.put(k, bytes), Status::kOk);
      rig.expect(k, bytes);
    }
  }
  for (int i = 0; i < 30; ++i) {
    const std::string k = "large" + std::to_string(i);
    ASSERT_EQ(rig.put_large(k, bytes_of(k, 1, 4 * kMi)), Status::kOk) << i;
  }
}

TEST(Store, DeadSegmentsAreFreedByTheirFootersAlone) {
  Rig rig(1, 64 * kMi);
  for (int i = 0; i < 1000; ++i) {
    const std::string k = "k" + std::to_string(i % 4);
    ASSERT_EQ(rig.put(k, bytes_of(k, static_cast<uint64_t>(i), 300'000)), Status::kOk);
  }
  const StoreCounters& c = rig.store().counters();
  EXPECT_GT(c.segments_reclaimed, 20u);
  EXPECT_LE(rig.device(0).counts().reads, c.segments_reclaimed + 40) << "the open reads too";
  EXPECT_EQ(c.dropped_evicted, 0u);
  for (int i = 996; i < 1000; ++i) {
    const std::string k = "k" + std::to_string(i % 4);
    rig.expect(k, bytes_of(k, static_cast<uint64_t>(i), 300'000));
  }
}

/// The failure says nothing of the newer version, which is there.
TEST(Store, AReadThatFailsOnAVersionThatWasReplacedMeanwhileIsToBeTriedAgain) {
  for (const bool rotten : {false, true}) {
    Rig rig(1, 128 * kMi);
    ASSERT_EQ(rig.put("k", bytes_of("k", 1, 5000)), Status::kOk);
    rig.device(0).set_gate([](const auto& view) { return view.kind == io::FaultyDevice::OpKind::kRead; });
    Slot slot(16384);
    ReadOp op;
    const std::string name = "k";
    op.key = rig.key(name);
    op.offset = 10;
    op.length = 1000;
    op.buffer = slot.data;
    op.buffer_bytes = 16384;
    op.on_done = [](StoreOp&) {};
    rig.store().read(op);
    rig.reactor().run_until([&] { return rig.device(0).held() == 1; });
    ASSERT_EQ(rig.put("k", bytes_of("k", 2, 5000)), Status::kOk);
    const io::FaultyDevice::OpView view = rig.device(0).held_at(0);
    if (rotten) *rig.device(0).durable(view.offset + 4500) ^= std::byte{1};
    if (!rotten) rig.device(0).fail_reads(view.offset, view.bytes);
    rig.device(0).set_gate({});
    rig.device(0).release_all();
    rig.reactor().run_until_idle();
    EXPECT_EQ(op.status, Status::kBusy);
    EXPECT_EQ(rig.store().counters().dropped_corrupt, 0u);
    rig.device(0).heal();
    rig.expect("k", bytes_of("k", 2, 5000));
  }
}

/// It may come back with what was removed.
TEST(Store, NothingIsAcknowledgedAfterTheLastDrive) {
  Rig rig(1, 128 * kMi);
  bool out = false;
  rig.on_drive_out_context_ = &out;
  rig.on_drive_out_ = [](void* context, uint8_t, const char*) { *static_cast<bool*>(context) = true; };
  rig.reopen();
  ASSERT_EQ(rig.put("k", bytes_of("k", 1, 5000)), Status::kOk);
  rig.device(0).fail_all();
  RemoveOp remove;
  FlushOp flush;
  int done = 0;
  for (StoreOp* op : {static_cast<StoreOp*>(&remove), static_cast<StoreOp*>(&flush)}) {
    op->context = &done;
    op->on_done = [](StoreOp& o) { ++*static_cast<int*>(o.context); };
  }
  remove.key = rig.key("k");
  flush.namespace_id = kNamespace;
  rig.store().remove(remove);
  rig.store().flush_namespace(flush);
  const uint64_t end_ns = rig.reactor().now_ns() + 1'000'000'000;
  rig.reactor().run_until([&] { return out || rig.reactor().now_ns() > end_ns; });
  rig.store().take_drives_out(1);
  rig.reactor().run_until([&] { return done == 2; });
  EXPECT_EQ(remove.status, Status::kIo);
  EXPECT_EQ(flush.status, Status::kIo);
}

TEST(Store, NothingIsAcknowledgedWhileAFailedDriveIsOnItsWayOut) {
  Rig rig(2, 128 * kMi);
  int out = -1;
  rig.on_drive_out_context_ = &out;
  rig.on_drive_out_ = [](void* context, uint8_t drive, const char*) { *static_cast<int*>(context) = drive; };
  rig.reopen();
  ASSERT_EQ(rig.put("first", bytes_of("first", 1, 5000)), Status::kOk);
  rig.device(1).fail_all();
  int held = 0;
  for (int i = 0; out < 0; ++i) {
    ASSERT_LT(i, 100) << "no block for the drive that fails";
    const std::string k = "k" + std::to_string(i);
    const std::string bytes = bytes_of(k, 1, 5000);
    Slot slot;
    std::memcpy(slot.data, bytes.data(), bytes.size());
    uint64_t sum = 0;
    base::grain_sums({slot.data, bytes.size()}, base::chunk_seed(kNamespace, k, 0), &sum);
    PutOp op;
    op.key = rig.key(k);
    op.payload = {slot.data, static_cast<uint32_t>(bytes.size()), &sum};
    bool done = false;
    op.context = &done;
    op.on_done = [](StoreOp& o) { *static_cast<bool*>(o.context) = true; };
    rig.store().put(op);
    const uint64_t end_ns = rig.reactor().now_ns() + 1'000'000'000;
    rig.reactor().run_until([&] { return done || rig.reactor().now_ns() > end_ns; });
    if (done) continue;
    held++;
    ASSERT_EQ(out, 1);
    rig.store().take_drives_out(2);
    rig.reactor().run_until([&] { return done; });
    ASSERT_TRUE(done);
    ASSERT_EQ(op.status, Status::kOk);
    rig.expect(k, bytes);
  }
  EXPECT_EQ(held, 1);
  ASSERT_EQ(rig.put("later", bytes_of("later", 1, 5000)), Status::kOk);
}

/// The drive that fails cannot be taken out, since the other one does not record the membership and leaves with it.
/// Both may come back as they were.
TEST(Store, WhatWaitsForADriveToLeaveFailsIfNoneIsLeftThatKnows) {
  Rig rig(2, 128 * kMi);
  bool out = false;
  rig.on_drive_out_context_ = &out;
  rig.on_drive_out_ = [](void* context, uint8_t, const char*) { *static_cast<bool*>(context) = true; };
  rig.reopen();
  for (int i = 0; i < 20; ++i) ASSERT_EQ(rig.put("k" + std::to_string(i), bytes_of("k", 1, 5000)), Status::kOk);
  rig.device(0).fail_all();
  std::vector<RemoveOp> removes(20);
  int done = 0;
  for (int i = 0; i < 20; ++i) {
    removes[i].key = rig.key("k" + std::to_string(i));
    removes[i].context = &done;
    removes[i].on_done = [](StoreOp& o) { ++*static_cast<int*>(o.context); };
    rig.store().remove(removes[i]);
  }
  const uint64_t end_ns = rig.reactor().now_ns() + 1'000'000'000;
  rig.reactor().run_until([&] { return rig.reactor().now_ns() > end_ns; });
  ASSERT_TRUE(out);
  const int before = done;
  ASSERT_LT(before, 20) << "none waits";
  rig.store().take_drives_out(3);
  rig.reactor().run_until([&] { return done == 20; });
  int failed = 0;
  for (const RemoveOp& remove : removes) failed += remove.status == Status::kIo ? 1 : 0;
  EXPECT_GE(failed, 20 - before);
}

TEST(Store, PowerCutsLoseNothingAcknowledged) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    Rig rig(2, 96 * kMi);
    rig.plan_.latency_ns_max = 300'000;
    rig.seed_ = seed * 1000;
    rig.reopen();
    base::Random random(seed);
    std::map<std::string, std::vector<std::string>> may_be;
    for (int round = 0; round < 4; ++round) {
      for (int i = 0; i < 40; ++i) {
        const std::string k = "k" + std::to_string(random.below(12));
        const std::string bytes = bytes_of(k, random.next_u64(), random.below(300'000));
        ASSERT_EQ(rig.put(k, bytes), Status::kOk);
        may_be[k] = {bytes};
      }
      // One more change is cut in the middle.
      auto slot = std::make_unique<Slot>();
      const std::string k = "k" + std::to_string(random.below(12));
      const std::string bytes = bytes_of(k, random.next_u64(), random.below(1'000'000));
      std::memcpy(slot->data, bytes.data(), bytes.size());
      std::vector<uint64_t> sums(base::grain_count(bytes.size()));
      base::grain_sums({slot->data, bytes.size()}, base::chunk_seed(kNamespace, k, 0), sums.data());
      PutOp op;
      op.key = rig.key(k);
      op.payload = {slot->data, static_cast<uint32_t>(bytes.size()), sums.data()};
      op.on_done = [](StoreOp&) {};
      rig.store().put(op);
      may_be[k].push_back(bytes);
      rig.reactor().advance(random.below(300'000));
      rig.power_cut_and_open();
      for (auto& [name, versions] : may_be) {
        std::string out;
        ASSERT_EQ(rig.get(name, out), Status::kOk) << "seed " << seed << " round " << round << " " << name;
        ASSERT_TRUE(std::find(versions.begin(), versions.end(), out) != versions.end())
            << "seed " << seed << " " << name;
        versions = {out};
      }
    }
  }
}

}  // namespace
}  // namespace memkv::engine
