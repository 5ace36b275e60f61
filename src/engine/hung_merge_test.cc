/// Range writes and flushes while the I/O of a range write hangs.

#include <gtest/gtest.h>

#include <list>

#include "engine/crawl_testing.h"

namespace memkv::engine {
namespace {

using OpKind = io::FaultyDevice::OpKind;

/// A range write that is under way while the test goes on. Its memory is overwritten when it is done: nothing of ours
/// may read it any more.
struct BlockWrite {
  static constexpr uint64_t kOffset = 10, kBytes = 100;

  BlockWrite(Rig& rig, std::string name, uint64_t deadline_ns = ~uint64_t{0}) : key(std::move(name)) {
    std::memset(slot.data, 'w', kBytes);
    op.key = rig.key(key);
    op.offset = kOffset;
    op.payload = {slot.data, kBytes, nullptr};
    op.deadline_ns = deadline_ns;
    op.context = this;
    op.on_done = [](StoreOp& o) {
      auto& write = *static_cast<BlockWrite*>(o.context);
      ++write.done;
      std::memset(write.slot.data, 'q', kBytes);
    };
    rig.store().write(op);
  }
  /// The block as it is when this write is applied to its first version.
  std::string expected() const { return bytes_of(key, 1, kBlock).replace(kOffset, kBytes, kBytes, 'w'); }

