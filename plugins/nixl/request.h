#pragma once
/// One transfer request: planned once, posted any number of times.

#include <atomic>
#include <memory>
#include <vector>

#include "counters.h"
#include "driver.h"
#include "options.h"
#include "plan.h"
#include "registry.h"

namespace memkv::nixl {

/// What a descriptor list is wrong about, or kSuccess.
abi::Status check_lists(const abi::MetaList& local, const abi::MetaList& remote);

/// Thread: plan() by one; then the driver's lock, but for status().
class Request final : public abi::RequestHandle, public Work {
 public:
  Request(abi::Operation operation, const Options& options, Counters& counters, Driver& driver);

  /// The lists have passed check_lists(). Nothing of them is kept but keys and places of memory.
  void plan(Planner& planner, const abi::MetaList& local, const abi::MetaList& remote);

  /// Before each post.
  void set_posted() { status_.store(abi::Status::kInProgress, std::memory_order_relaxed); }
  /// Thread: any. kInProgress until all is over and the memory is quiet.
  abi::Status status() const { return status_.load(std::memory_order_acquire); }
  bool uses(const abi::Metadata* metadata) const;
  Driver& driver() const { return driver_; }

  Wait start(Session& session) override;
  Wait step(Session& session) override;
  void cancel(Session& session) override;

 private:
  enum class Phase : uint8_t { kIdle, kProbe, kWire, kCopy };
  /// How a wire operation goes out.
  enum class Form : uint8_t { kGet, kPut, kPutIfAbsent, kRange };
  struct Target {
    std::shared_ptr<const Key> key;
    Form form = Form::kGet;
  };

  void remember(const abi::MetaList& list);
  Target target_of(const WireOp& op, const abi::MetaList& remote) const;
  void add(const WireOp& op, const Target& target, Batch& batch) const;
  void build_stages();
  void build_probe();

  Wait submit(Session& session, Batch& batch, Phase phase);
  Wait submit_stage(Session& session);
  Wait on_probed(Session& session);
  Wait on_fetched(Session& session);
  Wait next_stage(Session& session);
  Wait finish();
  void judge(uint32_t wire_op, const Outcome& outcome);
  void judge_read(const WireOp& op, const Target& target, const Outcome& outcome);
  void judge_write(const WireOp& op, const Target& target, const Outcome& outcome);
  void fail(abi::Status status, const Target& target, const WireOp& op, const Outcome& outcome);
  void copy_all();
  void copy(const Copy& one);

  const abi::Operation operation_;
  const Options& options_;
  Counters& counters_;
  Driver& driver_;
  Plan plan_;
  size_t descriptors_ = 0;
  std::vector<const abi::Metadata*> uses_;  // sorted
  std::vector<Target> targets_;             // by wire operation
  std::vector<Batch> stages_;
  Batch probe_;                         // write_mode=if_absent: asks for the objects that are there
  std::vector<uint32_t> batch_of_op_;   // wire operation of each op in the batch under way
  std::vector<uint32_t> probed_;        // wire operation of each question
  Batch absent_;                        // what is left of the stage after the probe

  Phase phase_ = Phase::kIdle;
  size_t stage_ = 0;
  Session::Ticket ticket_ = 0;
  std::vector<Outcome> outcomes_;
  std::vector<Copy> due_;  // copies whose source is there
  uint64_t deadline_ns_ = 0;
  uint64_t phase_since_ns_ = 0;
  bool canceled_ = false;
  abi::Status worst_ = abi::Status::kSuccess;
  std::atomic<abi::Status> status_{abi::Status::kNotPosted};
};

}  // namespace memkv::nixl
