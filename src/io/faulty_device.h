#pragma once
/// A drive that does everything wrong that drives do, replayable from a seed. For tests and the simulator.

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/random.h"
#include "io/device.h"
#include "io/memory_storage.h"

namespace memkv::io {

/// How often which fault comes: probabilities from 0 to 1 for each op. With all zeros it is a good drive.
struct FaultPlan {
  double read_error = 0;         ///< -EIO
  double write_error = 0;        ///< -EIO; a random part may have landed
  double sync_error = 0;         ///< -EIO; nothing more is durable
  double read_bit_flip = 0;      ///< one bit of the result is wrong, the image is not
  double write_lost = 0;         ///< reported as done, never lands
  double write_misdirected = 0;  ///< reported as done, lands at another place
  double slow = 0;               ///< completes up to `slow_ns_max` later
  uint64_t slow_ns_max = 50'000'000;
  uint64_t latency_ns_max = 0;  ///< every op takes up to this: completions come in another order than submissions
  bool volatile_cache = false;  ///< a write without dsync is cached until a sync, or a dsync write of its sectors
};

/// How often each fault has come.
struct FaultCounts {
  uint64_t reads = 0, writes = 0, syncs = 0;
  uint64_t errors = 0, bit_flips = 0, lost = 0, misdirected = 0, slowed = 0;
  uint64_t power_cuts = 0;
};

/// An op takes its effect when it completes, which a timer of the reactor decides; until then it is in flight. On a
/// SimReactor a run replays exactly.
///
/// One FaultyDevice stands for one drive: all users of the drive share it. The image outlives it: after a power cut,
/// open a new device on it.
///
/// Power cut: call power_cut() while the owner of the ops still lives, since the ops in flight are read from its
/// memory. Afterwards every op is idle and its `on_done` never runs, so the owner can be destroyed next. The device
/// refuses all later ops with kIo.
///
/// Thread: the reactor's.
class FaultyDevice final : public BlockDevice {
 public:
  enum class OpKind : uint8_t { kRead, kWrite, kSync };
  struct OpView {
    OpKind kind;
    uint64_t offset;
    uint64_t bytes;
    bool dsync;
  };
  using Gate = std::function<bool(const OpView&)>;
  using OnWrite = std::function<void(uint64_t offset, uint64_t bytes)>;

  FaultyDevice(Reactor& reactor, std::shared_ptr<MemoryStorage> image, const FaultPlan& plan, uint64_t seed);
  ~FaultyDevice() override;  ///< nothing may be in flight: let it finish, or call power_cut() first

  const DeviceInfo& info() const override { return info_; }
  Result<void> read(IoOp& op, uint64_t offset, std::span<const iovec> pieces) override;
  Result<void> write(IoOp& op, uint64_t offset, std::span<const iovec> pieces, bool dsync) override;
  Result<void> sync(IoOp& op) override;
  const DriveLoad* load() const override { return &load_; }

  /// May be changed between ops. `volatile_cache` may be changed only while nothing is cached.
  FaultPlan& plan() { return plan_; }
  const FaultCounts& counts() const { return counts_; }

  /// From now on ops that touch the range fail with -EIO, and have no effect.
  void fail_range(uint64_t offset, uint64_t bytes) { bad_.push_back({offset, bytes}); }
  void fail_all() { fail_range(0, ~uint64_t{0}); }
  /// The next `times` reads that touch the range fail with -EIO.
  void fail_reads(uint64_t offset, uint64_t bytes, uint64_t times = ~uint64_t{0}) {
    bad_reads_.push_back({{offset, bytes}, times});
  }
  /// From now on writes fail with this errno, and nothing of them lands. 0: they succeed again.
  void fail_writes(int error) { write_errno_ = error; }
  void heal() {
    bad_.clear();
    bad_reads_.clear();
    write_errno_ = 0;
  }

  /// Holds each op for which `gate` returns true, at the moment when it would complete. An empty gate holds no further
  /// ops; those that are held stay so until release().
  void set_gate(Gate gate) { gate_ = std::move(gate); }
  size_t held() const { return held_.size(); }
  /// Ops for which `refuses` returns true are not taken, as by a device that has too many in flight.
  void set_refuses(Gate refuses) { refuses_ = std::move(refuses); }
  OpView held_at(size_t index) const { return held_[index]->view; }
  void release(size_t index = 0);  ///< completes a held op inside this call; 0 is the one held longest
  void release_all();

  /// Runs in the loop just before a write takes effect. It may call power_cut(), which then tears this write as well.
  void set_on_write(OnWrite hook) { on_write_ = std::move(hook); }

  size_t in_flight() const { return in_flight_; }
  size_t cached_sectors() const { return cache_.size(); }
  /// Every op in flight and every cached sector lands wholly, partly or not at all, at random (see above).
  void power_cut();
  /// A byte of the image itself, past the cache: for tests that corrupt it by hand.
  std::byte* durable(uint64_t offset) { return image_->data() + offset; }

 private:
  struct Flight {
    Timer timer;
    FaultyDevice* device = nullptr;
    IoOp* op = nullptr;  // null: free
    OpView view{};
    std::span<const iovec> pieces;
    uint64_t cache_age = 0;  // for a sync: the age of the cache when it was submitted
    DriveLoad::Flight load;
  };
  struct Range {
    uint64_t offset, bytes;
    bool touches(const OpView& view) const;
  };
  struct BadRead {
    Range range;
    uint64_t times;
  };
  struct CachedSector {
    uint64_t age;
    std::vector<std::byte> bytes;
  };

  Result<void> start(IoOp& op, const OpView& view, std::span<const iovec> pieces);
  Flight* take_flight();
  uint64_t delay_ns();
  void on_time(Flight& flight);
  void finish(Flight& flight);
  int32_t take_effect(Flight& flight);
  int32_t do_read(const Flight& flight);
  int32_t do_write(const Flight& flight);
  int32_t do_sync(const Flight& flight);
  bool is_bad(const OpView& view) const;
  bool is_bad_read(const OpView& view);
  bool hit(double probability) { return probability > 0 && random_.next_double() < probability; }
  void flip_bit(std::vector<std::byte>& bytes);
  void land(uint64_t offset, std::span<const std::byte> bytes, bool durable);
  void land_partly(uint64_t offset, std::span<const std::byte> bytes, bool durable);
  void land_sector(uint64_t offset, const std::byte* bytes, bool durable);

  Reactor& reactor_;
  std::shared_ptr<MemoryStorage> image_;
  FaultPlan plan_;
  FaultCounts counts_;
  base::Random random_;
  DeviceInfo info_;
  DriveLoad load_;
  std::vector<Flight> flights_;
  size_t in_flight_ = 0;
  bool dead_ = false;
  std::vector<Range> bad_;
  std::vector<BadRead> bad_reads_;
  int write_errno_ = 0;
  Gate gate_;
  Gate refuses_;
  OnWrite on_write_;
  std::vector<Flight*> held_;
  std::map<uint64_t, CachedSector> cache_;  // by offset: written but not durable yet
  uint64_t cache_age_ = 0;
};

}  // namespace memkv::io
