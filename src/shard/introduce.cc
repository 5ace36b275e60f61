/// How a connection begins: its client says who it is, finds its part of the connections, and is welcomed.

#include <algorithm>

#include "shard/connection.h"
#include "shard/worker.h"

namespace memkv::shard {

/// The first frame of a connection. Ops follow only behind WELCOME, so no op is ever on its way over a connection whose
/// client the worker does not know.
void Connection::on_introduce(const wire::FrameHeader& header, std::span<const std::byte> body) {
  if (header.opcode != wire::Opcode::kIntroduce) return protocol_error("another frame came before INTRODUCE");
  const auto introduce = wire::decode_introduce(body);
  if (!introduce) return protocol_error(introduce.error().what);
  if (turned_away_) return leave(Status::kBusy, worker_->no_room_text(*tenant_));
  join(*introduce);
  if (!leaving_) welcome();
}

/// What its tenant had room for is not yet the client's: one that has its part of the connections hears so.
void Connection::join(const wire::Introduce& introduce) {
  Tenants& tenants = worker_->tenants();
  KnownClient& client = worker_->clients().join(namespace_id_, introduce.client_id);
  if (client.holder == nullptr) client.holder = &tenants.join(*tenant_);
  tenants.give(*holder_, kPooledConnections);
  const bool fits = tenants.fits(*client.holder, kPooledConnections);
  if (fits) holder_ = client.holder;
  tenants.take(*holder_, kPooledConnections);
  if (!fits) {
    worker_->part_from(client);
    worker_->count(worker_->mutable_stats().turned_away);
    return leave(Status::kBusy, worker_->no_room_text(*tenant_));
  }
  client_ = &client;
  client_->epoch = std::max(client_->epoch, introduce.epoch);
  board_place_ = worker_->client_board().add(
      {.namespace_id = namespace_id_, .client = introduce.client_id, .name = client_name_, .transport = transport_});
  holder_->credit = worker_->compute_credit(*holder_);
}

void Connection::welcome() {
  credit_told_ = holder_->credit;
  const Identity& identity = worker_->identity();
  wire::Welcome welcome;
  welcome.boot_id = identity.boot_id;
  welcome.store_id = identity.store_id;
  welcome.namespace_id = namespace_id_;
  welcome.shard_seed = identity.shard_seed;
  welcome.block_bytes_max = worker_->block_bytes_max();
  welcome.worker = worker_->index();
  welcome.worker_count = identity.worker_count;
  welcome.credit = credit_told_;
  welcome.ready = worker_->ready() ? 1 : 0;
  welcome.shard_count = identity.shard_count;
  welcome.worker_of_shard = identity.worker_of_shard;
  welcome.now_ns = worker_->now_ns();
  if (!send_control(wire::Opcode::kWelcome, 0, [&](auto body) { return wire::encode(welcome, body); })) {
    close(Status::kBusy);
  }
}

}  // namespace memkv::shard
