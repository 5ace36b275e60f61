#pragma once
/// For tests: a store of several drives, one of which can be made to hang.

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/rig_testing.h"
#include "engine/store_impl.h"

namespace memkv::engine {

inline constexpr uint64_t kMs = 1'000'000;
inline constexpr uint64_t kSecond = 1'000 * kMs;
inline constexpr size_t kBlock = 5000;

/// Ops that are under way while the test goes on.
struct BlockPut : PendingPut {
  BlockPut(Rig& owner, std::string name, uint64_t version) : PendingPut(owner, std::move(name), version, kBlock) {}
};

struct BlockGet {
  BlockGet(Rig& rig, std::string name) : key(std::move(name)) {
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
      BlockPut put(*rig, name + std::to_string(i), 1);
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

}  // namespace memkv::engine
