#pragma once
/// A tenant and its clients, as a worker sees them: what each holds of the pools, and what waits.

#include <array>
#include <cstdint>

#include "shard/connection.h"
#include "shard/request_ops.h"
#include "shard/shares.h"

namespace memkv::shard {

/// What one client of a tenant holds of the pools, and what it waits for. It is here as long as the client is known
/// (KnownClient). Thread: worker.
struct Holder {
  Tenant* tenant = nullptr;
  Held held{};
  uint32_t slots = 0;       ///< of all classes
  uint64_t room_bytes = 0;  ///< of payloads that are received straight into a log (memory mode)
  wire::Credit credit;

  /// Connections whose gets wait for a slot, and whose payload does. Each is served in turn.
  base::IntrusiveList<Connection, &Connection::gets_link> gets;
  base::IntrusiveList<Connection, &Connection::waiting_link> puts;
  int64_t deficit_bytes = 0;  ///< that may still be served before it is the next client's turn
  bool puts_first = false;    ///< it was a get's turn
  base::ListLink<Holder> link, waiting_link;
};

/// A namespace as a worker sees it. It is active while it has a connection. Thread: worker.
struct Tenant {
  uint64_t namespace_id = 0;
  std::array<Part, kPoolsMax> parts;
  uint64_t room_bytes = 0;  ///< of all of its clients
  uint64_t lent_bytes = 0;  ///< of payloads that links may lend to sockets
  base::IntrusiveList<Holder, &Holder::link> clients;
  Holder unknown;  ///< connections that have not said which client they are of

  base::IntrusiveList<Holder, &Holder::waiting_link> waiting;  ///< the first one's turn is next
  int64_t deficit_bytes = 0;  ///< that may still be served before it is the next tenant's turn
  base::ListLink<Tenant> link;
  PrefetchQueue prefetches;  ///< whose next read is to come
  base::ListLink<Tenant> prefetch_link;

  uint32_t held(size_t pool) const { return parts[pool].held(); }
};

}  // namespace memkv::shard
