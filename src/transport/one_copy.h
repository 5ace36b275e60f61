#pragma once
/// TCP with one copy: pages of a payload are lent to the socket, and only the receiver copies them
/// (docs/decisions/0037-tcp-with-one-copy.md).

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/unique_fd.h"

namespace memkv::transport {

inline constexpr size_t kPageBytes = 4096;
/// A run of whole pages below this is copied: below it, a copy costs less than the system calls (0037, "Measured").
inline constexpr size_t kLentRunMin = 256 * 1024;
/// Lent and not yet reported, of one connection; what comes next waits for a report.
inline constexpr uint32_t kLentBytesMax = 2 * 1024 * 1024;

/// What the links of one owner lent, and what they copied instead, and why. Written by one thread, read by any.
struct OneCopyStats {
  std::atomic<uint64_t> lent_bytes{0};     ///< handed to sockets without a copy
  std::atomic<uint64_t> limit_bytes{0};    ///< copied: as much as may be was lent and not yet reported
  std::atomic<uint64_t> no_pipe_bytes{0};  ///< copied: the kernel had no pipe, or did not take the pages
  std::atomic<uint64_t> small_bytes{0};    ///< copied: too few whole pages
  std::atomic<uint32_t> pipes{0};          ///< that are open

  static void add(std::atomic<uint64_t>& counter, uint64_t by) {
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
};

/// The whole pages of a piece of memory; what is in front of them and behind them is copied. `bytes` 0: too few.
struct PageRun {
  size_t head = 0, bytes = 0;
};
PageRun page_run(const void* data, size_t bytes);

/// Lends pages to one socket through a pipe of its own. Thread: the reactor's.
class PageLender {
 public:
  explicit PageLender(OneCopyStats& stats) : stats_(stats) {}
  ~PageLender();
  PageLender(const PageLender&) = delete;
  PageLender& operator=(const PageLender&) = delete;

  /// Makes the pipe with the first call. False: there is none to be had, and never will be for this connection.
  bool open(int socket);
  /// Moves what it can of `pages` into the socket, without waiting. The pipe may hold more of them afterwards: the next
  /// call goes on where this one ended. `more`: bytes follow at once. Returns the bytes moved or -errno: -EAGAIN when the
  /// socket is full, -ENOTSUP when the kernel does not take such pages and none of them is in the pipe.
  int64_t send(int socket, std::span<std::byte> pages, bool more);
  OneCopyStats& stats() const { return stats_; }

 private:
  OneCopyStats& stats_;
  base::UniqueFd out_, in_;  // what goes into in_ comes out of out_
  size_t piped_ = 0;         // bytes in the pipe, the first of what send() is called with
  bool failed_ = false;
};

}  // namespace memkv::transport
