#include "transport/shm/ring.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace memkv::transport {
namespace {

constexpr uint64_t kAsleep = 1, kWantsRoom = 2;

/// Calls move(ring offset, memory, bytes) for each stretch, cut where the ring ends and where a piece does.
template <typename Move>
size_t for_stretches(std::span<const iovec> pieces, size_t bytes, uint64_t at, size_t ring_bytes, Move&& move) {
  size_t moved = 0;
  for (const iovec& piece : pieces) {
    auto* memory = static_cast<std::byte*>(piece.iov_base);
    for (size_t left = std::min(piece.iov_len, bytes - moved); left > 0;) {
      const size_t offset = (at + moved) & (ring_bytes - 1);
      const size_t n = std::min(left, ring_bytes - offset);
      move(offset, memory, n);
      memory += n;
      left -= n;
      moved += n;
    }
    if (moved == bytes) break;
  }
  return moved;
}

}  // namespace

Result<size_t> ShmRings::readable() {
  const uint64_t written = window_->peer().written.load(std::memory_order_acquire);
  if (written < peer_written_ || written - read_ > window_->in_bytes()) {
    return Error{Status::kInvalid, 0, "shm: an impossible index"};
  }
  peer_written_ = written;
  return static_cast<size_t>(written - read_);
}

Result<size_t> ShmRings::writable() {
  const uint64_t read = window_->peer().read.load(std::memory_order_acquire);
  if (read < peer_read_ || read > written_) return Error{Status::kInvalid, 0, "shm: an impossible index"};
  peer_read_ = read;
  return window_->out().size() - static_cast<size_t>(written_ - read);
}

size_t ShmRings::read_mapped(std::span<const iovec> pieces, size_t bytes) const {
  const std::byte* ring = window_->in().data();
  return for_stretches(pieces, bytes, read_, window_->in_bytes(),
                       [&](size_t offset, std::byte* memory, size_t n) { std::memcpy(memory, ring + offset, n); });
}

/// Copies from the ring with pread, in one system call unless the ring's end lies in between. The peer cannot change
/// bytes that have been copied, and a hole that it punched reads as zeros instead of raising a signal.
Result<size_t> ShmRings::read_file(std::span<const iovec> pieces, size_t bytes) const {
  std::array<iovec, 128> stretches;
  size_t count = 0, before_end = 0, wanted = 0;
  for_stretches(pieces, bytes, read_, window_->in_bytes(), [&](size_t offset, std::byte* memory, size_t n) {
    if (count == stretches.size()) return;
    if (count > 0 && offset == 0) before_end = count;
    stretches[count++] = {memory, n};
    wanted += n;
  });
  if (before_end == 0) before_end = count;
  const auto file_read = [&](std::span<const iovec> some, uint64_t offset) {
    return some.empty()
               ? 0
               : preadv(window_->in_fd(), some.data(), static_cast<int>(some.size()), static_cast<off_t>(offset));
  };
  const std::span all(stretches.data(), count);
  const ssize_t first = file_read(all.first(before_end), read_ & (window_->in_bytes() - 1));
  const ssize_t second = file_read(all.subspan(before_end), 0);
  // The file is sealed and as long as the ring: anything but the whole is the kernel's refusal.
  if (first < 0 || second < 0 || static_cast<size_t>(first + second) != wanted) {
    return Error{Status::kIo, errno, "shm: the window cannot be read"};
  }
  return wanted;
}

Result<size_t> ShmRings::read(std::span<const iovec> pieces, size_t bytes_max) {
  const size_t bytes = std::min<size_t>(bytes_max, peer_written_ - read_);
  const bool mapped = !window_->in().empty();
  auto moved = mapped ? Result<size_t>(read_mapped(pieces, bytes)) : read_file(pieces, bytes);
  if (!moved) return moved;
  read_ += *moved;
  window_->own().read.store(read_, std::memory_order_release);
  took_ = true;
  return moved;
}

size_t ShmRings::write(std::span<const iovec> pieces, size_t bytes_max) {
  MEMKV_ASSERT(bytes_max <= window_->out().size() - (written_ - peer_read_), "writable() comes first");
  std::byte* ring = window_->out().data();
  const size_t moved =
      for_stretches(pieces, bytes_max, written_, window_->out().size(),
                    [&](size_t offset, std::byte* memory, size_t n) { std::memcpy(ring + offset, memory, n); });
  written_ += moved;
  window_->own().written.store(written_, std::memory_order_release);
  wrote_ = true;
  return moved;
}

bool ShmRings::must_wake() {
  const bool wrote = std::exchange(wrote_, false);
  const bool took = std::exchange(took_, false);
  if (!wrote && !took) return false;
  // Its sleep word is read after it could see what was done; it looks once more after setting the word.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const uint64_t word = window_->peer().sleep.load(std::memory_order_relaxed);
  if ((word & kAsleep) == 0 || word == told_) return false;
  // A peer that waits for room sleeps on until half of the ring is free: one wake-up for many small reads.
  const bool room = took && (word & kWantsRoom) != 0 && peer_written_ - read_ <= window_->in_bytes() / 2;
  if (!wrote && !room) return false;
  told_ = word;
  return true;
}

void ShmRings::sleep(bool wants_room) {
  const uint64_t word = ++sleeps_ << 2 | (wants_room ? kWantsRoom : 0) | kAsleep;
  window_->own().sleep.store(word, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void ShmRings::wake() { window_->own().sleep.store(sleeps_ << 2, std::memory_order_relaxed); }

}  // namespace memkv::transport
