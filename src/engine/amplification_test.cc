/// Bytes that reach a drive over bytes that were put, counted at the device: everything that a store writes, anchors and
/// marks too.

#include <memory>
#include <string>
#include <vector>

#include "engine/rig_testing.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kDriveBytes = 8 * base::kGiB;  // segments of full size

/// A drive that keeps nothing, and counts what is written to it. It reads as zeros: a store that is new.
class CountingDevice final : public io::BlockDevice {
 public:
  explicit CountingDevice(io::Reactor& reactor) : reactor_(reactor) { info_.size_bytes = kDriveBytes; }
  const io::DeviceInfo& info() const override { return info_; }
  Result<void> read(io::IoOp& op, uint64_t, std::span<const iovec> pieces) override {
    for (const iovec& piece : pieces) std::memset(piece.iov_base, 0, piece.iov_len);
    return reactor_.post(op, bytes_of_pieces(pieces));
  }
  Result<void> write(io::IoOp& op, uint64_t offset, std::span<const iovec> pieces, bool) override {
    const int32_t bytes = bytes_of_pieces(pieces);
    written += static_cast<uint64_t>(bytes);
    if ((offset - format::kSlicesOffset) / base::kSectorBytes < 2) anchors += static_cast<uint64_t>(bytes);
    if (bytes == base::kSectorBytes) marks += static_cast<uint64_t>(bytes);
    ++writes;
    return reactor_.post(op, bytes);
  }
  Result<void> sync(io::IoOp& op) override { return reactor_.post(op, 0); }

  uint64_t written = 0, writes = 0;
  uint64_t anchors = 0;  ///< of `written`
  uint64_t marks = 0;    ///< writes of one sector: anchors, segment headers, closing marks

 private:
  static int32_t bytes_of_pieces(std::span<const iovec> pieces) {
    size_t bytes = 0;
    for (const iovec& piece : pieces) bytes += piece.iov_len;
    return static_cast<int32_t>(bytes);
  }
  io::Reactor& reactor_;
  io::DeviceInfo info_;
};

/// Puts of one size in batches: all of a batch start in one turn of the loop, as the ops of a frame do, and the next
/// batch starts when the last one is done.
class Puts {
 public:
  Puts(uint32_t block_bytes, size_t batch) : slot_(block_bytes), block_bytes_(block_bytes), ops_(batch) {
    sums_.resize(base::grain_count(block_bytes));
    StoreOptions o;
    o.index_entries_max = 1 << 20;
    const auto layout = format::choose_layout(kDriveBytes, 1);
    DriveSlice s;
    s.device = &device_;
    s.offset_bytes = format::kSlicesOffset;
    s.size_bytes = layout->slice_bytes;
    s.segment_bytes = layout->segment_bytes;
    o.slices.push_back(s);
    store_ = Store::make(reactor_, o);
    StoreOp op;
    run(op, [&] { store_->open(op); });
  }
  ~Puts() {
    StoreOp op;
    run(op, [&] { store_->close(op); });
  }

  /// Device bytes over payload bytes. Whole segments, so that each one's header and footer count in full.
  double amplification() {
    constexpr uint64_t kSegments = 4;
    const uint64_t before = device_.written;
    uint64_t user = 0;
    const uint64_t segment_bytes = format::choose_layout(kDriveBytes, 1)->segment_bytes;
    while (device_.written - before < kSegments * segment_bytes) user += put_batch();
    const double factor = static_cast<double>(device_.written - before) / static_cast<double>(user);
    std::printf("%u bytes, batches of %zu: %.4f (anchors %.5f, single sectors %.5f; %.1f records a write)\n",
                block_bytes_, ops_.size(), factor, static_cast<double>(device_.anchors) / static_cast<double>(user),
                static_cast<double>(device_.marks) / static_cast<double>(user),
                static_cast<double>(user / block_bytes_) / static_cast<double>(device_.writes));
    return factor;
  }

 private:
  uint64_t put_batch() {
    size_t done = 0;
    keys_.clear();
    for (size_t i = 0; i < ops_.size(); ++i)
      keys_.push_back("model-llama-70b/layer-17/block-" + std::to_string(next_++));
    for (size_t i = 0; i < ops_.size(); ++i) {
      PutOp& op = ops_[i] = {};
      op.key = {digest_of(kSecret, kNamespace, keys_[i]), kNamespace, keys_[i]};
      op.payload = {slot_.data, block_bytes_, sums_.data()};
      op.context = &done;
      op.on_done = [](StoreOp& o) { ++*static_cast<size_t*>(o.context); };
      store_->put(op);
    }
    while (done < ops_.size()) reactor_.run_once(1'000'000);
    for (const PutOp& op : ops_) EXPECT_EQ(op.status, Status::kOk);
    return uint64_t{block_bytes_} * ops_.size();
  }
  void run(StoreOp& op, auto&& start) {
    bool done = false;
    op.context = &done;
    op.on_done = [](StoreOp& o) { *static_cast<bool*>(o.context) = true; };
    start();
    while (!done) reactor_.run_once(1'000'000);
    EXPECT_EQ(op.status, Status::kOk);
  }

  io::SimReactor reactor_;
  CountingDevice device_{reactor_};
  std::unique_ptr<Store> store_;
  Slot slot_;
  const uint32_t block_bytes_;
  std::vector<uint64_t> sums_;
  std::vector<PutOp> ops_;
  std::vector<std::string> keys_;
  uint64_t next_ = 0;
};

double amplification(uint32_t block_bytes, size_t batch) { return Puts(block_bytes, batch).amplification(); }

constexpr uint32_t kKi = 1024;

TEST(Amplification, small_blocks_of_a_batch_share_an_extent) {
  EXPECT_LE(amplification(4 * kKi, 16), 1.15);
  EXPECT_LE(amplification(4 * kKi, 128), 1.07);
}

TEST(Amplification, a_lone_small_block_takes_a_sector_more) { EXPECT_LE(amplification(4 * kKi, 1), 2.05); }

TEST(Amplification, lone_blocks_of_64_KiB) { EXPECT_LE(amplification(64 * kKi, 1), 1.065); }

TEST(Amplification, batches_of_64_KiB) {
  for (const size_t batch : {2, 3, 4, 8, 16}) EXPECT_LE(amplification(64 * kKi, batch), 1.05) << batch;
}

TEST(Amplification, large_blocks) {
  for (const size_t batch : {1, 2, 8}) {
    EXPECT_LE(amplification(128 * kKi, batch), 1.05) << batch;
    EXPECT_LE(amplification(1024 * kKi, batch), 1.01) << batch;
  }
}

}  // namespace
}  // namespace memkv::engine
