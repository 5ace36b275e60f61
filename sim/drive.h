#pragma once
/// A simulated drive. It outlives the processes that use it, and can do everything wrong that drives do.

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"
#include "io/device.h"
#include "sim/loop.h"
#include "sim/world.h"

namespace memkv::sim {

/// Faults of a drive: probabilities for each op, until the time given. Afterwards the drive is good again.
struct DriveFaults {
  double read_error = 0, write_error = 0;
  double lost_write = 0, misdirected_write = 0;
  double read_flip = 0;  ///< one bit of the result is wrong, the platter is right
  uint64_t errors_until_ns = 0;
  uint64_t slow_ns_max = 0;  ///< up to this long is added to each op
  uint64_t slow_until_ns = 0;
  uint64_t hangs_until_ns = 0;  ///< what is begun before completes behind it
  bool gone = false;            ///< every op fails, and it cannot be opened
};

struct DriveCounts {
  uint64_t reads = 0, writes = 0, errors = 0, lost = 0, misdirected = 0, torn = 0, dropped_from_cache = 0, rotten = 0;
};

/// Keeps the bytes of written sectors. Sectors that were never written read as zeros and take no memory. Thread: the
/// world's.
class Drive {
 public:
  using Sector = std::array<std::byte, base::kSectorBytes>;
  struct Options {
    uint64_t bytes = 0;
    bool volatile_cache = false;
    uint64_t latency_ns_min = 20 * kUs, latency_ns_max = 200 * kUs;
    uint64_t bytes_per_s = 0;  ///< shared by all ops in flight, a slice each in turn; 0: an op takes its latency alone
  };
  /// Where the shards' slices lie. The drive needs this to know which writes are the newest of each.
  struct Slices {
    uint64_t from = 0, bytes = 0;
  };

  Drive(World& world, uint32_t number, const Options& options, uint64_t seed);
  ~Drive();
  Drive(const Drive&) = delete;
  Drive& operator=(const Drive&) = delete;

  /// What a process gets when it opens the drive. Null: the drive is gone.
  std::unique_ptr<io::DriveFile> open();
  uint32_t number() const { return number_; }
  uint64_t bytes() const { return options_.bytes; }
  bool volatile_cache() const { return options_.volatile_cache; }
  DriveFaults& faults() { return faults_; }
  const DriveCounts& counts() const { return counts_; }
  void set_slices(Slices slices) { slices_ = slices; }
  /// Names two sectors that are copies of each other. While one of them is damaged, rot and zeroing leave the other
  /// alone, until the damaged one is written again.
  void set_copies(std::array<uint64_t, 2> sectors) { copies_ = {{{sectors[0]}, {sectors[1]}}}; }

  /// Call it when the processes with ops in flight are dead: each op lands wholly, partly or not at all.
  void tear_in_flight();
  /// The same, and each sector in the drive's cache lands or is lost by chance.
  void cut_power();
  /// Flips one bit of a written sector. `newest`: a sector of the last write of a slice. Returns the sector's number,
  /// or nothing if no sector was hit.
  std::optional<uint64_t> rot(bool newest);
  /// Zeroes a written sector, or everything from the middle on.
  std::optional<uint64_t> zero_sector();
  size_t in_flight() const { return flights_.size(); }

  /// True if one of the last writes of a slice was damaged or lost while no later write vouches for it: none began
  /// after this one, and all before it, had ended and were told. True as well if more than one write was lost within
  /// the last second. This is the one exception of the promise (docs/data-file.md).
  bool newest_damaged() const;

 private:
  friend class DriveDevice;
  friend class OpenDrive;
  struct Flight {
    io::IoOp* op = nullptr;
    SimLoop* loop = nullptr;
    io::DriveLoad* load = nullptr;
    io::DriveLoad::Flight load_flight;
    enum class Kind : uint8_t { kRead, kWrite, kSync } kind = Kind::kRead;
    uint64_t offset = 0, bytes = 0;
    std::span<const iovec> pieces;
    bool dsync = false;
    uint64_t cache_age = 0;
    uint64_t serial = 0;
    uint64_t tells_of = 0;  ///< of a write: all with a lower serial in its slice were known to be complete at its begin
  };
  /// A write that landed or was lost, and for which no later write vouches.
  struct Newest {
    uint64_t serial = 0, offset = 0, bytes = 0;
    bool damaged = false;
    const SimLoop* loop = nullptr;  ///< only compared, since it may be gone
    uint64_t turn = 0;              ///< turn of that loop in which it ended
  };
  struct Copy {
    uint64_t sector = UINT64_MAX;
    bool damaged = false;
  };

  Result<void> submit(std::unique_ptr<Flight> flight);
  void serve(uint64_t id);
  void serve_slice();
  void finish(uint64_t id);
  int32_t take_effect(Flight& flight);
  int32_t do_read(const Flight& flight);
  int32_t do_write(const Flight& flight);
  void read_bytes(uint64_t offset, std::span<std::byte> out) const;
  void land(uint64_t offset, std::span<const std::byte> bytes, bool durable);
  void land_partly(uint64_t offset, std::span<const std::byte> bytes, bool durable);
  void land_sector(uint64_t number, const std::byte* bytes, bool durable);
  std::optional<size_t> slice_of(uint64_t offset) const;
  uint64_t oldest_untold(const Flight& flight) const;
  void note_write(const Flight& flight, bool damaged);
  void note_damage(uint64_t sector);
  bool last_good_copy(uint64_t sector) const;
  bool faulty() const { return world_.now_ns() < faults_.errors_until_ns; }
  bool hit(double probability) { return faulty() && probability > 0 && random_.next_double() < probability; }
  Sector& platter(uint64_t number);

  World& world_;
  const uint32_t number_;
  const Options options_;
  base::Random random_;
  DriveFaults faults_;
  DriveCounts counts_;
  Slices slices_;
  std::vector<std::unique_ptr<Sector>> sectors_;
  std::vector<uint64_t> written_;  ///< numbers of sectors that were written, in the order of their first write
  struct Cached {
    uint64_t age = 0;
    Sector bytes;
  };
  std::map<uint64_t, Cached> cache_;
  uint64_t cache_age_ = 0;
  std::map<uint64_t, std::unique_ptr<Flight>> flights_;  ///< by serial
  struct Turn {
    uint64_t id = 0, bytes_left = 0;
  };
  std::deque<Turn> turns_;  ///< of a drive with a rate: ops that get their slices, the next one first
  uint64_t serial_ = 0;
  std::vector<std::vector<Newest>> newest_;     ///< by slice, in the order in which they ended
  std::vector<std::vector<uint64_t>> lost_ns_;  ///< by slice: times of lost writes within its last second
  std::array<Copy, 2> copies_;
};

}  // namespace memkv::sim
