#pragma once
/// One thread's client machine: its reactor, the calls under way, and the servers.

#include <memory>
#include <string>
#include <vector>

#include "client/machine.h"
#include "client/ops/calls.h"
#include "client/placement.h"
#include "client/remote/remote_server.h"
#include "client/settings.h"

namespace memkv::client {

/// Wires the parts, and drives them: loop -> ops -> remote, and back through UnitOwner alone
/// (docs/decisions/0034-the-client-is-a-line.md). Thread: the one that drives it.
class Context {
 public:
  static Result<std::unique_ptr<Context>, Message> make(const Settings& settings);
  /// On a reactor that is there: the simulator's.
  static Result<std::unique_ptr<Context>, Message> make(const Settings& settings, std::unique_ptr<io::Reactor> reactor);
  ~Context();  ///< after shut_down()
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  void reserve(Call& call, const Batch::Impl& batch) { calls_.reserve(call, batch); }
  void submit(Call& call) { calls_.submit(call); }
  void feed(Call& call, uint32_t op, uint64_t bytes) { calls_.feed(call, op, bytes); }
  void cancel(Call& call) { calls_.cancel(call); }
  /// Cancels everything, closes all connections and waits until memory and sockets are quiet.
  void shut_down();
  size_t calls() const { return calls_.size(); }
  size_t run_once(uint64_t wait_ns) { return reactor().run_once(wait_ns); }
  void adopt() { reactor().adopt(); }  ///< the calling thread drives it from here on
  int wait_fd() const { return machine_.reactor().wait_fd(); }
  uint64_t arm_wait() { return reactor().arm_wait(); }
  /// Runs in the loop's thread after reactor().wake().
  void set_on_wake(void (*fn)(void*), void* context);

  io::Reactor& reactor() { return machine_.reactor(); }
  std::vector<ServerLine> describe() const;
  const Placement& placement() const { return placement_; }
  const Machine& machine() const { return machine_; }
  const Counters& counters() const { return machine_.counters(); }

 private:
  explicit Context(const Settings& settings);
  Result<void, Message> open(std::unique_ptr<io::Reactor> reactor);
  void on_wake();
  void on_tick();

  Machine machine_;
  const Placement placement_;
  FramePool frames_;
  Watch watch_;
  Calls calls_;
  Shared shared_;
  std::vector<std::unique_ptr<RemoteServer>> servers_;
  void (*on_wake_)(void*) = nullptr;
  void* on_wake_context_ = nullptr;
};

}  // namespace memkv::client
