#pragma once
/// Timed rounds. Buffers are filled and checked between them, so that only transfers are timed.

#include <atomic>
#include <barrier>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace memkv::bench {

/// One thread's part of a run. Thread: its own, for all calls.
class Worker {
 public:
  virtual ~Worker() = default;
  virtual bool prepare() = 0;  ///< not timed; false: nothing is left to do
  virtual void go() = 0;       ///< timed
  virtual void check() = 0;    ///< not timed
  virtual void leave() {}      ///< the thread's last call
  virtual uint64_t bytes_done() const = 0;
};

struct RoundTimes {
  double seconds = 0;        ///< sum over rounds: from the common start until the last thread ends
  double cpu_seconds = 0;    ///< of this process, in the timed parts
  double extra_seconds = 0;  ///< how much `extra_cpu` grew in the timed parts (CPU time of a server)
};

struct RoundOptions {
  double seconds_max = 1e9;                      ///< no new round begins after so much timed work
  std::function<double()> extra_cpu;             ///< may be empty
  std::function<void(uint64_t bytes)> progress;  ///< called after each round, by one thread
};

/// Runs the workers, one thread each, until none has work left.
RoundTimes run_rounds(std::vector<std::unique_ptr<Worker>>& workers, const RoundOptions& options);

double monotonic_seconds();
double process_cpu_seconds();
/// utime + stime of another process on this machine. 0 if that cannot be read.
double cpu_seconds_of(int pid);

}  // namespace memkv::bench
