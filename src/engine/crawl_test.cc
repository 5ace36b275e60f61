/// A drive that hangs or crawls beside others that go on.

#include <gtest/gtest.h>

#include <list>
#include <optional>
#include <utility>

#include "engine/rig_testing.h"
#include "engine/store_impl.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1'000 * kMs;
constexpr size_t kBlock = 5000;

/// Ops that are under way while the test goes on.
struct Put : PendingPut {
  Put(Rig& owner, std::string name, uint64_t version) : PendingPut(owner, std::move(name), version, kBlock) {}
};

struct Get {
  Get(Rig& rig, std::string name) : key(std::move(name)) {
    op.key = rig.key(key);
    op.length = kBlock;
    op.buffer = slot.data;
    op.buffer_bytes = 4 * 4096;
    op.context = &done;
    op.on_done = [](StoreOp& o) { ++*static_cast<int*>(o.context); };
    rig.store().read(op);
  }
  std::string key;
  Slot slot{4 * 4096};
  ReadOp op;
  int done = 0;
};

class Crawl : public testing::Test {
 protected:
  struct Out {
    int count = 0, drive = -1;
    std::string why;
  };
  void make(int drives) {
    rig.emplace(drives, 128 * kMi);
    rig->on_drive_out_context_ = &out;
    rig->on_drive_out_ = [](void* context, uint8_t drive, const char* why) {
      Out& o = *static_cast<Out*>(context);
      ++o.count;
      o.drive = drive;
      o.why = why;
    };
    rig->plan_.latency_ns_max = 100'000;
    rig->reopen();
    for (int i = 0; i < 600; ++i) {
      const std::string k = "k" + std::to_string(i);
      const uint64_t before = rig->device(1 % drives).counts().writes;
      EXPECT_EQ(rig->put(k, bytes_of(k, 1, kBlock)), Status::kOk);
      (rig->device(1 % drives).counts().writes > before ? sick : well).push_back(k);
    }
  }
  /// Half of what is reserved is used up within the next changes, so that the next range is reserved; `left`: all but
  /// so many are.
  void come_near_half() { store().skip_sequences(format::kSequenceReservation / 2 - 610); }
  void use_up_but(uint64_t left) { store().skip_sequences(format::kSequenceReservation / 2 - left); }
  StoreImpl& store() { return static_cast<StoreImpl&>(rig->store()); }
  void put_new(const std::string& name, int count) {
    for (int i = 0; i < count; ++i) {
      Put put(*rig, name + std::to_string(i), 1);
      run_for(kMs);
      ASSERT_EQ(put.done, 1) << put.key;
      ASSERT_EQ(put.op.status, Status::kOk) << put.key;
      sequence = std::max(sequence, put.op.generation);
    }
  }
  static bool is_anchor(const io::FaultyDevice::OpView& view) {
    return view.kind == io::FaultyDevice::OpKind::kWrite &&
           view.offset < format::kSlicesOffset + 2 * base::kSectorBytes;
  }
  void hang(size_t drive) {
    rig->device(drive).set_gate([](const auto&) { return true; });
  }
  void let_go(size_t drive) {
    rig->device(drive).set_gate({});
    rig->device(drive).release_all();
  }
  /// Lets time pass while the drives that are well have something to do.
  void pass(uint64_t ns) {
    const uint64_t end = rig->reactor().now_ns() + ns;
    for (size_t i = 0; rig->reactor().now_ns() < end; ++i) {
      const std::string& k = well[i % well.size()];
      rig->expect(k, bytes_of(k, 1, kBlock));
      run_for(20 * kMs);
    }
  }
  void run_for(uint64_t ns) {
    const uint64_t end = rig->reactor().now_ns() + ns;
    rig->reactor().run_until([&] { return rig->reactor().now_ns() >= end; });
  }
  std::optional<Rig> rig;
  Out out;
  Generation sequence = 0;              // the highest that put_new() saw
  std::vector<std::string> sick, well;  // keys, by where they lie: on drive 1, or not
};

