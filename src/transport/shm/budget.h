#pragma once
/// The shared memory that clients of a server may have, counted until it is really gone.

#include <sys/types.h>

#include <atomic>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "base/unique_fd.h"

namespace memkv::transport {

/// Whose a window is: a process on this host, in a namespace.
struct ShmHolder {
  uint64_t namespace_id = 0;
  pid_t pid = 0;
  auto operator<=>(const ShmHolder&) const = default;
};

/// What a window leaves behind: its client may keep mappings and descriptors of its memory, and with them the memory.
/// Thread: one at a time.
class ShmRemains {
 public:
  /// Borrows the window's own descriptors for this call.
  ShmRemains(int get_fd, int put_fd, uint64_t bytes, const ShmHolder& holder);
  /// Nobody has the memory any more. The kernel tells by a lease: it gives one only for a file that nobody else has
  /// open or mapped. (Where it gives none at all, what is closed here counts as gone.)
  bool gone() const;
  uint64_t bytes() const { return bytes_; }
  const ShmHolder& holder() const { return holder_; }

 private:
  friend class ShmBudget;
  base::UniqueFd get_, put_;
  uint64_t bytes_;
  ShmHolder holder_;
  ShmRemains* next_ = nullptr;
};

/// Bytes of windows that all clients may have together: half of them are guaranteed to namespaces in equal parts, the
/// rest is for whoever comes first. A process has at most half of what its namespace could have. Thread: door, but for
/// what says otherwise.
class ShmBudget {
 public:
  explicit ShmBudget(uint64_t bytes_max, size_t namespaces = 1);
  ~ShmBudget();  ///< after all windows
  ShmBudget(const ShmBudget&) = delete;
  ShmBudget& operator=(const ShmBudget&) = delete;

  [[nodiscard]] bool take(const ShmHolder& holder, uint64_t bytes);
  /// A window that was never given to a client.
  void give_back(const ShmHolder& holder, uint64_t bytes);
  /// Thread: any. They count until collect() finds them gone.
  void retire(std::unique_ptr<ShmRemains> remains);
  /// Gives back what is gone by now.
  void collect();
  uint64_t bytes_max() const { return bytes_max_; }                            ///< Thread: any
  uint64_t in_use() const { return in_use_.load(std::memory_order_relaxed); }  ///< Thread: any
  uint64_t kept() const { return kept_.load(std::memory_order_relaxed); }      ///< by clients that left. Thread: any

 private:
  bool fits(const ShmHolder& holder, uint64_t bytes) const;

  const uint64_t bytes_max_;
  const uint64_t guaranteed_;  // to each namespace
  const uint64_t common_;
  std::atomic<uint64_t> in_use_{0}, kept_{0};
  std::map<ShmHolder, uint64_t> held_;
  std::vector<std::unique_ptr<ShmRemains>> remains_;
  std::atomic<ShmRemains*> retired_{nullptr};  // since the last collect(), newest first
};

}  // namespace memkv::transport
