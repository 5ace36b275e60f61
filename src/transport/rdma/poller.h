#pragma once
/// What one reactor has to do with RDMA: completion queues that are polled while the loop polls and wake it when it
/// sleeps, results of helper threads, and registered slots for memory that is not.

#include <atomic>
#include <memory>
#include <vector>

#include "base/intrusive_list.h"
#include "base/metrics.h"
#include "base/unique_fd.h"
#include "io/arena.h"
#include "io/mailbox.h"
#include "io/reactor.h"
#include "transport/link.h"
#include "transport/rdma/devices.h"

namespace memkv::transport::rdma {

/// Something with a completion queue. Thread: the reactor's.
class Polled {
 public:
  virtual ~Polled() = default;
  virtual QueuePair& queue_pair() = 0;
  /// Takes completions; returns how many there were.
  virtual size_t take_completions() = 0;
  /// Its device is gone: no completion comes any more.
  virtual void on_device_gone() = 0;

 private:
  friend class Poller;
  base::ListLink<Polled> link_;
  bool hot_ = false;
  uint32_t idle_ = 0;
};

/// Thread: the reactor's.
class Poller final : private io::PollSource {
 public:
  struct Options {
    std::vector<io::SlotClass> staging;
    Access staging_access = Access::kRemote;  ///< kLocal: of a server, whose peers never touch its memory
    base::Counter* staged_bytes = nullptr;    ///< borrowed; null: nobody counts
  };
  static Result<std::unique_ptr<Poller>, Message> make(io::Reactor& reactor, Devices& host, const Options& options);
  ~Poller();
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  io::Reactor& reactor() { return reactor_; }
  Devices& host() { return host_; }
  MemoryView& memory() { return memory_; }
  io::SlotArena& staging() { return *staging_; }
  Registration& staging_memory() { return *staging_memory_; }
  void count_staged(uint64_t bytes) {
    if (staged_bytes_) staged_bytes_->add(bytes);
  }
  /// Link::expose for a device.
  bool expose(std::span<const iovec> pieces, Staging staging, size_t rail, const Device& device, Exposure& out);

  [[nodiscard]] bool add(Polled& polled);  ///< false: the kernel has no room to watch it
  void remove(Polled& polled);

  void set_up(BlockingJob& job);
  void tear_down(BlockingJob& job);
  /// Ends a queue pair that no link has.
  void discard(std::unique_ptr<QueuePair> pair);

  bool at_rest() const {
    return jobs_ == 0 && helpers_inside_.load(std::memory_order_acquire) == 0 && hot_.empty() && cold_.empty() &&
           !events_op_.pending();
  }

 private:
  using List = base::IntrusiveList<Polled, &Polled::link_>;
  Poller(io::Reactor& reactor, Devices& host, std::unique_ptr<io::SlotArena> staging,
         std::shared_ptr<Registration> staging_memory, base::Counter* staged_bytes, base::UniqueFd events);
  bool expose_direct(std::span<const iovec> pieces, size_t rail, const Device& device, Exposure& out);
  bool expose_staging(std::span<const iovec> pieces, size_t rail, const Device& device, Exposure& out);
  // From the reactor.
  size_t poll() override;
  bool arm() override;
  void disarm() override {}

  void deliver_here(BlockingJob& job);
  size_t take_jobs();
  size_t take_events();
  void heat(Polled& polled);
  bool cool(Polled& polled);
  void on_tick();

  io::Reactor& reactor_;
  Devices& host_;
  MemoryView memory_;
  const std::unique_ptr<io::SlotArena> staging_;
  const std::shared_ptr<Registration> staging_memory_;
  base::Counter* const staged_bytes_;
  const base::UniqueFd events_;  // an epoll instance over the completion channels
  io::Mailbox<BlockingJob*> done_;
  size_t jobs_ = 0;                        // under way
  std::atomic<size_t> helpers_inside_{0};  // jobs that a helper thread still has, or is giving back
  List hot_;                               // polled every turn
  List cold_;                              // armed: their channel says when
  uint32_t turn_ = 0;
  io::Timer tick_;
  io::IoOp events_op_;  // events_ is readable
  bool look_ = false;   // it was
};

}  // namespace memkv::transport::rdma
