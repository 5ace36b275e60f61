/// What `setup` and `status` tell of a drive is what it keeps.

#include "format/fit.h"
#include "engine/rig_testing.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kDriveBytes = 160 * kMi;

/// Puts blocks of one size, `batch` at a time, until the drive was written twice; then what it holds on average while
/// it is written once more.
uint64_t kept_bytes(uint32_t block_bytes, size_t batch) {
  Rig rig(1, kDriveBytes);
  rig.index_entries_max = 100'000;
  rig.reopen();
  uint64_t written = 0, kept = 0, samples = 0;
  for (uint64_t n = 0; written < 3 * kDriveBytes; written += batch * block_bytes) {
    std::vector<std::unique_ptr<PendingPut>> puts;
    for (size_t i = 0; i < batch; ++i)
      puts.push_back(std::make_unique<PendingPut>(rig, "model/layer/block-" + std::to_string(n++), 1, block_bytes));
    const auto done = [&] { return std::all_of(puts.begin(), puts.end(), [](const auto& p) { return p->done > 0; }); };
    EXPECT_TRUE(rig.reactor().run_until(done));
    if (written < 2 * kDriveBytes) continue;
    kept += rig.store().counters().bytes_used;
    ++samples;
  }
  return kept / samples;
}

uint64_t told_bytes(uint32_t block_bytes, uint32_t batch) {
  const auto layout = format::choose_layout(kDriveBytes, 1);
  return format::fitting_bytes(layout->slice_bytes, layout->segment_bytes, block_bytes, batch);
}

TEST(Fit, what_is_told_is_what_a_full_drive_keeps) {
  struct Case {
    uint32_t block_bytes, batch;
  };
  for (const Case c : {Case{4096, 16},
                       {4096, 1},
                       {5000, 16},
                       {32 * 1024, 16},
                       {32 * 1024, 1},
                       {64 * 1024, 2},
                       {64 * 1024, 1},
                       {256 * 1024, 1},
                       {2 * 1024 * 1024, 1}}) {
    const auto kept = static_cast<double>(kept_bytes(c.block_bytes, c.batch));
    const auto told = static_cast<double>(told_bytes(c.block_bytes, c.batch));
    std::printf("%u bytes, batches of %u: %.1f MiB told, %.1f kept\n", c.block_bytes, c.batch, told / kMi, kept / kMi);
    EXPECT_NEAR(kept / told, 1, 0.02) << c.block_bytes << " in batches of " << c.batch;
  }
}

}  // namespace
}  // namespace memkv::engine
