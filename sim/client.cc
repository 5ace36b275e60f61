#include "sim/client.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "sim/calls.h"
#if __has_include("client/client_identity.h")
#include "client/client_identity.h"
#endif

namespace memkv::sim {

/// The thread of one I/O context. The caller's calls reach the context as they do when a caller drives it itself.
class ClientProcess::ContextActor final : public Actor {
 public:
  ContextActor(std::string name, SimLoop& loop, std::unique_ptr<client::Context> made, uint32_t host)
      : Actor(std::move(name)), context(std::move(made)), loop_(loop), host_(host) {}
  bool runnable() const override { return loop_.runnable(); }
  uint64_t next_ns() const override { return loop_.next_ns(); }
  void turn() override {
    use_host(host_);
    context->run_once(kSecond);
  }
  uint64_t clock_offset_ns() const override { return loop_.clock_offset_ns(); }
  void touch() { loop_.touch(); }

  std::unique_ptr<client::Context> context;

 private:
  SimLoop& loop_;
  const uint32_t host_;
};

/// Gives each simulated process an identity of its own towards its servers; in reality a process has just one.
struct ClientProcess::Identity {
#if __has_include("client/client_identity.h")
  client::ClientIdentity identity;
  void give_to(client::Settings& settings) { settings.identity = &identity; }
#else
  void give_to(client::Settings&) {}
#endif
};

ClientProcess::ClientProcess(World& world, Network& network, const ClientSpec& spec)
    : world_(world), network_(network), spec_(spec), identity_(std::make_unique<Identity>()) {
  const uint64_t clock_offset_ns = world.random().below(1'000'000) * kSecond;
  client::Settings settings;
  for (const std::string& server : spec.servers) {
    auto parsed = client::parse_server(server);
    MEMKV_ASSERT(parsed.ok());
    settings.servers.push_back(*parsed);
  }
  settings.transport = spec.transport;
  settings.shm_dirs = {kLocalFolder};
  rdma_ = std::make_unique<ProcessRdma>(world, network.rdma(), spec.host, spec.name, clock_offset_ns);
  settings.rdma = rdma_->devices();
  settings.secret = spec.secret;
  settings.io_contexts = spec.contexts;
  settings.connections_per_worker = spec.connections_per_worker;
  settings.client_name = spec.name;
  identity_->give_to(settings);
  for (uint32_t i = 0; i < spec.contexts; i++) {
    auto loop = std::make_unique<SimLoop>(world, network, SimLoop::Likeness::kEpoll, clock_offset_ns);
    SimLoop& borrowed = *loop;
    auto context = client::Context::make(settings, std::move(loop));
    MEMKV_ASSERT(context.ok());
    threads_.push_back(std::make_unique<ContextActor>(fmt::format("{}.context{}", spec.name, i), borrowed,
                                                      std::move(*context), spec.host));
    world_.add(*threads_.back());
  }
}

ClientProcess::~ClientProcess() {
  for (auto& thread : threads_) world_.remove(*thread);
}

void ClientProcess::submit(size_t context, client::Call& call) {
  MEMKV_ASSERT(!dead_);
  use_host(spec_.host);
  threads_[context]->context->submit(call);
  threads_[context]->touch();
}

void ClientProcess::cancel(size_t context, client::Call& call) {
  use_host(spec_.host);
  threads_[context]->context->cancel(call);
  threads_[context]->touch();
}

size_t ClientProcess::server_of(std::string_view key) const { return threads_[0]->context->placement().server_of(key); }

size_t ClientProcess::calls() const {
  size_t sum = 0;
  for (const auto& thread : threads_) sum += dead_ ? 0 : thread->context->calls();
  return sum;
}

void ClientProcess::pause_until(uint64_t ns) {
  for (auto& thread : threads_) thread->pause_until(ns);
  rdma_->pause_until(ns);
}

void ClientProcess::stall_thread(uint64_t pick, uint64_t ns) { threads_[pick % threads_.size()]->pause_until(ns); }

uint64_t ClientProcess::paused_until_ns() const {
  uint64_t latest = 0;
  for (const auto& thread : threads_) latest = std::max(latest, thread->paused_until_ns());
  return latest;
}

ClientCounters ClientProcess::counters() const {
  ClientCounters sum{};
  for (const auto& thread : threads_) thread->context->counters().add_to(sum);
  return sum;
}

void ClientProcess::shut_down() {
  for (auto& thread : threads_) {
    use_host(spec_.host);
    thread->context->shut_down();
  }
}

void ClientProcess::kill() {
  dead_ = true;
  for (auto& thread : threads_) {
    world_.remove(*thread);
    (void)thread->context.release();  // and all that it owns: when a process is killed no destructor runs
  }
  rdma_->kill();
  network_.kill_host(spec_.host);
}

}  // namespace memkv::sim
