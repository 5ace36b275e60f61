#pragma once
/// Reads of a log that are begun before their bytes are asked for.

#include <cstdint>
#include <deque>
#include <memory>
#include <new>
#include <vector>

#include "base/sizes.h"
#include "engine/log.h"
#include "io/reactor.h"

namespace memkv::engine {

/// Memory that a drive takes.
struct FreeSectors {
  void operator()(std::byte* memory) const { ::operator delete (memory, std::align_val_t{base::kSectorBytes}); }
};
using Sectors = std::unique_ptr<std::byte, FreeSectors>;
Sectors make_sectors(uint64_t bytes);

/// Ranges are read in the order in which they were added, several at a time, and used in that order. It is a help
/// only: what a read did not bring, or brought wrong, the user reads again itself.
///
/// Owns the memory of the ranges. Thread: worker.
class ReadAhead {
 public:
  ReadAhead(io::Reactor& reactor, Log& log) : reactor_(reactor), log_(log) {}
  /// Waits for what the drive has.
  ~ReadAhead() { drop_all(); }
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  void add(uint64_t offset, uint64_t bytes) { ranges_.emplace_back(offset, bytes); }
  /// Begins as many reads as may be under way: `bytes_max` of all ranges in memory, but always one.
  void start(uint64_t bytes_max);
  /// The first range is there, or cannot be; or there is none. Then find() does not wait.
  bool ready() const { return ranges_.empty() || ranges_.front().state == State::kDone; }
  /// These bytes, as they came with the first or the second range. Waits for them. Null: they do not come that way.
  /// Good until the range is dropped.
  const std::byte* find(uint64_t offset, uint64_t bytes);
  size_t size() const { return ranges_.size(); }
  bool covers(uint64_t offset) const { return !ranges_.empty() && ranges_.front().holds(offset, base::kSectorBytes); }
  bool empty() const { return ranges_.empty(); }
  /// The first range is not needed any more.
  void drop();
  void drop_all();

 private:
  enum class State : uint8_t { kWaits, kReads, kDone };
  struct Range {
    Range(uint64_t at, uint64_t size) : offset(at), bytes(size) {}
    bool holds(uint64_t from, uint64_t size) const { return from >= offset && from + size <= offset + bytes; }
    uint64_t offset, bytes;
    State state = State::kWaits;
    bool good = false;
    uint64_t memory_bytes = 0;
    Sectors memory;
    io::IoOp io;
    iovec piece{};
  };
  bool start(Range& range);
  void wait(Range& range);
  void take_memory(Range& range);

  static constexpr size_t kRangesAtOnce = 64;

  io::Reactor& reactor_;
  Log& log_;
  std::deque<Range> ranges_;  // the drive has pointers into them
  uint64_t bytes_ = 0;        // in memory
  Sectors spare_;             // of the range that was dropped last
  uint64_t spare_bytes_ = 0;
};

}  // namespace memkv::engine