TEST_F(Crawl, ADriveThatHangsGetsNoNewRecordsAndFewReads) {
  make(3);
  pass(2000 * kMs);  // closing marks and anchors are written
  hang(1);
  std::list<Get> gets;
  gets.emplace_back(*rig, sick[0]);
  pass(300 * kMs);
  EXPECT_EQ(gets.front().done, 0);
  for (int i = 0; i < 100; ++i) {
    const std::string k = "new" + std::to_string(i);
    Put put(*rig, k, 1);
    run_for(20 * kMs);
    ASSERT_EQ(put.done, 1) << "its drive hangs, and the others have room";
    ASSERT_EQ(put.op.status, Status::kOk);
    well.push_back(k);
  }
  Put over(*rig, sick[1], 2);  // the one before must die on the drive that hangs
  run_for(20 * kMs);
  ASSERT_EQ(over.done, 1);
  EXPECT_EQ(over.op.status, Status::kBusy);
  int missed = 0;
  for (int round = 0; round < 3; ++round) {
    for (const std::string& k : sick) gets.emplace_back(*rig, k);
    run_for(20 * kMs);
  }
  for (const Get& get : gets) missed += get.done == 1 && get.op.status == Status::kMiss;
  EXPECT_LE(rig->device(1).in_flight(), 128u);
  EXPECT_EQ(gets.size() - static_cast<size_t>(missed), rig->device(1).in_flight());
  EXPECT_GT(missed, 0);
  EXPECT_EQ(out.count, 0) << "it has not been long";

  let_go(1);
  pass(100 * kMs);
  for (Get& get : gets) {
    ASSERT_EQ(get.done, 1);
    if (get.op.status == Status::kOk) rig->store().release(get.op);
  }
  for (const std::string& k : sick) rig->expect(k, bytes_of(k, 1, kBlock));
  Put again(*rig, sick[1], 2);
  run_for(20 * kMs);
  EXPECT_EQ(again.op.status, Status::kOk);
}

/// One op at a time, as a shell script does: nothing overtakes what hangs.
TEST_F(Crawl, ADriveThatHangsWhileTheOthersAreIdleGetsNoNewRecordsAfterASecond) {
  make(3);
  hang(1);
  Get get(*rig, sick[0]);
  run_for(900 * kMs);
  EXPECT_EQ(get.done, 0);
  Put early(*rig, sick[1], 2);
  run_for(300 * kMs);
  EXPECT_EQ(early.done, 0) << "it may have been slow only";
  run_for(20 * kSecond);
  EXPECT_EQ(out.count, 0) << "that the others are quick has not been seen";
  std::list<Put> puts;
  for (int i = 0; i < 100; ++i) puts.emplace_back(*rig, "new" + std::to_string(i), 1);
  run_for(50 * kMs);
  for (const Put& put : puts) ASSERT_EQ(put.done, 1);
  let_go(1);
  run_for(100 * kMs);
  ASSERT_EQ(get.done + early.done, 2);
  ASSERT_EQ(get.op.status, Status::kOk);
  rig->store().release(get.op);
  rig->expect(early.key, early.bytes);
}

/// Small puts in a time too short to see that it hangs.
TEST_F(Crawl, ADriveThatHangsLeavesExtentBuffersToTheOthers) {
  make(2);
  hang(1);
  std::list<Put> puts;
  for (int i = 0; i < 50; ++i) {
    puts.emplace_back(*rig, sick[static_cast<size_t>(i)], 2);
    run_for(kMs);
    ASSERT_EQ(puts.back().done, 0) << "it is for the drive that hangs";
  }
  for (int i = 0; i < 10; ++i) {
    Put put(*rig, well[static_cast<size_t>(i)], 2);
    run_for(kMs);
    ASSERT_EQ(put.done, 1);
    ASSERT_EQ(put.op.status, Status::kOk);
  }
  let_go(1);
  run_for(kSecond);
  for (const Put& put : puts) {
    ASSERT_EQ(put.done, 1);
    ASSERT_EQ(put.op.status, Status::kOk);
    rig->expect(put.key, put.bytes);
  }
}

TEST_F(Crawl, ADriveThatGoesOnHangingIsTakenOutAndWhatItHoldsComesBackByItself) {
  make(3);
  hang(1);
  Get get(*rig, sick[0]);
  Put put(*rig, sick[1], 2);
  pass(4 * kSecond);
  EXPECT_EQ(out.count, 0);
  pass(4 * kSecond);
  ASSERT_EQ(out.count, 1);
  EXPECT_EQ(out.drive, 1);
  EXPECT_NE(out.why.find("crawls"), std::string::npos);
  rig->store().take_drives_out(2);
  EXPECT_EQ(get.done + put.done, 0) << "their memory is still the drive's";
  for (const std::string& k : sick) EXPECT_FALSE(rig->store().exists(rig->key(k)));
  pass(10 * kSecond);
  EXPECT_EQ(get.done + put.done, 0);
  EXPECT_EQ(out.count, 1);
  for (const std::string& k : well) rig->expect(k, bytes_of(k, 1, kBlock));

  let_go(1);
  pass(100 * kMs);
  ASSERT_EQ(get.done, 1);
  if (get.op.status == Status::kOk) rig->store().release(get.op);
  ASSERT_EQ(put.done, 1);
  EXPECT_EQ(put.op.status, Status::kOk) << "what landed on a drive that is out is written again elsewhere";
  rig->expect(put.key, put.bytes);
}

