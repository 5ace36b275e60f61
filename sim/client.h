#pragma once
/// A simulated client process. It has the real client's contexts, each on a simulated thread.

#include <memory>
#include <string>
#include <vector>

#include "client/context.h"
#include "memkv/client.h"
#include "sim/loop.h"
#include "sim/network.h"
#include "sim/rdma.h"
#include "sim/world.h"

namespace memkv::sim {

struct ClientSpec {
  uint32_t host = 100;
  std::string name;
  wire::Secret secret{};
  std::vector<std::string> servers;  ///< as ClientOptions::servers
  uint32_t contexts = 2;
  uint32_t connections_per_worker = 1;
  Transport transport = Transport::kTcp;
};

/// Thread: the world's.
class ClientProcess {
 public:
  ClientProcess(World& world, Network& network, const ClientSpec& spec);
  ~ClientProcess();
  ClientProcess(const ClientProcess&) = delete;
  ClientProcess& operator=(const ClientProcess&) = delete;

  /// Submits a call. It belongs to the caller again when its on_done runs.
  void submit(size_t context, client::Call& call);
  void cancel(size_t context, client::Call& call);
  size_t contexts() const { return threads_.size(); }
  const ClientSpec& spec() const { return spec_; }
  /// The server that this key belongs to.
  size_t server_of(std::string_view key) const;
  size_t calls() const;
  void pause_until(uint64_t ns);
  void stall_thread(uint64_t pick, uint64_t ns);
  uint64_t paused_until_ns() const;
  ClientCounters counters() const;
  /// Closes everything in an orderly way; the world goes on meanwhile.
  void shut_down();
  /// Acts like kill -9: calls under way never complete.
  void kill();
  bool dead() const { return dead_; }
  const std::shared_ptr<transport::rdma::Devices>& rdma() const { return rdma_->devices(); }  ///< null: it has none

 private:
  class ContextActor;
  struct Identity;
  World& world_;
  Network& network_;
  const ClientSpec spec_;
  std::unique_ptr<Identity> identity_;
  std::unique_ptr<ProcessRdma> rdma_;
  std::vector<std::unique_ptr<ContextActor>> threads_;
  bool dead_ = false;
};

}  // namespace memkv::sim
