/// How a connection begins: its client says who it is, finds its part of the connections, and is welcomed.

#include <algorithm>

#include "shard/connection.h"
#include "shard/worker.h"

namespace memkv::shard {
namespace {

/// What its tenant had room for is not yet the client's: one that has its part of the connections hears so. False: it
/// has.
bool join(Connection& connection, const wire::Introduce& introduce) {
  Worker& worker = connection.worker();
  Tenants& tenants = worker.tenants();
  Tenant& tenant = *connection.holder().tenant;
  KnownClient& client = worker.connections().clients().join(connection.namespace_id(), introduce.client_id);
  if (client.holder == nullptr) client.holder = &tenants.join(tenant);
  tenants.give(connection.holder(), kPooledConnections);
  if (!tenants.fits(*client.holder, kPooledConnections)) {
    tenants.take(connection.holder(), kPooledConnections);
    worker.connections().part_from(client);
    worker.count(worker.mutable_stats().turned_away);
    connection.leave(Status::kBusy, worker.connections().no_room_text(tenant));
    return false;
  }
  tenants.take(*client.holder, kPooledConnections);
  connection.join(client, *client.holder);
  client.epoch = std::max(client.epoch, introduce.epoch);
  client.holder->credit = worker.slots().compute_credit(*client.holder);
  return true;
}

wire::Welcome welcome_of(const Connection& connection) {
  Worker& worker = connection.worker();
  const Identity& identity = worker.identity();
  wire::Welcome welcome;
  welcome.boot_id = identity.boot_id;
  welcome.store_id = identity.store_id;
  welcome.namespace_id = connection.namespace_id();
  welcome.shard_seed = identity.shard_seed;
  welcome.block_bytes_max = worker.stores().block_bytes_max();
  welcome.worker = worker.index();
  welcome.worker_count = identity.worker_count;
  welcome.credit = connection.holder().credit;
  welcome.ready = worker.ready() ? 1 : 0;
  welcome.shard_count = identity.shard_count;
  welcome.worker_of_shard = identity.worker_of_shard;
  welcome.now_ns = worker.now_ns();
  return welcome;
}

}  // namespace

/// Ops follow only behind WELCOME, so no op is ever on its way over a connection whose client the worker does not know.
void introduce(Connection& connection, const wire::FrameHeader& header, std::span<const std::byte> body) {
  if (header.opcode != wire::Opcode::kIntroduce) {
    return connection.protocol_error("another frame came before INTRODUCE");
  }
  const auto introduction = wire::decode_introduce(body);
  if (!introduction) return connection.protocol_error(introduction.error().what);
  if (connection.turned_away()) {
    return connection.leave(Status::kBusy, connection.worker().connections().no_room_text(*connection.holder().tenant));
  }
  if (join(connection, *introduction)) connection.replies().say_welcome(welcome_of(connection));
}

}  // namespace memkv::shard
