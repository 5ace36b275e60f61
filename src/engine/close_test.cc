/// A store that is closed while a drive has ops of it.

#include <gtest/gtest.h>

#include <string>

#include "base/log_testing.h"
#include "engine/crawl_testing.h"

namespace memkv::engine {
namespace {

std::string logged;

class Close : public Crawl {
 protected:
  Close() {
    op.context = &closed;
    op.on_done = [](StoreOp& o) { ++*static_cast<int*>(o.context); };
    logged.clear();
    base::set_log_sink([](base::LogLevel, std::string_view line) { logged += line; });
  }
  ~Close() override { base::set_log_sink(nullptr); }
  /// How often the loop turned meanwhile.
  size_t turns_in(uint64_t ns) {
    const uint64_t end = rig->reactor().now_ns() + ns;
    size_t turns = 0;
    rig->reactor().run_until([&] { return ++turns, rig->reactor().now_ns() >= end; });
    return turns;
  }

  StoreOp op;
  int closed = 0;
};

TEST_F(Close, WaitsForWhatADriveHasWithoutSpinningAndSaysWhich) {
  make(2);
  hang(1);
  BlockPut put(*rig, sick[0], 2);
  run_for(kMs);
  rig->store().close(op);
  BlockPut refused(*rig, well[0], 2);
  run_for(100 * kMs);
  EXPECT_EQ(refused.done, 1);
  EXPECT_EQ(refused.op.status, Status::kCanceled);
  EXPECT_LT(turns_in(60 * kSecond), 10'000u) << "a look a tick, which is two turns";
  EXPECT_EQ(closed, 0);
  EXPECT_EQ(put.done, 0) << "its memory is still the drive's";
  EXPECT_NE(logged.find("drive 1 (" + rig->device(1).info().path + ") has not answered for 5 s"), std::string::npos)
      << logged;
  EXPECT_EQ(logged.find("drive 0"), std::string::npos);
  EXPECT_EQ(logged.find("not answered"), logged.rfind("not answered")) << "once";
  let_go(1);
  run_for(kMs);
  EXPECT_EQ(put.done, 1);
  ASSERT_EQ(closed, 1) << "what ends brings the next step";
  EXPECT_EQ(op.status, Status::kOk);
  EXPECT_EQ(rig->store().ops_in_flight(), 0u);
  rig->open();
  rig->expect(put.key, put.bytes);
}

/// Nothing of the change is left but a buffer that the drive has.
TEST_F(Close, WaitsForTheBufferOfAChangeThatEndedAtItsDeadline) {
  make(2);
  hang(1);
  Slot slot;
  WriteOp write;
  int done = 0;
  write.key = rig->key(sick[0]);
  write.payload = {slot.data, 100, nullptr};
  write.deadline_ns = rig->reactor().now_ns() + 200 * kMs;
  write.context = &done;
  write.on_done = [](StoreOp& o) { ++*static_cast<int*>(o.context); };
  rig->store().write(write);
  run_for(kMs);
  rig->store().close(op);
  run_for(300 * kMs);
  EXPECT_EQ(done, 1);
  EXPECT_EQ(write.status, Status::kDeadline);
  run_for(10 * kSecond);
  EXPECT_EQ(closed, 0);
  let_go(1);
  run_for(kMs);
  ASSERT_EQ(closed, 1);
  rig->open();
  rig->expect(sick[0], bytes_of(sick[0], 1, kBlock));
}

}  // namespace
}  // namespace memkv::engine
