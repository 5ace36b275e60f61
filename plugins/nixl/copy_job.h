#pragma once
/// A list of local copies under way together, and its end.

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "plan.h"

namespace memkv::nixl {

/// No copy moves more between two looks at whether it is canceled.
inline constexpr uint64_t kCopyPieceBytesMax = 256u << 10;

/// Neither end lies on a CUDA device.
inline bool on_host(const Copy& copy) {
  return copy.to.kind == MemoryKind::kHost && copy.from.kind == MemoryKind::kHost;
}

/// Copies that are independent of each other, run by a Copier. The caller fills the public part before start() and
/// leaves it and the memory alone until done(); then the job may be started again, which allocates nothing.
class CopyJob {
 public:
  std::span<const Copy> copies;
  /// Called once by a thread of the copier, after done() has become true; never inside start(). The job may be gone by
  /// then, so only `context` is given.
  void (*on_done)(void* context) = nullptr;
  void* context = nullptr;

  CopyJob() = default;
  CopyJob(const CopyJob&) = delete;
  CopyJob& operator=(const CopyJob&) = delete;

  /// No byte of the destinations changes any more. Thread: any. True before the first start.
  bool done() const { return done_.load(std::memory_order_acquire); }
  /// What the CUDA runtime said (static text), or nullptr. Once done.
  const char* error() const { return error_; }
  /// Canceled in time: some copies may not have been made. Once done.
  bool canceled() const { return canceled_.load(std::memory_order_relaxed); }

 private:
  friend class Copier;
  friend class CudaThread;

  /// Host copies that follow each other and share source and length: each piece of it is read once for all.
  struct Group {
    uint32_t first_copy;
    uint32_t copies;
    uint32_t first_piece;
  };

  void prepare();
  void group(uint32_t copy);
  /// Claims pieces and makes their copies until none is left. Thread: several at once.
  void run_host();
  void run_piece(const Group& group, uint32_t piece) const;
  void enter() { holders_.fetch_add(1, std::memory_order_relaxed); }
  /// True for the last to leave, who has to end the job.
  bool leave() { return holders_.fetch_sub(1, std::memory_order_acq_rel) == 1; }
  void leave_and_tell();

  CopyJob* next_on_host_ = nullptr;  ///< in the copier's queue
  CopyJob* next_on_cuda_ = nullptr;  ///< in the CUDA thread's
  std::vector<Group> groups_;
  uint32_t pieces_ = 0;
  uint64_t host_bytes_ = 0;
  bool has_device_copies_ = false;
  const char* error_ = nullptr;
  std::atomic<uint32_t> next_piece_{0};
  std::atomic<uint32_t> holders_{0};
  std::atomic<bool> canceled_{false};
  std::atomic<bool> done_{true};
};

}  // namespace memkv::nixl
