/// A change whose client has given it up, or whose time is over, when it gets its turn on the block (case A1).

#include <deque>

#include "engine/rig_testing.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kDrive = 64 * kMi;
const std::string kKey = "k";  // the key of all changes here

/// A change that is under way beside others.
template <typename Op>
struct Started : Op {
  bool done = false;
  Started() {
    this->context = &done;
    this->on_done = [](StoreOp& op) { *static_cast<bool*>(op.context) = true; };
  }
};

class CaseA1Store : public testing::Test {
 protected:
  CaseA1Store() : rig(1, kDrive) {}
  void fence(StoreOp& op, uint64_t epoch) {
    op.fence = &newest;
    op.epoch = epoch;
  }
  void make_put(PutOp& op, Slot& slot, const std::string& bytes) {
    std::memcpy(slot.data, bytes.data(), bytes.size());
    sums.emplace_back(base::grain_count(bytes.size()));
    base::grain_sums({slot.data, bytes.size()}, base::chunk_seed(kNamespace, kKey, 0), sums.back().data());
    op.key = rig.key(kKey);
    op.payload = {slot.data, static_cast<uint32_t>(bytes.size()), sums.back().data()};
  }
  void until(const bool& done) {
    for (int turns = 0; !done && turns < 10'000; ++turns) rig.reactor().run_once(1'000'000);
    ASSERT_TRUE(done);
  }

  Rig rig;
  uint64_t newest = 1;
  std::deque<std::vector<uint64_t>> sums;
};

TEST_F(CaseA1Store, APutThatWaitsForItsTurnIsNotDoneAfterwards) {
  Slot first_slot, old_slot;
  Started<PutOp> first, old;
  make_put(first, first_slot, "first");
  make_put(old, old_slot, "old");
  fence(first, 1);
  fence(old, 1);
  rig.store().put(first);
  rig.store().put(old);  // waits for the first one
  newest = 2;
  Started<RemoveOp> removed;
  removed.key = rig.key(kKey);
  fence(removed, 2);
  rig.store().remove(removed);
  until(removed.done);
  EXPECT_EQ(first.status, Status::kOk) << "its turn had come before";
  EXPECT_EQ(old.status, Status::kBusy);
  EXPECT_EQ(removed.status, Status::kOk);
  std::string found;
  EXPECT_EQ(rig.get(kKey, found), Status::kMiss);
}

TEST_F(CaseA1Store, AFlushIsOvertakenByNoPutThatWaitsForItsTurn) {
  Slot first_slot, old_slot;
  Started<PutOp> first, old;
  make_put(first, first_slot, "first");
  make_put(old, old_slot, "old");
  fence(first, 1);
  fence(old, 1);
  rig.store().put(first);
  rig.store().put(old);
  newest = 2;
  Started<FlushOp> flush;
  flush.namespace_id = kNamespace;
  fence(flush, 2);
  rig.store().flush_namespace(flush);
  until(flush.done);
  until(old.done);
  EXPECT_EQ(flush.status, Status::kOk);
  EXPECT_EQ(old.status, Status::kBusy);
  std::string found;
  EXPECT_EQ(rig.get(kKey, found), Status::kMiss);
  rig.reopen();
  EXPECT_EQ(rig.get(kKey, found), Status::kMiss);
}

TEST_F(CaseA1Store, RangeWritesCommitsAndFlushesWaitForTheirTurnToo) {
  ASSERT_EQ(rig.put(kKey, "first"), Status::kOk);
  Slot slot, part;
  Started<PutOp> first;
  make_put(first, slot, "new!!");
  fence(first, 1);
  Upload upload;
  upload.key = rig.key(kKey);
  ASSERT_EQ(rig.store().begin(upload, 3, false, false), Status::kOk);
  ASSERT_EQ(rig.put_part(upload, kKey, 0, "old"), Status::kOk);
  Started<WriteOp> write;
  write.key = rig.key(kKey);
  std::memcpy(part.data, "old", 3);
  write.payload = {part.data, 3, nullptr};
  Started<CommitOp> commit;
  commit.upload = &upload;
  Started<FlushOp> flush;
  flush.namespace_id = kNamespace;
  for (StoreOp* old : {static_cast<StoreOp*>(&write), static_cast<StoreOp*>(&commit), static_cast<StoreOp*>(&flush)}) {
    fence(*old, 0);
  }
  rig.store().put(first);
  rig.store().write(write);
  rig.store().commit(commit);
  rig.store().flush_namespace(flush);
  for (const bool* done : {&first.done, &write.done, &commit.done, &flush.done}) until(*done);
  EXPECT_EQ(first.status, Status::kOk);
  for (const StoreOp* old :
       {static_cast<StoreOp*>(&write), static_cast<StoreOp*>(&commit), static_cast<StoreOp*>(&flush)}) {
    EXPECT_EQ(old->status, Status::kBusy);
  }
  rig.expect(kKey, "new!!");
  EXPECT_NE(upload.id, 0u) << "who did not give it up commits it again";
  commit.done = false;
  fence(commit, 1);
  rig.store().commit(commit);
  until(commit.done);
  EXPECT_EQ(commit.status, Status::kOk);
  rig.expect(kKey, "old");
}

TEST_F(CaseA1Store, AChangeWhoseTurnComesPastItsDeadlineIsNotDone) {
  Slot first_slot, late_slot;
  Started<PutOp> first, late;
  make_put(first, first_slot, "first");
  make_put(late, late_slot, "late");
  late.deadline_ns = rig.reactor().now_ns();
  rig.store().put(first);
  rig.store().put(late);
  until(late.done);
  EXPECT_EQ(first.status, Status::kOk);
  EXPECT_EQ(late.status, Status::kDeadline);
  rig.expect(kKey, "first");
}

}  // namespace
}  // namespace memkv::engine
