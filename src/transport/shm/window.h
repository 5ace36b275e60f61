#pragma once
/// The memory of a shm connection: two sealed memfds that the server makes (docs/shm.md).

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/unique_fd.h"
#include "memkv/error.h"
#include "transport/shm/budget.h"
#include "wire/messages.h"

namespace memkv::transport {

/// What one end tells the other. Written by its own end only, and never read back: the other end may hold anything
/// against it but its own copy. Indices count bytes since the start and only grow.
struct ShmPage {
  static constexpr size_t kBytes = 4096;
  alignas(128) std::atomic<uint64_t> written{0};  ///< into the ring that this end fills
  alignas(128) std::atomic<uint64_t> read{0};     ///< from the other ring
  /// Bit 0: asleep, wake me when there is something to read. Bit 1: and when there is room to write. From bit 2 on: how
  /// many times it has slept, so that each sleep is ended by one wake-up.
  alignas(128) std::atomic<uint64_t> sleep{0};
};
static_assert(sizeof(ShmPage) <= ShmPage::kBytes && std::atomic<uint64_t>::is_always_lock_free);

/// One end's view. A ring's memfd is the ring, then the page of the end that fills it; the put ring's is a multiple of
/// 2 MiB long. The server maps the get ring,
/// and of the put ring's memfd nothing but the client's page: it preads the ring. Unmapped and closed at the end; never
/// used for another connection. Thread: one at a time.
class ShmWindow {
 public:
  /// Thread: door. Memory is faulted in. `budget` (may be null) outlives the window. kBusy: it is used up.
  static Result<std::shared_ptr<ShmWindow>> make(const wire::Windows& sizes, ShmBudget* budget,
                                                 const ShmHolder& holder = {});
  /// The client's view of what came with WINDOWS. kInvalid: not sealed, or smaller than told.
  static Result<std::shared_ptr<ShmWindow>> take(const wire::Windows& sizes, base::UniqueFd get, base::UniqueFd put);
  ~ShmWindow();
  ShmWindow(const ShmWindow&) = delete;
  ShmWindow& operator=(const ShmWindow&) = delete;

  /// What a connection takes of the budget.
  static uint64_t bytes(const wire::Windows& sizes);
  const wire::Windows& sizes() const { return sizes_; }
  ShmPage& own() { return *own_; }
  const ShmPage& peer() const { return *peer_; }
  std::span<std::byte> out() const { return out_; }      ///< the ring that this end fills
  std::span<const std::byte> in() const { return in_; }  ///< the other one; empty at the server
  size_t in_bytes() const { return in_bytes_; }
  int in_fd() const { return in_fd_.get(); }  ///< at the server: pread it
  /// At the server, until sent(): for the client. File descriptions of their own, so that the kernel can tell whether
  /// anybody still has them.
  int get_fd() const { return given_get_.get(); }
  int put_fd() const { return given_put_.get(); }
  void sent() { given_get_.reset(), given_put_.reset(); }  ///< the client has its descriptors

 private:
  struct Mapping {
    std::byte* data = nullptr;
    size_t bytes = 0;
  };
  ShmWindow() = default;
  Result<std::byte*> map(int fd, size_t bytes, uint64_t offset, bool writable);

  wire::Windows sizes_;
  ShmBudget* budget_ = nullptr;
  uint64_t charged_ = 0;
  ShmHolder holder_;
  base::UniqueFd out_fd_, in_fd_;
  base::UniqueFd given_get_, given_put_;
  Mapping mappings_[2];
  ShmPage* own_ = nullptr;
  const ShmPage* peer_ = nullptr;
  std::span<std::byte> out_;
  std::span<const std::byte> in_;
  size_t in_bytes_ = 0;
};

}  // namespace memkv::transport
