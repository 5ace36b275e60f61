#pragma once
/// What all parts of one client thread stand on. It calls none of them.

#include <memory>
#include <span>
#include <string>

#include "base/metrics.h"
#include "base/random.h"
#include "client/client_identity.h"
#include "client/settings.h"
#include "io/reactor.h"

namespace memkv::transport::rdma {
class Devices;
class Poller;
}  // namespace memkv::transport::rdma

namespace memkv::client {

/// Thread: the context's writes, any reads.
struct Counters {
  base::Counter ops, hits, misses, failures, unknown, retries, bytes_read, bytes_written, corrupt, connects,
      breaker_opened, staged_bytes, transport_switches, fenced;
  void add_to(ClientCounters& sum) const;
};

/// The reactor and its clock, randomness, counters, RDMA, and who the client is. Thread: the context's.
class Machine {
 public:
  explicit Machine(const Settings& settings);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  /// Once, before all else. Fails when RDMA is the only transport allowed, and there is none.
  Result<void, Message> open(std::unique_ptr<io::Reactor> reactor);

  io::Reactor& reactor() { return *reactor_; }
  const io::Reactor& reactor() const { return *reactor_; }
  uint64_t now_ns() const { return reactor_->now_ns(); }
  uint64_t jitter_ns(uint64_t low, uint64_t high) { return random_.between(low, high); }
  const Settings& settings() const { return settings_; }
  ClientIdentity& identity() { return identity_; }
  Counters& counters() { return counters_; }
  const Counters& counters() const { return counters_; }

  transport::rdma::Poller* rdma() { return rdma_.get(); }  ///< null: there is no RDMA for this client
  const std::string& why_no_rdma() const { return why_no_rdma_; }
  const std::shared_ptr<transport::rdma::Devices>& rdma_host() const {
    return rdma_host_;
  }  ///< null: none. Thread: any
  size_t rail_count() const;
  /// Rails whose devices know all of this GPU memory, as bits.
  uint32_t gpu_rails(std::span<const iovec> pieces);
  enum class MemoryOf : uint8_t { kHost, kGpu, kMixed };
  MemoryOf memory_of(std::span<const iovec> pieces);
  /// Nothing is under way in the reactor, nor at a NIC.
  bool at_rest() const;
  bool opened() const { return reactor_ != nullptr; }

 private:
  void open_rdma();

  const Settings settings_;
  ClientIdentity& identity_;
  std::unique_ptr<io::Reactor> reactor_;
  std::shared_ptr<transport::rdma::Devices> rdma_host_;
  std::unique_ptr<transport::rdma::Poller> rdma_;
  std::string why_no_rdma_;
  base::Random random_;
  Counters counters_;
};

/// A timer that goes off at the earliest of the times that it was set to. Thread: the context's.
class Alarm {
 public:
  Alarm(Machine& machine, io::Timer::Fn on_time, void* context) : machine_(machine) {
    timer_.on_done = on_time;
    timer_.context = context;
  }
  void set(uint64_t at_ns) {
    if (!timer_.armed() || at_ns < timer_.deadline_ns) machine_.reactor().start(timer_, at_ns);
  }
  void stop() { machine_.reactor().stop(timer_); }
  bool armed() const { return timer_.armed(); }
  uint64_t due_ns() const { return timer_.deadline_ns; }

 private:
  Machine& machine_;
  io::Timer timer_;
};

}  // namespace memkv::client
