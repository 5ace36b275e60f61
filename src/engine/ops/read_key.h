#pragma once
/// The key of a record, for listings. Off the data path.

#include <cstdlib>
#include <memory>

#include "engine/parts.h"

namespace memkv::engine {

/// Looks for the extent header of one record in the sectors before its payload, nearest first: an extent has one
/// header, it says where it lies, and no record lies farther behind it than an extent is long. So the cost does not
/// depend on what else the segment holds: one read, or two where a large header and many records stand between.
///
/// Owns the memory that is read into. Thread: worker.
class ReadKey final : public PooledOp {
 public:
  static void start(Parts& parts, Store::KeyOp& op);
  ReadKey(Parts& parts, Store::KeyOp& op, const Entry& entry, Log& log, uint64_t epoch);

 private:
  /// Read in turn until the header is found: directly before a lone record; most extents that records share are not
  /// longer than the second.
  static constexpr uint64_t kWindows[] = {base::kSectorBytes, 64 << 10, kExtentBufferBytes};

  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  uint64_t first_sector() const { return log_.segments().place_of(epoch_) + base::kSectorBytes; }
  void read();
  void on_read(int32_t result);
  bool find_header(base::Bytes window);
  bool find_record(const format::ExtentHeader& extent, base::Bytes bytes);
  void end(Status status);

  Parts& parts_;
  Store::KeyOp& op_;
  Log& log_;
  const uint64_t epoch_;
  const uint64_t end_;  ///< of the sectors that can hold the header
  const uint64_t sequence_;
  size_t window_;
  uint64_t begin_ = 0;  ///< of the sectors read
  std::unique_ptr<std::byte, Free> memory_;
  io::IoOp io_;
  iovec piece_{};
};

}  // namespace memkv::engine
