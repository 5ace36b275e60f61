#pragma once
/// One transfer request: planned once, posted any number of times.

#include <atomic>
#include <utility>

#include "driver.h"
#include "request_outcome.h"
#include "request_plan.h"
#include "request_transfer.h"

namespace memkv::nixl {

/// What NIXL's handle of a request stands for. Its parts: the plan (what there is to move), the transfer (moves it) and
/// the outcome (what came of it). Calls go in one direction: request → transfer → outcome → plan.
///
/// Thread: plan() by one; then the driver's lock, but for status().
class Request final : public Work {
 public:
  Request(abi::Operation operation, const Options& options, Counters& counters, Driver& driver, LocalMovers& movers);

  /// The lists have passed check_lists(). Once.
  void plan(Planner& planner, const abi::MetaList& local, const abi::MetaList& remote);
  const RequestPlan& planned() const { return plan_; }

  /// Before each post.
  void set_posted() {
    release_refused_ = false;
    status_.store(abi::Status::kInProgress, std::memory_order_relaxed);
  }
  /// After set_posted(), when there was no memory to start it.
  void fail_unstarted();
  /// False: it was refused before.
  bool refuse_release() { return !std::exchange(release_refused_, true); }
  /// Thread: any. kInProgress until all is over and the memory is quiet.
  abi::Status status() const { return status_.load(std::memory_order_acquire); }
  /// Registry::removed() when all of its registrations were known to be live. Thread: the caller's.
  void set_checked(uint64_t removed) { checked_ = removed; }
  uint64_t checked() const { return checked_; }
  Driver& driver() const { return driver_; }

  uint64_t weight() const override { return plan_.weight(); }
  Wait start(Session& session) override;
  Wait step(Session& session) override;
  void cancel(Session& session) override;

 private:
  Wait ended_if(Wait wait);
  uint64_t deadline_ns() const;

  const Options& options_;
  Counters& counters_;
  Driver& driver_;
  RequestPlan plan_;
  RequestOutcome outcome_;
  RequestTransfer transfer_;
  bool release_refused_ = false;  // Thread: the caller's
  uint64_t checked_ = 0;          // Thread: the caller's
  std::atomic<abi::Status> status_{abi::Status::kNotPosted};
};

}  // namespace memkv::nixl
