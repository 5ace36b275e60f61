#include "sim/rdma.h"

#include <algorithm>
#include <deque>

#include "base/assert.h"
#include "sim/calls.h"

namespace memkv::sim {
namespace {

constexpr uint64_t kLookNs = 50 * kMs;

}  // namespace

/// A helper thread: it runs its jobs one after the other, each some time after it was begun.
class ProcessRdma::HelperActor final : public Actor, public transport::rdma::Helper {
 public:
  HelperActor(ProcessRdma& process, std::string name, Look look, void* context)
      : Actor(std::move(name)), process_(process), look_(look), context_(context) {
    next_look_ns_ = look_ ? process_.world_.now_ns() : kNever;
    process_.world_.add(*this);
    process_.helpers_.push_back(this);
  }
  ~HelperActor() override {
    MEMKV_ASSERT(jobs_.empty(), "a job is under way");
    process_.world_.remove(*this);
    std::erase(process_.helpers_, this);
  }
  void push(transport::rdma::BlockingJob& job) override {
    MEMKV_ASSERT(!job.pending, "one thing at a time");
    job.pending = true;
    jobs_.push_back(&job);
    if (jobs_.size() == 1) begin();
  }
  bool runnable() const override { return next_ns() <= process_.world_.now_ns(); }
  uint64_t next_ns() const override { return std::min(jobs_.empty() ? kNever : done_ns_, next_look_ns_); }
  uint64_t clock_offset_ns() const override { return process_.clock_offset_ns_; }
  void turn() override {
    use_host(process_.host_);
    const uint64_t now = process_.world_.now_ns();
    if (!jobs_.empty() && done_ns_ <= now) {
      transport::rdma::BlockingJob& job = *jobs_.front();
      jobs_.pop_front();
      job.run(job);
      job.deliver(job, job.deliver_to);
      if (!jobs_.empty()) begin();
    }
    if (look_ == nullptr) return;
    look_(context_);
    next_look_ns_ = now + kLookNs;
  }

 private:
  /// Of what blocks most takes less than a millisecond, some much longer, and all of it while the host is slow.
  void begin() {
    base::Random& random = process_.world_.random();
    const uint64_t now = process_.world_.now_ns();
    const bool late = now < process_.fabric_.faults(process_.host_).helpers_late_until_ns;
    uint64_t ns = random.between(20 * kUs, 800 * kUs);
    if (random.chance(1, 16)) ns = random.between(kMs, 40 * kMs);
    if (late && random.chance(1, 2)) ns = random.between(100 * kMs, kHelperLateNsMax);
    done_ns_ = now + ns;
  }

  ProcessRdma& process_;
  const Look look_;
  void* const context_;
  std::deque<transport::rdma::BlockingJob*> jobs_;
  uint64_t done_ns_ = 0, next_look_ns_ = 0;
};

ProcessRdma::ProcessRdma(World& world, Fabric& fabric, uint32_t host, std::string name, uint64_t clock_offset_ns)
    : world_(world), fabric_(fabric), host_(host), name_(std::move(name)), clock_offset_ns_(clock_offset_ns) {
  if (fabric.rails(host) == 0) return;
  use_host(host);
  const auto make_helper = [this](const char* what, transport::rdma::Helper::Look look, void* context) {
    return std::make_unique<HelperActor>(*this, name_ + "." + what, look, context);
  };
  std::vector<std::string> names;
  for (uint32_t rail = 0; rail < fabric.rails(host); rail++) names.push_back("sim" + std::to_string(rail));
  auto opened = transport::rdma::Devices::open({Fabric::verbs(), make_helper}, names);
  if (opened) devices_ = std::move(*opened);
}

ProcessRdma::~ProcessRdma() = default;

void ProcessRdma::pause_until(uint64_t ns) {
  for (HelperActor* helper : helpers_) helper->pause_until(ns);
}

void ProcessRdma::stall_thread(uint64_t pick, uint64_t ns) { helpers_[pick % helpers_.size()]->pause_until(ns); }

void ProcessRdma::kill() {
  for (HelperActor* helper : helpers_) world_.remove(*helper);
  new std::shared_ptr(std::move(devices_));  // kept for good
}

}  // namespace memkv::sim
