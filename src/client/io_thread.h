#pragma once
/// A context on a thread of its own, fed by any thread.

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/batch.h"
#include "client/context.h"
#include "io/mailbox.h"

namespace memkv::client {

class IoThread;

/// One thing asked of an I/O thread, on the way there, under way, and back. Lives with the asker, who waits for done().
/// Thread: the asker's, but for what the I/O thread does between submit() and done().
class Job {
 public:
  enum class Kind : uint8_t { kBatch, kDescribe };

  Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  bool done() const { return phase_.load(std::memory_order_acquire) == kDone; }
  static constexpr uint64_t kForever = ~uint64_t{0};
  /// Polls for a moment, then sleeps. False: the time is over, and it is not done. Who was told by on_done waits for the
  /// end of that call, whatever the time: it gets true. Thread: any, but not inside on_done.
  bool wait(uint64_t timeout_ns = kForever);

  Kind kind = Kind::kBatch;
  uint64_t id = 0;             ///< of the client; what a cancel names
  IoThread* thread = nullptr;  ///< set by submit()
  Call call;
  std::vector<Outcome> outcomes;
  std::vector<ServerLine> lines;  ///< out: kDescribe
  Client::OnDone on_done;
  base::ListLink<Job> link;

  // For the I/O thread.
  void finish();

 private:
  /// kAwaited: under way, and somebody sleeps. kTelling: its outcome is there, and on_done is called. kDone: the I/O
  /// thread touches this job no more.
  enum Phase : uint32_t { kUnderWay, kAwaited, kTelling, kDone };
  std::atomic<uint32_t> phase_{kUnderWay};
};

/// Thread: any, but for its end.
class IoThread {
 public:
  static Result<std::unique_ptr<IoThread>, Message> start(const Settings& settings, uint32_t index);
  ~IoThread();  ///< jobs under way end as canceled; no submit() after
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  void submit(Job& job);
  void cancel(uint64_t id);
  const Context& context() const { return *context_; }

 private:
  struct Item {
    Job* job;  ///< null: a cancel
    uint64_t canceled;
  };

  explicit IoThread(std::unique_ptr<Context> context);
  void push(Item item);
  void loop();
  void drain();
  void take(Item& item);

  std::unique_ptr<Context> context_;
  io::Mailbox<Item> mailbox_;
  base::IntrusiveList<Job, &Job::link> jobs_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace memkv::client
