#pragma once
/// For tests: a store with a RAM tier of 16 MiB over one drive, and gets that can stay under way.

#include <gtest/gtest.h>

#include <string>

#include "engine/rig_testing.h"
#include "engine/tier.h"

namespace memkv::engine {

inline constexpr uint32_t kLarge = 700'001, kSmall = 5'000;

/// A get that can stay under way, or keep its bytes, while the test goes on.
struct PendingGet {
  PendingGet(Rig& owner, const std::string& name, uint64_t offset, uint32_t length, bool verify = false)
      : rig(owner), key(name), slot(base::kChunkBytes + 8192) {
    const Lookup found = rig.store().lookup(rig.key(key), offset, length, 0);
    op.key = rig.key(key);
    op.offset = offset;
    op.length = length;
    op.verify = verify;
    op.buffer = found.buffer_bytes == 0 ? nullptr : slot.data;
    op.buffer_bytes = found.buffer_bytes;
    op.context = &done;
    op.on_done = [](StoreOp& o) { ++*static_cast<int*>(o.context); };
    rig.store().read(op);
  }
  std::string bytes() const { return {reinterpret_cast<const char*>(op.data), op.bytes}; }

  Rig& rig;
  std::string key;
  Slot slot;
  ReadOp op;
  int done = 0;
};

class TierRig : public testing::Test {
 protected:
  TierRig() {
    rig_.tier_bytes = 16 * kMi;
    rig_.reopen();
    EXPECT_EQ(rig_.put("large", large_), Status::kOk);
    EXPECT_EQ(rig_.put("small", small_), Status::kOk);
  }
  uint64_t reads() { return rig_.device(0).counts().reads; }
  const StoreCounters& counters() { return rig_.store().counters(); }
  void settle() { rig_.reactor().run_until_idle(); }
  void hold_reads() {
    rig_.device(0).set_gate([](const auto& op) { return op.kind == io::FaultyDevice::OpKind::kRead; });
  }
  void let_go() {
    rig_.device(0).set_gate({});
    rig_.device(0).release_all();
    settle();
  }
  /// Reads so many other blocks of 1 MB, once each.
  void scan(int blocks) {
    for (int i = 0; i < blocks; ++i) {
      const std::string name = "scan" + std::to_string(i), bytes = bytes_of(name, 1, 1'000'000);
      if (!rig_.store().exists(rig_.key(name))) {
        ASSERT_EQ(rig_.put(name, bytes), Status::kOk);
      }
      rig_.expect(name, bytes);
    }
  }

  Rig rig_{1, 256 * kMi};
  const std::string large_ = bytes_of("large", 1, kLarge), small_ = bytes_of("small", 1, kSmall);
};

}  // namespace memkv::engine
