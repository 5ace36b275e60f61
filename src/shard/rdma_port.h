#pragma once
/// A worker's side of RDMA: its poller, its memory as its NICs know it, and connections that are being opened.

#include <memory>
#include <vector>

#include "shard/worker.h"
#include "transport/rdma/control.h"

namespace memkv::shard {

/// Thread: worker, but for make().
class RdmaPort {
 public:
  /// Thread: main. `host` and `worker` outlive it.
  static Result<std::unique_ptr<RdmaPort>, Message> make(Worker& worker, transport::rdma::Devices& host);
  ~RdmaPort();
  RdmaPort(const RdmaPort&) = delete;
  RdmaPort& operator=(const RdmaPort&) = delete;

  /// Payloads come to lie there, or go out from there: its NICs may touch it, its peers may not. Blocks: pins the
  /// pages.
  void add_memory(std::span<std::byte> memory);
  /// The message's descriptor and queue pair become a connection of the worker, or the client hears why not.
  void open(const WorkerMessage& message);
  bool at_rest() const { return openings_.empty() && poller_->at_rest(); }

 private:
  struct Guest {
    RdmaPort* port = nullptr;
    uint64_t namespace_id = 0;
    wire::SessionKeys keys{};
    ClientName client_name;
    std::unique_ptr<transport::rdma::Opening> opening;
  };

  RdmaPort(Worker& worker, transport::rdma::Devices& host, std::unique_ptr<transport::rdma::Poller> poller);
  void on_opened(Guest& guest, Result<transport::rdma::LinkParts, Message> parts);

  Worker& worker_;
  transport::rdma::Devices& host_;
  const std::unique_ptr<transport::rdma::Poller> poller_;
  std::vector<std::shared_ptr<transport::rdma::Registration>> memory_;
  std::vector<std::unique_ptr<Guest>> openings_;
};

}  // namespace memkv::shard
