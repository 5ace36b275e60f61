/// A drive that hangs or crawls, beside others that go on.

#include <gtest/gtest.h>

#include <list>
#include <utility>

#include "engine/crawl_testing.h"

namespace memkv::engine {
namespace {

TEST_F(Crawl, ADriveThatHangsGetsNoNewRecordsAndFewReads) {
  make(3);
  pass(2000 * kMs);  // by then closing marks and anchors are written
  hang(1);
  std::list<BlockGet> gets;
  gets.emplace_back(*rig, sick[0]);
  pass(300 * kMs);
  EXPECT_EQ(gets.front().done, 0);
  for (int i = 0; i < 100; ++i) {
    const std::string k = "new" + std::to_string(i);
    BlockPut put(*rig, k, 1);
    run_for(20 * kMs);
    ASSERT_EQ(put.done, 1) << "its drive hangs, and the others have room";
    ASSERT_EQ(put.op.status, Status::kOk);
    well.push_back(k);
  }
  BlockPut over(*rig, sick[1], 2);  // the one before must die on the drive that hangs
  run_for(20 * kMs);
  ASSERT_EQ(over.done, 1);
  EXPECT_EQ(over.op.status, Status::kBusy);
  int missed = 0;
  for (int round = 0; round < 3; ++round) {
    for (const std::string& k : sick) gets.emplace_back(*rig, k);
    run_for(20 * kMs);
  }
  for (const BlockGet& get : gets) missed += get.done == 1 && get.op.status == Status::kMiss;
  EXPECT_LE(rig->device(1).in_flight(), 128u);
  EXPECT_EQ(gets.size() - static_cast<size_t>(missed), rig->device(1).in_flight());
  EXPECT_GT(missed, 0);
  EXPECT_EQ(out.count, 0) << "it has not been long";

  let_go(1);
  pass(100 * kMs);
  for (BlockGet& get : gets) {
    ASSERT_EQ(get.done, 1);
    if (get.op.status == Status::kOk) rig->store().release(get.op);
  }
  for (const std::string& k : sick) rig->expect(k, bytes_of(k, 1, kBlock));
  BlockPut again(*rig, sick[1], 2);
  run_for(20 * kMs);
  EXPECT_EQ(again.op.status, Status::kOk);
}

/// One op at a time, as from a shell script: nothing overtakes the op that hangs.
TEST_F(Crawl, ADriveThatHangsWhileTheOthersAreIdleGetsNoNewRecordsAfterASecond) {
  make(3);
  hang(1);
  BlockGet get(*rig, sick[0]);
  run_for(900 * kMs);
  EXPECT_EQ(get.done, 0);
  BlockPut early(*rig, sick[1], 2);
  run_for(300 * kMs);
  EXPECT_EQ(early.done, 0) << "it may have been slow only";
  run_for(20 * kSecond);
  EXPECT_EQ(out.count, 0) << "that the others are quick has not been seen";
  std::list<BlockPut> puts;
  for (int i = 0; i < 100; ++i) puts.emplace_back(*rig, "new" + std::to_string(i), 1);
  run_for(50 * kMs);
  for (const BlockPut& put : puts) ASSERT_EQ(put.done, 1);
  let_go(1);
  run_for(100 * kMs);
  ASSERT_EQ(get.done + early.done, 2);
  ASSERT_EQ(get.op.status, Status::kOk);
  rig->store().release(get.op);
  rig->expect(early.key, early.bytes);
}

/// Small puts, within so short a time that nobody can see yet that the drive hangs.
TEST_F(Crawl, ADriveThatHangsLeavesExtentBuffersToTheOthers) {
  make(2);
  hang(1);
  std::list<BlockPut> puts;
  for (int i = 0; i < 50; ++i) {
    puts.emplace_back(*rig, sick[static_cast<size_t>(i)], 2);
    run_for(kMs);
    ASSERT_EQ(puts.back().done, 0) << "it is for the drive that hangs";
  }
  for (int i = 0; i < 10; ++i) {
    BlockPut put(*rig, well[static_cast<size_t>(i)], 2);
    run_for(kMs);
    ASSERT_EQ(put.done, 1);
    ASSERT_EQ(put.op.status, Status::kOk);
  }
  let_go(1);
  run_for(kSecond);
  for (const BlockPut& put : puts) {
    ASSERT_EQ(put.done, 1);
    ASSERT_EQ(put.op.status, Status::kOk);
    rig->expect(put.key, put.bytes);
  }
}

TEST_F(Crawl, ADriveThatGoesOnHangingIsTakenOutAndWhatItHoldsComesBackByItself) {
  make(3);
  hang(1);
  BlockGet get(*rig, sick[0]);
  BlockPut put(*rig, sick[1], 2);
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

/// The drives are full, so reclaim is at work on one of them all the time.
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
  std::list<BlockGet> gets;
  for (int i = 0; out.count == 0; ++i) {
    ASSERT_LT(i, 3000) << "a minute";
    gets.emplace_back(*rig, sick[static_cast<size_t>(i) % sick.size()]);
    pass(20 * kMs);
  }
  EXPECT_EQ(out.drive, 1);
  rig->store().take_drives_out(2);
  pass(7 * kSecond);
  for (BlockGet& get : gets) {
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
    BlockGet get(*rig, sick[0]);
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
  BlockGet get(*rig, key);
  BlockPut put(*rig, sick[1], 2);
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

/// The same for extents, footers and headers of segments.
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
  std::list<BlockGet> gets;
  for (const auto* keys : {&sick, &well}) {
    for (size_t i = 0; i < 20; ++i) gets.emplace_back(*rig, (*keys)[i]);
  }
  for (size_t d = 0; d < 3; ++d) hang(d);
  run_for(60 * kSecond);
  EXPECT_EQ(out.count, 0);
  for (size_t d = 0; d < 3; ++d) let_go(d);
  run_for(kSecond);
  for (BlockGet& get : gets) {
    ASSERT_EQ(get.op.status, Status::kOk);
    rig->store().release(get.op);
  }
}

TEST_F(Crawl, DrivesThatOvertakeEachOtherGoOn) {
  make(2);
  for (size_t d = 0; d < 2; ++d)
    rig->device(d).set_gate([held = false](const auto&) mutable { return !std::exchange(held, true); });
  BlockGet on_sick(*rig, sick[0]), on_well(*rig, well[0]);
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
  for (BlockGet* get : {&on_sick, &on_well}) {
    ASSERT_EQ(get->op.status, Status::kOk);
    rig->store().release(get->op);
  }
}

TEST_F(Crawl, WhatFailsAfterItsDriveHasLeftHoldsNothingUp) {
  make(2);
  hang(1);
  rig->device(1).fail_all();
  std::list<BlockPut> puts;
  for (const std::string& k : sick) puts.emplace_back(*rig, k, 2);
  run_for(50 * kMs);
  rig->store().take_drives_out(2);
  for (int i = 0; i < 10; ++i) {
    rig->device(1).release_all();
    run_for(50 * kMs);
  }
  for (const BlockPut& put : puts) {
    ASSERT_EQ(put.done, 1);
    ASSERT_EQ(put.op.status, Status::kOk);
    rig->expect(put.key, put.bytes);
  }
  EXPECT_EQ(out.count, 0);
}

/// A range write waits for the block's old bytes, on a drive that answers no reads.
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
