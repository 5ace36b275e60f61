#pragma once
/// The reactor of one simulated thread. Its sockets belong to the simulated network, and simulated drives complete its
/// ops.

#include <string>
#include <vector>

#include "io/loop.h"
#include "sim/network.h"
#include "sim/world.h"

namespace memkv::sim {

/// Behaves like epoll (a canceled receive writes nothing any more) or like io_uring (the receive ends later, and may
/// still write). Thread: the world's.
class SimLoop final : public io::LoopBase {
 public:
  enum class Likeness : uint8_t { kEpoll, kUring };
  SimLoop(World& world, Network& network, Likeness likeness, uint64_t clock_offset_ns, uint32_t ops_max = 4096);

  std::string_view name() const override { return likeness_ == Likeness::kEpoll ? "epoll" : "sim"; }
  Result<void> accept(io::IoOp& op, int listen_fd) override;
  Result<void> connect(io::IoOp& op, int fd, const sockaddr* address, socklen_t length) override;
  Result<void> recv(io::IoOp& op, int fd, std::span<const iovec> pieces) override;
  Result<void> send(io::IoOp& op, int fd, std::span<const iovec> pieces) override;
  Result<void> readable(io::IoOp& op, int fd) override;  ///< of an epoll instance of RDMA
  Result<void> writable(io::IoOp&, int) override { return refused(); }
  Result<void> read(io::IoOp&, int, uint64_t, std::span<const iovec>) override { return refused(); }
  Result<void> write(io::IoOp&, int, uint64_t, std::span<const iovec>, bool) override { return refused(); }
  Result<void> sync(io::IoOp&, int) override { return refused(); }
  void cancel(io::IoOp& op) override;
  void register_memory(std::span<std::byte>) override {}
  uint64_t now_ns() const override { return world_.now_ns() + clock_offset_ns_; }
  /// One turn, without a wait. From outside of all turns the world runs for `wait_ns` first.
  size_t run_once(uint64_t wait_ns) override;

  // For simulated drives: begins an op that they will complete.
  Result<void> begin(io::IoOp& op, io::IoOp::Kind kind) { return admit(op, kind, -1); }
  void end(io::IoOp& op, int32_t result) { finish_later(op, result); }
  /// Grows each time when owners of ended ops are told. The owner of an op knows that it ended once this has grown.
  uint64_t told_turns() const { return told_turns_; }

  // For the network and the loop's actor.
  /// The thread has been given something to do, and looks before it sleeps.
  void touch() { owner_has_work_ = owner_has_work_ || has_sources(); }
  void poke(int fd) { hot_.push_back(fd); }
  bool runnable() const;
  uint64_t next_ns() const;
  uint64_t clock_offset_ns() const { return clock_offset_ns_; }
  World& world() { return world_; }

 private:
  static Error refused() { return {Status::kInvalid, 0, "the simulated reactor has no such descriptors"}; }
  size_t run_sockets();
  bool may_sleep();

  World& world_;
  Network& network_;
  const Likeness likeness_;
  const uint64_t clock_offset_ns_;
  std::vector<int> hot_, running_;  // sockets on which an op may be able to go on
  uint64_t told_turns_ = 0;
  bool owner_has_work_ = false;  // the loop's driver asked for a turn without a wait
};

}  // namespace memkv::sim
