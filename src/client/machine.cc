/// Set-up of what a client thread stands on, and what RDMA knows of memory.

#include "client/machine.h"

#include <algorithm>

#include "client/rdma_host.h"
#include "transport/rdma/poller.h"

namespace memkv::client {
namespace {

/// For memory that is not registered. When none is free, payloads go through the stream.
constexpr io::SlotClass kStaging[] = {{64u << 10, 32}, {256u << 10, 16}, {2u << 20, 12}};

uint64_t random_seed() {
  uint64_t seed = 0;
  base::os_random(base::mut_bytes_of(&seed, sizeof seed));
  return seed;
}

}  // namespace

void Counters::add_to(ClientCounters& sum) const {
  sum.ops += ops.value();
  sum.hits += hits.value();
  sum.misses += misses.value();
  sum.failures += failures.value();
  sum.unknown += unknown.value();
  sum.retries += retries.value();
  sum.bytes_read += bytes_read.value();
  sum.bytes_written += bytes_written.value();
  sum.corrupt += corrupt.value();
  sum.connects += connects.value();
  sum.breaker_opened += breaker_opened.value();
  sum.staged_bytes += staged_bytes.value();
  sum.transport_switches += transport_switches.value();
  sum.fenced += fenced.value();
}

Machine::Machine(const Settings& settings)
    : settings_(settings),
      identity_(settings.identity != nullptr ? *settings.identity : process_identity()),
      random_(random_seed()) {}

Machine::~Machine() = default;

Result<void, Message> Machine::open(std::unique_ptr<io::Reactor> reactor) {
  MEMKV_ASSERT(!reactor_ && reactor, "opened once");
  reactor_ = std::move(reactor);
  open_rdma();
  if (settings_.transport == Transport::kRdma && !rdma_) {
    return Message{Status::kInvalid, "transport rdma: " + why_no_rdma_};
  }
  return {};
}

bool Machine::at_rest() const { return reactor_->pending() == 0 && (!rdma_ || rdma_->at_rest()); }

/// Where it may be used: the failure is a reason against it, and no more.
void Machine::open_rdma() {
  const bool wanted = settings_.transport == Transport::kAuto || settings_.transport == Transport::kRdma;
  if (!wanted) return;
  rdma_host_ = settings_.rdma;
  if (!rdma_host_) {
    auto host = shared_rdma_host(settings_.rdma_devices);
    if (!host) {
      why_no_rdma_ = host.error().text;
      return;
    }
    rdma_host_ = std::move(*host);
  }
  transport::rdma::Poller::Options options;
  options.staging.assign(std::begin(kStaging), std::end(kStaging));
  options.staged_bytes = &counters_.staged_bytes;
  auto poller = transport::rdma::Poller::make(*reactor_, *rdma_host_, options);
  if (poller) {
    rdma_ = std::move(*poller);
  } else {
    why_no_rdma_ = poller.error().text;
    rdma_host_.reset();
  }
}

size_t Machine::rail_count() const { return rdma_ ? rdma_host_->rail_count() : 0; }

/// Costs a client without GPU memory one load.
Machine::MemoryOf Machine::memory_of(std::span<const iovec> pieces) {
  if (!rdma_ || !rdma_->memory().any_gpu()) return MemoryOf::kHost;
  const auto in_gpu = [&](const void* at, size_t bytes) {
    const transport::rdma::Registration* registration = rdma_->memory().find(at, bytes);
    return registration && registration->gpu();
  };
  bool gpu = false, host = false;
  for (const iovec& piece : pieces) {
    if (piece.iov_len == 0) continue;
    const auto* data = static_cast<const std::byte*>(piece.iov_base);
    const bool all = in_gpu(data, piece.iov_len);
    if (!all && (in_gpu(data, 1) || in_gpu(data + piece.iov_len - 1, 1))) return MemoryOf::kMixed;
    (all ? gpu : host) = true;
  }
  return gpu && host ? MemoryOf::kMixed : gpu ? MemoryOf::kGpu : MemoryOf::kHost;
}

uint32_t Machine::gpu_rails(std::span<const iovec> pieces) {
  uint32_t rails = (1u << rail_count()) - 1;
  for (const iovec& piece : pieces) {
    if (piece.iov_len == 0) continue;
    const transport::rdma::Registration* registration = rdma_->memory().find(piece.iov_base, piece.iov_len);
    if (!registration) return 0;  // it is being deregistered
    for (size_t rail = 0; rail < rail_count(); rail++) {
      if (!registration->is_on(rail)) rails &= ~(1u << rail);
    }
  }
  return rails;
}

}  // namespace memkv::client
