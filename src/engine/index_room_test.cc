/// A full index that two namespaces share.

#include "engine/rig_testing.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kOther = 78;

/// A small block of a given namespace.
Status put_as(Rig& rig, uint64_t ns, const std::string& k, const std::string& bytes) {
  static Slot slot;
  std::memcpy(slot.data, bytes.data(), bytes.size());
  const uint64_t seed = checksum_seed(ns, k, 0);
  const uint64_t sum = base::xxh3(base::as_bytes(bytes), seed);
  PutOp op;
  op.key = {digest_of(kSecret, ns, k), ns, k};
  op.payload = {slot.data, static_cast<uint32_t>(bytes.size()), &sum};
  return rig.run(op, [&] { rig.store().put(op); });
}

bool exists_as(Rig& rig, uint64_t ns, const std::string& k) {
  return rig.store().exists({digest_of(kSecret, ns, k), ns, k});
}

TEST(CaseB7, TinyBlocksOfOneNamespaceLeaveTheOtherItsOwn) {
  Rig rig(1, 64 * kMi);
  rig.close();
  rig.index_entries_max = 1000;
  rig.open();
  constexpr int kMine = 200;
  for (int i = 0; i < kMine; i++) ASSERT_EQ(put_as(rig, kNamespace, "mine " + std::to_string(i), "block"), Status::kOk);
  int stored = 0;
  const int entries = static_cast<int>(rig.store().counters().index_entries_max);
  for (int i = 0; i < entries + entries / 2; i++) {
    if (put_as(rig, kOther, "tiny " + std::to_string(i), "x") == Status::kOk) stored++;
  }
  EXPECT_GT(stored, entries) << "the index was never full";
  int left = 0;
  for (int i = 0; i < kMine; i++) left += exists_as(rig, kNamespace, "mine " + std::to_string(i)) ? 1 : 0;
  EXPECT_EQ(left, kMine);
  EXPECT_GT(rig.store().counters().dropped_index_full, 0u);
  for (int i = 0; i < 100; i++) {
    EXPECT_EQ(put_as(rig, kNamespace, "more " + std::to_string(i), "block"), Status::kOk) << i;
  }
  for (int i = 0; i < 100; i++) EXPECT_TRUE(exists_as(rig, kNamespace, "more " + std::to_string(i))) << i;
}

/// Reclaim goes by age, and the blocks of the small tenant are the oldest.
TEST(CaseB7, ATenantWithFewBlocksIsNotTakenForNone) {
  Rig rig(1, 64 * kMi);
  rig.close();
  rig.index_entries_max = 1000;
  rig.open();
  constexpr int kMine = 4;
  for (int i = 0; i < kMine; i++) ASSERT_EQ(put_as(rig, kNamespace, "mine " + std::to_string(i), "block"), Status::kOk);
  for (int i = 0; i < 5000; i++) (void)put_as(rig, kOther, "tiny " + std::to_string(i), "x");
  for (int i = 0; i < kMine; i++) EXPECT_TRUE(exists_as(rig, kNamespace, "mine " + std::to_string(i))) << i;
  EXPECT_EQ(rig.store().counters().segments_reclaimed, 0u);
}

/// The removes that make room are ops under way too, but they add nothing to the index: the entries that are kept for
/// tenants within their share stay free for them.
TEST(CaseB7, APutWithinItsShareDoesNotWaitForTheRemovesThatMakeRoom) {
  Rig rig(1, 64 * kMi);
  rig.close();
  rig.index_entries_max = 1000;
  rig.open();
  for (int i = 0; i < 5; i++) ASSERT_EQ(put_as(rig, kNamespace, "mine " + std::to_string(i), "block"), Status::kOk);
  for (int i = 0; i < 1200; i++) (void)put_as(rig, kOther, "tiny " + std::to_string(i), "x");
  rig.device(0).set_gate([](const auto&) { return true; });  // tombstones and records stay under way
  static Slot slot;
  struct Attack {
    std::string key;
    uint64_t sum;
    PutOp op;
  };
  std::vector<Attack> attacks(64);
  for (size_t i = 0; i < attacks.size(); i++) {
    Attack& a = attacks[i];
    a.key = "more " + std::to_string(i);
    a.sum = base::xxh3({slot.data, 1}, checksum_seed(kOther, a.key, 0));
    a.op.key = {digest_of(kSecret, kOther, a.key), kOther, a.key};
    a.op.payload = {slot.data, 1, &a.sum};
    a.op.on_done = [](StoreOp&) {};
    rig.store().put(a.op);
  }
  rig.reactor().run_once(1'000'000);
  const auto refused = std::ranges::count_if(attacks, [](const Attack& a) { return a.op.status == Status::kBusy; });
  ASSERT_GT(refused, 16) << "the index is full for its tenant";
  const uint64_t sum = base::xxh3({slot.data, 5}, checksum_seed(kNamespace, "late", 0));
  PutOp op;
  op.key = {digest_of(kSecret, kNamespace, "late"), kNamespace, "late"};
  op.payload = {slot.data, 5, &sum};
  const Status status = rig.run(op, [&] {
    rig.store().put(op);
    rig.device(0).set_gate({});
    rig.device(0).release_all();
  });
  EXPECT_EQ(status, Status::kOk);
}

TEST(CaseB7, OneNamespaceAloneMakesRoomAsEver) {
  Rig rig(1, 64 * kMi);
  rig.close();
  rig.index_entries_max = 1000;
  rig.open();
  int stored = 0;
  for (int i = 0; i < 3000; i++) stored += put_as(rig, kNamespace, "tiny " + std::to_string(i), "x") == Status::kOk;
  EXPECT_GT(stored, 1500);
}

/// Everything that the index knows lies in the segment that is being written, which reclaim does not take.
TEST(IndexRoom, AnIndexThatIsFullOfOneSegmentMakesRoom) {
  Rig rig(1, 64 * kMi);
  rig.close();
  rig.index_entries_max = 64;
  rig.open();
  int stored = 0;
  for (int i = 0; i < 400; i++) stored += put_as(rig, kNamespace, "tiny " + std::to_string(i), "x") == Status::kOk;
  EXPECT_GT(stored, 200);
  EXPECT_EQ(put_as(rig, kNamespace, "the last", "x"), Status::kOk);
}

}  // namespace
}  // namespace memkv::engine
