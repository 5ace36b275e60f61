#pragma once
/// One I/O context of the plugin: a client session that whoever asks for progress drives, under a lock.
/// docs/decisions/0007-nixl-progress.md has the measurements.

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "memkv/client.h"

namespace memkv::nixl {

/// Something under way on a driver. All calls come under the driver's lock.
class Work {
 public:
  enum class Wait : uint8_t { kWire, kCopy, kNothing };  ///< kNothing: it has ended, its memory is quiet

  virtual ~Work() = default;
  virtual Wait start(Session& session) = 0;
  /// Goes on as far as it can without waiting.
  virtual Wait step(Session& session) = 0;
  /// It shall end soon: step() says when.
  virtual void cancel(Session& session) = 0;

 private:
  friend class Driver;
  static constexpr size_t kNotActive = ~size_t{0};
  size_t place_ = kNotActive;  // in Driver::active_
};

/// Thread: any. A thread of its own moves bytes only when callers do not: it waits for the session's sockets without
/// the lock, and stays out of the way of callers who poll.
class Driver {
 public:
  static Result<std::unique_ptr<Driver>, Message> open(const ClientOptions& options);
  ~Driver();  ///< after stop_all()
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  /// Starts the work and moves bytes once.
  void start(Work& work);
  /// Moves bytes, unless another thread is at it.
  void poll();
  /// Cancels the work. True: it has ended. False: it ends soon, poll() further.
  bool stop(Work& work);
  /// Cancels all work that `which` names and drives until it has ended. False: not by the deadline (monotonic_ns()).
  bool stop_all(const std::function<bool(const Work&)>& which, uint64_t deadline_ns);
  /// Without the lock: to pin much memory takes seconds, and others move bytes meanwhile.
  Result<Region> register_memory(void* data, size_t size, memkv::MemoryKind kind, uint32_t device = 0);
  /// Ends it, where nobody else drives the session: it moves bytes until no NIC touches the memory.
  void release(Region region);
  std::vector<RailCounters> rail_counters() const { return session_.rail_counters(); }  ///< without the lock
  /// Runs a batch to its end, for callers that may wait.
  void run(Batch& batch, Deadline deadline, std::vector<Outcome>& outcomes);

 private:
  explicit Driver(Session session);
  bool turn();
  void sweep();
  void settle(Work& work, Work::Wait wait);
  void remove(Work& work);
  /// Until the sockets have something or `limit` is over. Without the lock.
  void wait_for_sockets(std::chrono::nanoseconds limit) const;
  void run_progress();
  void nap();
  void take_over();
  void rouse();
  bool callers_poll() const;

  std::mutex mutex_;
  Session session_;
  std::vector<Work*> active_;
  bool copying_ = false;                     // some of it waits for copies
  int nap_ms_ = 1;                           // the progress thread's next
  std::atomic<bool> progress_waits_{false};  // for the sockets, and does not know what callers have begun since
  const int wait_fd_;
  const int rouse_fd_;
  std::atomic<uint64_t> polled_ns_{0};  // by a caller, last
  std::atomic<bool> stopping_{false};
  std::thread progress_;
};

}  // namespace memkv::nixl