  std::string key;
  Slot slot;
  WriteOp op;
  int done = 0;
};

class HungMerge : public Crawl {
 protected:
  void hang_reads(size_t drive) {
    rig->device(drive).set_gate([](const auto& view) { return view.kind == OpKind::kRead; });
  }
  uint64_t in(uint64_t ns) { return rig->reactor().now_ns() + ns; }
  void expect_written(const BlockWrite& write) {
    ASSERT_EQ(write.done, 1) << write.key;
    ASSERT_EQ(write.op.status, Status::kOk) << write.key;
    rig->expect(write.key, write.expected());
  }
  void expect_first_version(const std::string& k) { rig->expect(k, bytes_of(k, 1, kBlock)); }
  /// So many range writes of blocks on drives that are well, one after another.
  void write_well(size_t from, size_t count) {
    for (size_t i = from; i < from + count; ++i) {
      BlockWrite write(*rig, well[i]);
      run_for(20 * kMs);
      ASSERT_EQ(write.done, 1) << "its drive is well";
      expect_written(write);
    }
  }
};

TEST_F(HungMerge, ARangeWriteOfAHealthyDriveDoesNotWaitForAReadThatHangs) {
  make(3);
  hang_reads(1);
  std::list<BlockWrite> hung;
  for (size_t i = 0; i < 40; ++i) hung.emplace_back(*rig, sick[i]);
  run_for(kMs);
  EXPECT_EQ(rig->device(1).held(), 1u) << "one of them at a time";
  write_well(0, 20);
  for (const BlockWrite& write : hung) EXPECT_EQ(write.done, 0);
  let_go(1);
  run_for(kSecond);
  for (const BlockWrite& write : hung) expect_written(write);
  rig->reopen();
  for (const BlockWrite& write : hung) expect_written(write);
}

TEST_F(HungMerge, ARangeWriteOfAHealthyDriveDoesNotWaitForAWriteThatHangs) {
  make(2);
  rig->device(1).set_gate([](const auto& view) { return view.kind == OpKind::kWrite; });
  std::list<BlockWrite> hung;
  for (size_t i = 0; i < 40; ++i) hung.emplace_back(*rig, sick[i]);
  run_for(kMs);
  write_well(0, 20);
  for (const BlockWrite& write : hung) EXPECT_EQ(write.done, 0);
  let_go(1);
  run_for(kSecond);
  for (const BlockWrite& write : hung) expect_written(write);
}

/// Its chunks and its head lie on several drives; the merge of one hangs.
TEST_F(HungMerge, ALargeRangeWriteDoesNotWaitForOneThatHangs) {
  make(3);
  const std::string large = bytes_of("large", 1, 3 * kMi);
  ASSERT_EQ(rig->put_large("large", large), Status::kOk);
  hang_reads(1);
  const BlockWrite hung(*rig, sick[0]);
  run_for(kMs);
  ASSERT_EQ(rig->device(1).held(), 1u);
  // A block of which no record lies on the drive that hangs.
  const std::string& k = well[0];
  const uint64_t begin = rig->reactor().now_ns();
  ASSERT_EQ(rig->write_large(k, 1000, std::string(2000, 'l')), Status::kOk);
  EXPECT_LT(rig->reactor().now_ns() - begin, 200 * kMs);
  EXPECT_EQ(hung.done, 0);
  std::string expected = bytes_of(k, 1, kBlock);
  expected.replace(1000, 2000, 2000, 'l');
  rig->expect(k, expected);
  let_go(1);
  run_for(kSecond);
  expect_written(hung);
  rig->expect("large", large);
}

/// And what it had in hand from before the flush does not come back behind it.
TEST_F(HungMerge, AFlushDoesNotWaitForAMergeThatHangs) {
  make(3);
  hang_reads(1);
  const BlockWrite hung(*rig, sick[0]);
  run_for(kMs);
  ASSERT_EQ(rig->device(1).held(), 1u);
  FlushOp flush;
  flush.namespace_id = kNamespace;
  const uint64_t begin = rig->reactor().now_ns();
  int done = 0;
  flush.context = &done;
  flush.on_done = [](StoreOp& op) { ++*static_cast<int*>(op.context); };
  rig->store().flush_namespace(flush);
  rig->reactor().run_until([&] { return done > 0 || rig->reactor().now_ns() > begin + 100 * kMs; });
  EXPECT_EQ(done, 1);
  EXPECT_EQ(hung.done, 0);
  let_go(1);
  run_for(kSecond);
  ASSERT_EQ(hung.done, 1);
  ASSERT_EQ(hung.op.status, Status::kOk);
  ASSERT_EQ(flush.status, Status::kOk);
  for (int life = 0; life < 2; ++life) {
    std::string bytes;
    EXPECT_EQ(rig->get_unit(sick[0], BlockWrite::kOffset, BlockWrite::kBytes, bytes), Status::kOk);
    EXPECT_EQ(bytes, std::string(BlockWrite::kBytes, 'w'));
    EXPECT_EQ(rig->get_unit(sick[0], 0, BlockWrite::kOffset, bytes), Status::kMiss) << "it was flushed";
    EXPECT_EQ(rig->get_unit(sick[1], 0, kBlock, bytes), Status::kMiss);
    rig->reopen();
  }
}

/// A1: its client gave it up before it asked for the flush, so it must not be applied behind that.
TEST_F(HungMerge, AMergeThatWasGivenUpIsNotAppliedBehindAFlush) {
  make(2);
  hang_reads(1);
  uint64_t newest = 0;
  Slot slot;
  WriteOp hung, queued;
  int done = 0;
  for (WriteOp* op : {&hung, &queued}) {
    op->key = rig->key(sick[op == &hung ? 0 : 1]);
    op->payload = {slot.data, 100, nullptr};
    op->fence = &newest;
    op->context = &done;
    op->on_done = [](StoreOp& o) { ++*static_cast<int*>(o.context); };
    rig->store().write(*op);
  }
  run_for(kMs);
  ASSERT_EQ(rig->device(1).held(), 1u);
  newest = 1;
  FlushOp flush;
  flush.namespace_id = kNamespace;
  flush.fence = &newest;
  flush.epoch = 1;
  ASSERT_EQ(rig->run(flush, [&] { rig->store().flush_namespace(flush); }), Status::kOk);
  let_go(1);
  run_for(kSecond);
  ASSERT_EQ(done, 2);
  for (const WriteOp* op : {&hung, &queued}) {
    std::string bytes;
    EXPECT_EQ(op->status, Status::kBusy);
    EXPECT_EQ(rig->get_unit(sick[op == &hung ? 0 : 1], 0, 100, bytes), Status::kMiss);
  }
}

/// A large range write that was merging the second of its chunks.
TEST_F(HungMerge, AFlushUnderALargeMergeLeavesNothingOfTheOldBlock) {
  make(1);
  const std::string old = bytes_of("large", 1, 2 * base::kChunkBytes);
  ASSERT_EQ(rig->put_large("large", old), Status::kOk);
  Upload upload;
  const std::string name = "large";
  upload.key = rig->key(name);
  const uint64_t from = base::kChunkBytes - 1000;
  ASSERT_EQ(rig->store().begin(upload, from + 2000, false, true), Status::kOk);
  ASSERT_EQ(rig->put_part(upload, "large", from, std::string(1000, 'a')), Status::kOk);
  ASSERT_EQ(rig->put_part(upload, "large", base::kChunkBytes, std::string(1000, 'b')), Status::kOk);
  rig->device(0).set_gate([reads = 0](const auto& view) mutable { return view.kind == OpKind::kRead && ++reads == 3; });
  CommitOp commit;
  commit.upload = &upload;
  int done = 0;
  commit.context = &done;
  commit.on_done = [](StoreOp& op) { ++*static_cast<int*>(op.context); };
  rig->store().commit(commit);
  run_for(50 * kMs);
  ASSERT_EQ(rig->device(0).held(), 1u);
  FlushOp flush;
  flush.namespace_id = kNamespace;
  ASSERT_EQ(rig->run(flush, [&] { rig->store().flush_namespace(flush); }), Status::kOk);
  let_go(0);
  run_for(kSecond);
  ASSERT_EQ(done, 1);
  ASSERT_EQ(commit.status, Status::kOk);
  for (int life = 0; life < 2; ++life) {
    std::string bytes;
    EXPECT_EQ(rig->get_unit("large", from, 1000, bytes), Status::kOk);
    EXPECT_EQ(bytes, std::string(1000, 'a'));
    EXPECT_EQ(rig->get_unit("large", from - 1000, 1000, bytes), Status::kMiss);
    EXPECT_EQ(rig->get_unit("large", base::kChunkBytes, 1000, bytes), Status::kOk);
    EXPECT_EQ(bytes, std::string(1000, 'b'));
    rig->reopen();
  }
}

/// Nothing of it is in a log yet, so its caller need not wait for the drive; the buffer does.
TEST_F(HungMerge, ARangeWriteWhoseReadHangsEndsAtItsDeadline) {
  make(3);
  hang_reads(1);
  const BlockWrite first(*rig, sick[0], in(300 * kMs)), behind(*rig, sick[0], in(400 * kMs)),
      queued(*rig, sick[1], in(500 * kMs));
  run_for(250 * kMs);
  EXPECT_EQ(first.done + behind.done + queued.done, 0);
  run_for(100 * kMs);
  EXPECT_EQ(first.done, 1);
  EXPECT_EQ(first.op.status, Status::kDeadline);
  run_for(200 * kMs);
  ASSERT_EQ(behind.done + queued.done, 2);
  EXPECT_EQ(behind.op.status, Status::kDeadline);
  EXPECT_EQ(queued.op.status, Status::kDeadline);
  EXPECT_EQ(rig->device(1).held(), 1u) << "the buffer is still the drive's";
  EXPECT_GT(rig->store().ops_in_flight(), 0u);
  write_well(0, 20);
  let_go(1);
  run_for(kSecond);
  EXPECT_EQ(rig->store().ops_in_flight(), 0u);
  for (size_t i = 0; i < 2; ++i) expect_first_version(sick[i]);
  const BlockWrite again(*rig, sick[0]);
  run_for(20 * kMs);
  expect_written(again);
  rig->reopen();
  rig->expect(again.key, again.expected());
}

/// What may be in a log already is waited for: its outcome is the drive's to tell.
TEST_F(HungMerge, ARangeWriteWhoseRecordIsOnItsWayWaitsBeyondItsDeadline) {
  make(2);
  rig->device(1).set_gate([](const auto& view) { return view.kind == OpKind::kWrite; });
  const BlockWrite write(*rig, sick[0], in(300 * kMs));
  run_for(2 * kSecond);
  EXPECT_EQ(write.done, 0);
  let_go(1);
  run_for(kSecond);
  expect_written(write);
}

TEST_F(HungMerge, ADriveThatIsTakenOutGivesTheBufferBackByItsOwnCompletion) {
  make(3);
  hang_reads(1);
  std::list<BlockWrite> hung;
  for (size_t i = 0; i < 10; ++i) hung.emplace_back(*rig, sick[i]);
  run_for(kMs);
  ASSERT_EQ(rig->device(1).held(), 1u);
  rig->store().take_drives_out(2);
  run_for(300 * kMs);
  EXPECT_EQ(hung.front().done, 0) << "its memory is still the drive's";
  for (auto at = std::next(hung.begin()); at != hung.end(); ++at) {
    ASSERT_EQ(at->done, 1) << "it waits for the drive no more: the block went with it";
    EXPECT_EQ(at->op.status, Status::kOk);
  }
  write_well(0, 20);
  let_go(1);
  run_for(kSecond);
  EXPECT_EQ(hung.front().done, 1);
  EXPECT_EQ(rig->store().ops_in_flight(), 0u);
}

}  // namespace
}  // namespace memkv::engine
