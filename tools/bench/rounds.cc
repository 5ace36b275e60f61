#include "tools/bench/rounds.h"

#include <time.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "base/clock.h"
#include "base/thread.h"

namespace memkv::bench {

double monotonic_seconds() { return static_cast<double>(base::SystemClock().now_ns()) * 1e-9; }

double process_cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double cpu_seconds_of(int pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const size_t behind_name = text.rfind(')');
  if (behind_name == std::string::npos) return 0;
  std::istringstream fields(text.substr(behind_name + 2));
  std::string field;
  double ticks = 0;
  for (int i = 3; fields >> field; i++) {
    if (i == 14 || i == 15) ticks += std::stod(field);
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

namespace {

/// Threads that begin together once all of them exist. If one cannot be started, none does anything.
class TogetherOrNot {
 public:
  ~TogetherOrNot() { end(kNever); }
  /// Throws std::system_error, since the rounds need every thread.
  template <typename Body>
  void add(Body body) {
    auto thread = base::start_thread("memkv-bench", [this, body] {
      begin_.wait(kNotYet);
      if (begin_.load() == kAll) body();
    });
    if (!thread) throw std::system_error(thread.error().sys_errno, std::generic_category(), thread.error().what);
    threads_.push_back(std::move(*thread));
  }
  void run() { end(kAll); }

 private:
  enum Begin : int { kNotYet, kAll, kNever };
  void end(Begin how) {
    begin_.store(how);
    begin_.notify_all();
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }
  std::atomic<int> begin_{kNotYet};
  std::vector<std::thread> threads_;
};

}  // namespace

RoundTimes run_rounds(std::vector<std::unique_ptr<Worker>>& workers, const RoundOptions& options) {
  RoundTimes times;
  std::atomic<bool> more{false};
  bool stop = false;
  double started = 0, cpu = 0, extra = 0;
  const auto extra_cpu = [&] { return options.extra_cpu ? options.extra_cpu() : 0.0; };
  enum { kPrepare, kGo, kCheck } step = kPrepare;
  // One thread runs this while the others wait: it takes a round through its steps.
  const auto next_step = [&]() noexcept {
    switch (step) {
      case kPrepare:
        stop = !more.exchange(false);
        step = kGo;
        extra = extra_cpu();
        cpu = process_cpu_seconds();
        started = monotonic_seconds();
        break;
      case kGo:
        times.seconds += monotonic_seconds() - started;
        times.cpu_seconds += process_cpu_seconds() - cpu;
        times.extra_seconds += extra_cpu() - extra;
        step = kCheck;
        break;
      case kCheck: {
        uint64_t bytes = 0;
        for (const auto& worker : workers) bytes += worker->bytes_done();
        if (options.progress) options.progress(bytes);
        step = kPrepare;
        break;
      }
    }
  };
  std::barrier barrier(static_cast<ptrdiff_t>(workers.size()), next_step);
  TogetherOrNot threads;
  for (auto& worker : workers) {
    threads.add([&, w = worker.get()] {
      while (true) {
        const bool out_of_time = times.seconds > options.seconds_max;
        const bool work = !out_of_time && w->prepare();
        if (work) more.store(true);
        barrier.arrive_and_wait();
        if (stop) return w->leave();
        if (work) w->go();
        barrier.arrive_and_wait();
        if (work) w->check();
        barrier.arrive_and_wait();
      }
    });
  }
  threads.run();
  return times;
}

}  // namespace memkv::bench
