#pragma once
/// Both rings of a shm connection as one end sees them. The peer may write anything into its indices, so they are
/// checked.

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>

#include "transport/shm/window.h"

namespace memkv::transport {

/// Each index of the peer is read once, checked against this end's own and only then used. Thread: the link's.
class ShmRings {
 public:
  explicit ShmRings(std::shared_ptr<ShmWindow> window) : window_(std::move(window)) {}

  /// Bytes that can be read now. kInvalid: the peer's index is impossible.
  Result<size_t> readable();
  /// Reads up to `bytes_max` of what readable() said into the pieces, and says so to the peer. Returns how many; kIo:
  /// the memory cannot be read.
  Result<size_t> read(std::span<const iovec> pieces, size_t bytes_max);
  /// Room to write now. kInvalid: the peer's index is impossible.
  Result<size_t> writable();
  /// Writes up to `bytes_max` of the pieces and shows them to the peer. Returns how many.
  size_t write(std::span<const iovec> pieces, size_t bytes_max);

  /// True: the peer sleeps, waits for what was read or written last, and was not yet told.
  bool must_wake();
  /// From here on the peer is to wake this end: for bytes, and for room if that is wanted. Look once more, then sleep.
  void sleep(bool wants_room);
  void wake();

 private:
  size_t read_mapped(std::span<const iovec> pieces, size_t bytes) const;
  Result<size_t> read_file(std::span<const iovec> pieces, size_t bytes) const;

  const std::shared_ptr<ShmWindow> window_;
  uint64_t written_ = 0;       // by this end
  uint64_t read_ = 0;          // by this end
  uint64_t peer_written_ = 0;  // as last seen
  uint64_t peer_read_ = 0;
  uint64_t sleeps_ = 0;
  uint64_t told_ = 0;                  // the peer's sleep word that was answered last
  bool wrote_ = false, took_ = false;  // since the last must_wake()
};

}  // namespace memkv::transport
