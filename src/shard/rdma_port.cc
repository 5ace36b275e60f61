#include "shard/rdma_port.h"

#include <algorithm>

#include "base/assert.h"
#include "base/log.h"

namespace memkv::shard {

namespace rdma = transport::rdma;

namespace {

constexpr size_t kOpeningsMax = 256;
constexpr uint64_t kOpeningNs = 10'000'000'000;

}  // namespace

Result<std::unique_ptr<RdmaPort>, Message> RdmaPort::make(Worker& worker, rdma::Devices& host) {
  // For payloads of ops that are rejected, which nobody keeps.
  auto poller = rdma::Poller::make(worker.reactor(), host,
                                   {.staging = {{kChunkBytesMax, 2}}, .staging_access = rdma::Access::kLocal});
  if (!poller) return poller.error();
  std::unique_ptr<RdmaPort> port(new RdmaPort(worker, host, std::move(*poller)));
  port->add_memory(worker.slots().arena().memory());
  return port;
}

RdmaPort::RdmaPort(Worker& worker, rdma::Devices& host, std::unique_ptr<rdma::Poller> poller)
    : worker_(worker), host_(host), poller_(std::move(poller)) {}

RdmaPort::~RdmaPort() {
  MEMKV_ASSERT(openings_.empty(), "the worker waits for them");
  for (auto& memory : memory_)
    host_.remove_memory(
        memory, [](void*) {}, nullptr);
}

void RdmaPort::add_memory(std::span<std::byte> memory) {
  auto added = host_.add_memory(memory.data(), memory.size(), rdma::Access::kLocal);
  if (added) {
    memory_.push_back(std::move(*added));
  } else {
    MEMKV_LOG(kWarn, "rdma: worker {}: payloads are copied: {}", worker_.index(), added.error().what);
  }
}

void RdmaPort::open(const WorkerMessage& message) {
  if (worker_.draining() || openings_.size() >= kOpeningsMax) {
    return rdma::refuse(message.fd, message.keys, worker_.draining() ? "the server is stopping" : "too many at once");
  }
  Tenant& tenant = worker_.tenants().of(message.namespace_id);
  if (!worker_.tenants().fits(tenant.unknown, kPooledConnections)) {
    return rdma::refuse(message.fd, message.keys, worker_.connections().no_room_text(tenant));
  }
  Guest& guest = *openings_.emplace_back(std::make_unique<Guest>());
  guest.port = this;
  guest.namespace_id = message.namespace_id;
  guest.keys = message.keys;
  guest.client_name = message.client_name;
  guest.opening = rdma::Opening::make(
      *poller_, message.fd, message.keys, *message.rdma, worker_.now_ns() + kOpeningNs,
      [](void* context, rdma::Opening&, Result<rdma::LinkParts, Message> parts) {
        auto& opened = *static_cast<Guest*>(context);
        opened.port->on_opened(opened, std::move(parts));
      },
      &guest);
}

void RdmaPort::on_opened(Guest& guest, Result<rdma::LinkParts, Message> parts) {
  const auto at = std::find_if(openings_.begin(), openings_.end(), [&](const auto& g) { return g.get() == &guest; });
  const std::unique_ptr<Guest> gone = std::move(*at);
  openings_.erase(at);
  if (!parts) {
    MEMKV_LOG_EVERY(5, kInfo, "rdma: worker {}: a client could not connect: {}", worker_.index(), parts.error().text);
    return;
  }
  Connection* connection = worker_.draining() ? nullptr : worker_.connections().open(guest.namespace_id);
  if (connection == nullptr) return poller_->discard(std::move(parts->pair));
  connection->attach(
      std::make_unique<rdma::RdmaLink>(*poller_, std::move(*parts), transport::Role::kServer, guest.keys, *connection),
      Transport::kRdma, guest.client_name);
}

}  // namespace memkv::shard
