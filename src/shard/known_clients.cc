#include "shard/known_clients.h"

#include "base/assert.h"

namespace memkv::shard {

KnownClient& KnownClients::join(uint64_t namespace_id, const ClientId& id) {
  Bucket& bucket = bucket_of(id);
  for (KnownClient& client : bucket) {
    if (client.namespace_id != namespace_id || client.id != id) continue;
    MEMKV_ASSERT(client.connections > 0);
    client.connections++;
    return client;
  }
  KnownClient* client = pool_.take();
  MEMKV_ASSERT(client != nullptr, "there is room for one client a connection");
  *client = {.namespace_id = namespace_id, .id = id, .connections = 1};
  bucket.push_back(*client);
  return *client;
}

bool KnownClients::leave(KnownClient& client) {
  MEMKV_ASSERT(client.connections > 0, "left more often than joined");
  if (--client.connections > 0) return false;
  bucket_of(client.id).remove(client);
  pool_.give_back(client);
  return true;
}

}  // namespace memkv::shard
