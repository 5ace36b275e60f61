#pragma once
/// The ops that a drive has in flight, as one reactor sees them. From this a crawling drive is told from the others, and
/// writes know when they would stand in the way of reads.

#include <cstdint>

#include "base/assert.h"
#include "base/intrusive_list.h"
#include "io/reactor.h"

namespace memkv::io {

/// A device keeps it, and the code that chooses between drives reads it. Each op costs two list steps and a look at the
/// clock. Thread: the reactor's.
class DriveLoad {
 public:
  /// The part of it that stands in the device's record of an op.
  struct Flight {
    base::ListLink<Flight> link;
    uint64_t since_ns = 0;
    uint64_t bytes = 0;
    bool writes = false;
  };

  void begin(Flight& flight, IoOp::Kind kind, uint64_t bytes, uint64_t now_ns) {
    flight.since_ns = now_ns;
    flight.bytes = bytes;
    flight.writes = kind == IoOp::Kind::kWrite;
    bytes_ += bytes;
    if (flight.writes) write_bytes_ += bytes;
    if (kind == IoOp::Kind::kRead) newest_read_ns_ = now_ns;
    flights_.push_back(flight);
  }
  /// `good`: the op succeeded. Failed ops are not counted as progress, since a broken drive often fails fast.
  void end(Flight& flight, bool good) {
    MEMKV_ASSERT(bytes_ >= flight.bytes);
    bytes_ -= flight.bytes;
    if (flight.writes) write_bytes_ -= flight.bytes;
    flights_.remove(flight);
    if (good && flight.since_ns > newest_done_since_ns_) newest_done_since_ns_ = flight.since_ns;
  }

  uint64_t ops() const { return flights_.size(); }
  uint64_t bytes() const { return bytes_; }
  uint64_t write_bytes() const { return write_bytes_; }
  uint64_t newest_read_ns() const { return newest_read_ns_; }  ///< when the last read was submitted; 0: there was none
  /// When the oldest op in flight was submitted. 0 if none is in flight.
  uint64_t oldest_since_ns() const { return flights_.empty() ? 0 : flights_.front()->since_ns; }
  /// Time by which `other` has overtaken this drive: it has finished an op that was submitted this much after our
  /// oldest unfinished one. 0: it has finished none that is younger.
  uint64_t overtaken_ns(const DriveLoad& other) const {
    const Flight* oldest = flights_.front();
    if (oldest == nullptr || other.newest_done_since_ns_ <= oldest->since_ns) return 0;
    return other.newest_done_since_ns_ - oldest->since_ns;
  }

 private:
  base::IntrusiveList<Flight, &Flight::link> flights_;  // oldest first
  uint64_t bytes_ = 0;
  uint64_t write_bytes_ = 0;  // of bytes_
  uint64_t newest_read_ns_ = 0;
  uint64_t newest_done_since_ns_ = 0;
};

}  // namespace memkv::io
