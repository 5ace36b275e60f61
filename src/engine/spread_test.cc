/// Where the records of a batch go: they spread better than chance alone would deal their keys.

#include <gtest/gtest.h>

#include <list>

#include "engine/rig_testing.h"

namespace memkv::engine {
namespace {

constexpr size_t kDrives = 12;
constexpr size_t kBlock = 1 << 20;

struct Writes {
  uint64_t least = UINT64_MAX, most = 0;
};

/// All puts wait for their drives, and then land together. Returns what the drives wrote for them, headers and footers
/// included.
Writes put_together(Rig& rig, size_t count, uint64_t version) {
  std::vector<uint64_t> before;
  for (size_t d = 0; d < kDrives; ++d) {
    before.push_back(rig.device(d).counts().writes);
    rig.device(d).set_gate([](const auto&) { return true; });
  }
  std::list<PendingPut> puts;
  for (size_t i = 0; i < count; ++i) puts.emplace_back(rig, "k" + std::to_string(i), version, kBlock);
  for (size_t d = 0; d < kDrives; ++d) {
    rig.device(d).set_gate({});
    rig.device(d).release_all();
  }
  rig.reactor().run_until([&] { return std::all_of(puts.begin(), puts.end(), [](auto& p) { return p.done > 0; }); });
  Writes writes;
  for (size_t d = 0; d < kDrives; ++d) {
    const uint64_t took = rig.device(d).counts().writes - before[d];
    writes.least = std::min(writes.least, took);
    writes.most = std::max(writes.most, took);
  }
  for (const PendingPut& put : puts) EXPECT_EQ(put.op.status, Status::kOk);
  return writes;
}

TEST(Spread, ABatchLoadsAllDrivesAlike) {
  Rig rig(kDrives, 128 * kMi);
  const Writes writes = put_together(rig, 2 * kDrives, 1);
  EXPECT_EQ(writes.least, writes.most);
}

TEST(Spread, WhatLandsElsewhereReplacesTheOldForGood) {
  Rig rig(kDrives, 128 * kMi);
  for (uint64_t version = 1; version <= 4; ++version) put_together(rig, 2 * kDrives, version);
  rig.reopen();
  for (size_t i = 0; i < 2 * kDrives; ++i) {
    const std::string key = "k" + std::to_string(i);
    rig.expect(key, bytes_of(key, 4, kBlock));
  }
}

}  // namespace
}  // namespace memkv::engine
