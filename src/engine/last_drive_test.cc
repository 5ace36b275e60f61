/// Cases C9 and C13: a drive that takes no writes is told apart from one that is full and from one that is slow.

#include <gtest/gtest.h>

#include <cerrno>

#include "base/log.h"
#include "engine/rig_testing.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

class CaseC9Errno : public testing::TestWithParam<int> {
 protected:
  CaseC9Errno() { base::set_log_level(base::LogLevel::kOff); }
  ~CaseC9Errno() override { base::set_log_level(base::LogLevel::kInfo); }
};

/// The file system below the only drive is full, or the drive has become read-only.
TEST_P(CaseC9Errno, TheLastDriveIsReadAndRefusesWritesUntilItTakesThemAgain) {
  const Status refused = GetParam() == ENOSPC ? Status::kNoSpace : Status::kIo;
  Rig rig(1, 64 * kMi);
  bool out = false;
  rig.on_drive_out_context_ = &out;
  rig.on_drive_out_ = [](void* context, uint8_t, const char*) { *static_cast<bool*>(context) = true; };
  rig.reopen();
  ASSERT_EQ(rig.put("small", bytes_of("small", 1, 5'000)), Status::kOk);
  ASSERT_EQ(rig.put_large("large", bytes_of("large", 1, 5 * kMi)), Status::kOk);
  rig.device(0).fail_writes(GetParam());
  const uint64_t reclaimed = rig.store().counters().segments_reclaimed;
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(rig.put("new", bytes_of("new", 1, 100'000)), refused);
    EXPECT_EQ(rig.put_large("large", bytes_of("large", 2, 3 * kMi)), refused);
    EXPECT_EQ(rig.remove("small"), refused);
    rig.reactor().advance(kSecond / 3);
  }
  EXPECT_FALSE(out);
  EXPECT_EQ(rig.store().counters().logs_refusing, 1u);
  EXPECT_EQ(rig.store().counters().segments_reclaimed, reclaimed) << "nothing is evicted for what cannot be written";
  rig.expect("small", bytes_of("small", 1, 5'000));
  rig.expect("large", bytes_of("large", 1, 5 * kMi));

  rig.device(0).fail_writes(0);
  rig.reactor().advance(2 * kSecond);
  ASSERT_EQ(rig.put("new", bytes_of("new", 3, 100'000)), Status::kOk);
  EXPECT_EQ(rig.store().counters().logs_refusing, 0u);
  ASSERT_EQ(rig.remove("small"), Status::kOk);
  for (int open = 0; open < 2; ++open) {
    rig.expect("new", bytes_of("new", 3, 100'000));
    rig.expect("large", bytes_of("large", 1, 5 * kMi));
    EXPECT_FALSE(rig.store().exists(rig.key("small")));
    rig.power_cut_and_open();
  }
}

INSTANTIATE_TEST_SUITE_P(Writes, CaseC9Errno, testing::Values(ENOSPC, EIO));

/// Of two drives, the first one that takes no writes goes out. The other is then the last one, and stays.
TEST(CaseC9, TheLastOfTwoStays) {
  base::set_log_level(base::LogLevel::kOff);
  Rig rig(2, 64 * kMi);
  std::vector<uint8_t> out;
  rig.on_drive_out_context_ = &out;
  rig.on_drive_out_ = [](void* context, uint8_t drive, const char*) {
    static_cast<std::vector<uint8_t>*>(context)->push_back(drive);
  };
  rig.reopen();
  for (int i = 0; i < 20; ++i) ASSERT_EQ(rig.put("k" + std::to_string(i), bytes_of("k", 1, 5'000)), Status::kOk);
  for (const size_t d : {0, 1}) rig.device(d).fail_writes(ENOSPC);
  std::vector<std::unique_ptr<PendingPut>> puts;
  for (int i = 0; i < 20; ++i) puts.push_back(std::make_unique<PendingPut>(rig, "new" + std::to_string(i), 1, 5'000));
  rig.reactor().advance(kSecond);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(rig.store().counters().logs_refusing, 1u);
  rig.store().take_drives_out(uint64_t{1} << out[0]);
  rig.reactor().advance(kSecond);
  for (const auto& put : puts) {
    EXPECT_EQ(put->done, 1);
    EXPECT_NE(put->op.status, Status::kOk);
  }
  base::set_log_level(base::LogLevel::kInfo);
}

/// A flush that its log does not take has emptied the index nevertheless. What it left in the log must not come back
/// after its blocks were removed.
TEST(CaseC9, ARemoveBehindAFlushThatIsNotDurableIsAnsweredWhenItIs) {
  base::set_log_level(base::LogLevel::kOff);
  for (const bool fails : {false, true}) {
    Rig rig(1, 64 * kMi);
    ASSERT_EQ(rig.put("k", bytes_of("k", 1, 5'000)), Status::kOk);
    FlushOp flush;
    flush.namespace_id = kNamespace;
    RemoveOp remove;
    remove.key = rig.key("k");
    int done = 0;
    for (StoreOp* op : {static_cast<StoreOp*>(&flush), static_cast<StoreOp*>(&remove)}) {
      op->context = &done;
      op->on_done = [](StoreOp& o) { ++*static_cast<int*>(o.context); };
    }
    if (fails) {
      rig.device(0).fail_writes(EIO);
      ASSERT_EQ(rig.run(flush, [&] { rig.store().flush_namespace(flush); }), Status::kIo);
      EXPECT_EQ(rig.remove("k"), Status::kIo);
      rig.device(0).fail_writes(0);
      rig.reactor().advance(2 * kSecond);
      EXPECT_EQ(rig.remove("k"), Status::kMiss);
    } else {
      rig.device(0).set_gate(
          [](const io::FaultyDevice::OpView& view) { return view.kind == io::FaultyDevice::OpKind::kWrite; });
      rig.store().flush_namespace(flush);
      rig.store().remove(remove);
      rig.reactor().advance(kSecond);
      EXPECT_EQ(done, 0);
      rig.device(0).set_gate({});
      rig.device(0).release_all();
      rig.reactor().advance(kSecond);
      EXPECT_EQ(done, 2);
      EXPECT_EQ(remove.status, Status::kMiss);
    }
    rig.power_cut_and_open();
    EXPECT_FALSE(rig.store().exists(rig.key("k")));
  }
  base::set_log_level(base::LogLevel::kInfo);
}

/// A put ran out of time because the drive was slow, while nothing was full.
TEST(CaseC13, TimeThatRanOutIsNoLackOfSpace) {
  Rig rig(1, 64 * kMi);
  ASSERT_EQ(rig.put("first", bytes_of("first", 1, 5'000)), Status::kOk);
  rig.device(0).set_gate(
      [](const io::FaultyDevice::OpView& view) { return view.kind == io::FaultyDevice::OpKind::kWrite; });
  std::vector<std::unique_ptr<PreparedPut>> puts;
  for (int i = 0; i < 30; ++i) {
    puts.push_back(std::make_unique<PreparedPut>(rig, "k" + std::to_string(i), 1, 200'000));
    puts.back()->op.deadline_ns = rig.reactor().now_ns() + kSecond / 2;
    puts.back()->start();
  }
  rig.reactor().advance(2 * kSecond);
  int late = 0;
  for (const auto& put : puts) {
    if (put->done == 0) continue;  // the drive has it in flight
    EXPECT_EQ(put->op.status, Status::kDeadline);
    ++late;
  }
  EXPECT_GT(late, 0);
  rig.device(0).set_gate({});
  rig.device(0).release_all();
  rig.reactor().advance(kSecond);
  for (const auto& put : puts) EXPECT_EQ(put->done, 1);
}

}  // namespace
}  // namespace memkv::engine
