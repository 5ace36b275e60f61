#pragma once
/// How the scan of a log reads, and what it does about sectors that cannot be read.

#include <cstdint>
#include <set>

#include "engine/read_ahead.h"

namespace memkv::engine {

class Recovery;

/// Owns what was read ahead. Part of a LogScan. Thread: worker.
class ScanReads {
 public:
  ScanReads(Recovery& recovery, Log& log);
  /// What cannot be read, also when it is tried again, comes as zeros: like all that is wrong it is missed by others.
  void read(uint64_t offset, std::byte* memory, uint64_t bytes);
  /// The same, and perhaps it was read ahead. What then turns out wrong is to be read again.
  void look(uint64_t offset, std::byte* memory, uint64_t bytes);
  ReadAhead& ahead() { return ahead_; }
  const ReadAhead& ahead() const { return ahead_; }
  /// A sector between these places cannot be read.
  bool cannot_read(uint64_t begin, uint64_t end) const;
  /// Too many cannot.
  bool unreadable() const { return bad_.size() > kUnreadableMax; }

 private:
  static constexpr size_t kUnreadableMax = 16;

  Recovery& recovery_;
  Log& log_;
  ReadAhead ahead_;
  std::set<uint64_t> bad_;  // sectors that cannot be read
};

}  // namespace memkv::engine
