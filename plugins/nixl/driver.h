#pragma once
/// One I/O context of the plugin: a client session that whoever asks for progress drives, under a lock.
/// docs/decisions/0007-nixl-progress.md has the measurements.

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "memkv/client.h"
#include "thread.h"

namespace memkv::nixl {

/// Something under way on a driver. All calls come under the driver's lock.
class Work {
 public:
  enum class Wait : uint8_t { kWire, kCopy, kNothing };  ///< kNothing: it has ended, its memory is quiet

  virtual ~Work() = default;
  /// Bytes that it moves over the wire, and something for each op: what a default deadline allows for.
  virtual uint64_t weight() const = 0;
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
/// the lock, and stays out of the way of callers who poll. Where there is no such thread, only polls move bytes.
class Driver {
 public:
  static Result<std::unique_ptr<Driver>, Message> open(const ClientOptions& options);
  ~Driver();  ///< after stop_all()
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  /// Starts the work and moves bytes once. Throws std::bad_alloc, with nothing begun, when there is no memory for it.
  void start(Work& work);
  /// What default deadlines have on top: the time that all that is under way takes at the slowest rate they allow for.
  /// Under the lock.
  uint64_t allowance_ns() const;
  /// Moves bytes, unless another thread is at it.
  void poll();
  /// Cancels the work. True: it has ended. False: it ends soon, poll() further.
  bool stop(Work& work);
  /// Cancels all work that `which` names and drives until it has ended. False: not by the deadline (time of
  /// base::SystemClock).
  bool stop_all(const std::function<bool(const Work&)>& which, uint64_t deadline_ns);
  /// Without the lock: to pin much memory takes seconds, and others move bytes meanwhile.
  Result<Region> register_memory(void* data, size_t size, memkv::MemoryKind kind, uint32_t device = 0);
  /// Ends it, where nobody else drives the session: it moves bytes until no NIC touches the memory.
  void release(Region region);
  std::vector<RailCounters> rail_counters() const { return session_.rail_counters(); }  ///< without the lock
  /// What each server says to a first question (Session::ask_servers); for callers that may wait.
  std::vector<Status> ask_servers(Deadline deadline);
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
  void start_progress() {
    if (!progress_.running()) progress_.start([this] { run_progress(); });
  }
  void run_progress();
  void nap();
  void take_over();
  void rouse();
  bool callers_poll() const;

  std::mutex mutex_;
  Session session_;
  std::vector<Work*> active_;
  uint64_t weight_ = 0;                      // of all that is active
  bool copying_ = false;                     // some of it waits for copies
  int nap_ms_ = 1;                           // the progress thread's next
  std::atomic<bool> progress_waits_{false};  // for the sockets, and does not know what callers have begun since
  const int wait_fd_;
  const int rouse_fd_;
  std::atomic<uint64_t> polled_ns_{0};  // by a caller, last
  std::atomic<bool> stopping_{false};
  OptionalThread progress_{"memkv-nixl",
                           "to move bytes while callers do not poll: transfers go on when they are polled"};
};

}  // namespace memkv::nixl
