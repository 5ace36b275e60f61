#pragma once
/// Which drives are late, and which of them crawl.

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/log.h"
#include "format/format.h"

namespace memkv::engine {

/// Looks at the drives' ops in flight every tick. A drive lags when other drives have overtaken it; one that lags far
/// behind for long crawls. Other drives are the measure: where all of them wait, as on a machine that stands still,
/// none is late.
///
/// Owns what it saw; borrows the logs. Thread: worker.
class DriveWatch {
 public:
  explicit DriveWatch(const std::vector<std::unique_ptr<Log>>& logs) : logs_(logs) {}

  /// Every tick: which drives lag now.
  void look(uint64_t now_ns);
  /// Once for each drive after look(): true when it has crawled for so long that it is to be taken out.
  bool crawls(uint8_t drive);
  /// Nobody looks any more, so nothing is known.
  void forget() { lagging_ = 0; }
  bool lags(uint8_t drive) const { return (lagging_ >> drive & 1) != 0; }
  bool any_lags() const { return lagging_ != 0; }
  /// The drive lags, and has in flight all that a drive that lags may have.
  bool at_lagging_limit(uint8_t drive) const;

 private:
  /// How long a drive's oldest op has been in flight.
  struct Wait {
    uint64_t oldest_since_ns = 0;  // the op that it is about
    uint64_t ns = 0;               // less the time that this process stood still
  };
  const io::DriveLoad* load_of(size_t drive) const;
  uint64_t overtaken_ns(size_t drive) const;
  void look_at_wait(size_t drive);
  bool hangs_while_others_idle(size_t drive) const;

  const std::vector<std::unique_ptr<Log>>& logs_;
  uint64_t lagging_ = 0;    // as of the last look, a bit a drive
  uint64_t looked_ns_ = 0;  // when that was
  uint64_t step_ns_ = 0;    // time that counts since the look before
  std::array<Wait, format::kDrivesMax> waits_{};
  std::array<uint64_t, format::kDrivesMax> crawled_ns_{};  // how much longer it crawled than not
};

}  // namespace memkv::engine