/// Drives that are full: reclaim is at one of them all the time.
TEST_F(Crawl, ReclaimOfADriveThatHangsDoesNotHoldUpTheOthers) {
  make(2);
  const std::string large(400'000, 'x');
  int i = 0;
  rig->device(1).set_gate([](const auto& view) { return view.kind == io::FaultyDevice::OpKind::kRead; });
  for (; rig->device(1).held() == 0; ++i) ASSERT_EQ(rig->put("large" + std::to_string(i % 1000), large), Status::kOk);
  ASSERT_GT(i, 100) << "the read that hangs is reclaim's";
  hang(1);
  rig->store().take_drives_out(2);
  const uint64_t reclaimed = rig->store().counters().segments_reclaimed;
  for (int end = i + 1000; i < end; ++i) ASSERT_EQ(rig->put("large" + std::to_string(i % 1000), large), Status::kOk);
  EXPECT_GT(rig->store().counters().segments_reclaimed, reclaimed + 2);
  EXPECT_EQ(rig->device(1).held(), 1u);
  let_go(1);
  run_for(kSecond);
  rig->expect("large" + std::to_string((i - 1) % 1000), large);
}

TEST_F(Crawl, ADriveThatIsSlowForLongIsTakenOut) {
  make(3);
  rig->device(1).plan().slow = 1;
  rig->device(1).plan().slow_ns_max = 6 * kSecond;
  std::list<Get> gets;
  for (int i = 0; out.count == 0; ++i) {
    ASSERT_LT(i, 3000) << "a minute";
    gets.emplace_back(*rig, sick[static_cast<size_t>(i) % sick.size()]);
    pass(20 * kMs);
  }
  EXPECT_EQ(out.drive, 1);
  rig->store().take_drives_out(2);
  pass(7 * kSecond);
  for (Get& get : gets) {
    ASSERT_EQ(get.done, 1);
    ASSERT_TRUE(get.op.status == Status::kOk || get.op.status == Status::kMiss);
    if (get.op.status != Status::kOk) continue;
    EXPECT_EQ(std::memcmp(get.op.data, bytes_of(get.key, 1, kBlock).data(), kBlock), 0);
    rig->store().release(get.op);
  }
}

TEST_F(Crawl, AHiccupTakesNothingOut) {
  make(2);
  for (int i = 0; i < 5; ++i) {
    hang(1);
    Get get(*rig, sick[0]);
    pass(3 * kSecond);
    let_go(1);
    pass(3 * kSecond);
    ASSERT_EQ(get.op.status, Status::kOk);
    rig->store().release(get.op);
  }
  EXPECT_EQ(out.count, 0);
}

TEST_F(Crawl, TheOnlyDriveIsWaitedFor) {
  make(1);
  const std::string& key = sick[0];
  hang(0);
  Get get(*rig, key);
  Put put(*rig, sick[1], 2);
  run_for(60 * kSecond);
  EXPECT_EQ(get.done + put.done, 0);
  EXPECT_EQ(out.count, 0);
  let_go(0);
  run_for(kSecond);
  EXPECT_EQ(put.op.status, Status::kOk);
  ASSERT_EQ(get.op.status, Status::kOk);
  rig->store().release(get.op);
}

TEST_F(Crawl, AHungDriveDoesNotKeepTheOthersFromReservingSequences) {
  make(2);
  rig->device(1).set_gate(is_anchor);
  come_near_half();
  put_new("half", 20);
  run_for(50 * kMs);
  ASSERT_EQ(rig->device(1).held(), 1u) << "the next range is on its way";
  rig->store().take_drives_out(2);
  use_up_but(100);
  put_new("over", 200);
  let_go(1);
  rig->missing_ = 2;
  rig->reopen();
  const Generation before = sequence;
  put_new("later", 1);
  EXPECT_GT(sequence, before);
}

TEST_F(Crawl, SequencesThatCouldNotBeReservedAreTriedAgain) {
  make(1);
  for (const bool refused : {true, false}) {
    const auto bad = [asked = 0](const auto& view) mutable { return is_anchor(view) && ++asked <= 10; };
    if (refused) rig->device(0).set_refuses(bad);
    if (!refused) rig->device(0).fail_range(format::kSlicesOffset, 2 * base::kSectorBytes);
    come_near_half();
    put_new("half", 20);
    run_for(50 * kMs);
    rig->device(0).heal();
    use_up_but(1000);
    put_new("rest", 500);
    run_for(50 * kMs);
    put_new("over", 600);
    rig->reopen();
    const Generation before = sequence;
    put_new("later", 600);
    EXPECT_GT(sequence, before + 600);
  }
  EXPECT_EQ(out.count, 0);
}

/// Extents, footers and headers of segments alike.
TEST_F(Crawl, ADriveThatHasNoRoomForMoreOpsIsWaitedFor) {
  make(1);
  rig->device(0).set_refuses([asked = 0](const auto&) mutable { return ++asked % 11 != 0; });
  std::list<PendingPut> puts;
  for (int i = 0; i < 20; ++i) puts.emplace_back(*rig, "large" + std::to_string(i), 1, 400'000);
  run_for(kSecond);
  EXPECT_EQ(out.count, 0) << out.why;
  rig->device(0).set_refuses({});
  for (const PendingPut& put : puts) {
    ASSERT_EQ(put.done, 1);
    ASSERT_EQ(put.op.status, Status::kOk);
    rig->expect(put.key, put.bytes);
  }
  rig->reopen();
  for (const PendingPut& put : puts) rig->expect(put.key, put.bytes);
}

TEST_F(Crawl, WhereAllDrivesStandStillNoneIsTakenOut) {
  make(3);
  std::list<Get> gets;
  for (const auto* keys : {&sick, &well}) {
    for (size_t i = 0; i < 20; ++i) gets.emplace_back(*rig, (*keys)[i]);
  }
  for (size_t d = 0; d < 3; ++d) hang(d);
  run_for(60 * kSecond);
  EXPECT_EQ(out.count, 0);
  for (size_t d = 0; d < 3; ++d) let_go(d);
  run_for(kSecond);
  for (Get& get : gets) {
    ASSERT_EQ(get.op.status, Status::kOk);
    rig->store().release(get.op);
  }
}

TEST_F(Crawl, DrivesThatOvertakeEachOtherGoOn) {
  make(2);
  for (size_t d = 0; d < 2; ++d)
    rig->device(d).set_gate([held = false](const auto&) mutable { return !std::exchange(held, true); });
  Get on_sick(*rig, sick[0]), on_well(*rig, well[0]);
  run_for(kMs);
  ASSERT_EQ(rig->device(0).held() + rig->device(1).held(), 2u);
  for (size_t i = 0; i < 40; ++i) {
    pass(500 * kMs);
    rig->expect(sick[i], bytes_of(sick[i], 1, kBlock));
    EXPECT_EQ(rig->put("new" + std::to_string(i), "bytes"), Status::kOk) << "one hung op each, and both have room";
  }
  EXPECT_EQ(on_sick.done + on_well.done, 0);
  EXPECT_EQ(out.count, 0) << "without both of them there is no store";
  for (size_t d = 0; d < 2; ++d) let_go(d);
  run_for(kSecond);
  for (Get* get : {&on_sick, &on_well}) {
    ASSERT_EQ(get->op.status, Status::kOk);
    rig->store().release(get->op);
  }
}

TEST_F(Crawl, WhatFailsAfterItsDriveHasLeftHoldsNothingUp) {
  make(2);
  hang(1);
  rig->device(1).fail_all();
  std::list<Put> puts;
  for (const std::string& k : sick) puts.emplace_back(*rig, k, 2);
  run_for(50 * kMs);
  rig->store().take_drives_out(2);
  for (int i = 0; i < 10; ++i) {
    rig->device(1).release_all();
    run_for(50 * kMs);
  }
  for (const Put& put : puts) {
    ASSERT_EQ(put.done, 1);
    ASSERT_EQ(put.op.status, Status::kOk);
    rig->expect(put.key, put.bytes);
  }
  EXPECT_EQ(out.count, 0);
}

/// A range write that waits for the block's old bytes, on a drive that answers no reads.
TEST_F(Crawl, ALargePutDoesNotWaitForARangeWriteThatHangs) {
  make(3);
  rig->device(1).set_gate([](const auto& view) { return view.kind == io::FaultyDevice::OpKind::kRead; });
  Slot slot;
  std::memset(slot.data, 1, kBlock);
  int done = 0;
  WriteOp hangs;
  hangs.key = rig->key(sick[0]);
  hangs.offset = 10;
  hangs.payload = {slot.data, 100, nullptr};
  hangs.context = &done;
  hangs.on_done = [](StoreOp& o) { ++*static_cast<int*>(o.context); };
  rig->store().write(hangs);
  run_for(kMs);
  const std::string bytes = bytes_of("large", 1, 3 * kMi);
  const uint64_t begin = rig->reactor().now_ns();
  ASSERT_EQ(rig->put_large("large", bytes), Status::kOk);
  EXPECT_LT(rig->reactor().now_ns() - begin, 100 * kMs);
  EXPECT_EQ(done, 0) << "it hangs, and the drive is not out yet";
  let_go(1);
  run_for(kSecond);
  EXPECT_EQ(done, 1);
  EXPECT_EQ(hangs.status, Status::kOk);
  rig->expect("large", bytes);
  rig->reopen();
  rig->expect("large", bytes);
}

}  // namespace
}  // namespace memkv::engine
