#pragma once
/// The clients that a worker has connections of.

#include <array>
#include <cstdint>

#include "base/intrusive_list.h"
#include "shard/pool.h"

namespace memkv::shard {

struct Holder;

using ClientId = std::array<uint8_t, 16>;  ///< random, chosen by the client process

/// One client process in one namespace, as one worker sees it. It is here as long as any connection of it is open in
/// this worker. Thread: worker.
struct KnownClient {
  uint64_t namespace_id = 0;
  ClientId id{};
  uint32_t connections = 0;  ///< of this worker
  uint64_t epoch = 0;        ///< the highest that came; changes of a lower one are not done any more
  Holder* holder = nullptr;  ///< what it holds of the pools; its owner's to set
  base::ListLink<KnownClient> link{};
};

/// A fixed table with room for as many clients as there can be connections, so that joining never fails and nothing is
/// ever evicted. Thread: worker.
class KnownClients {
 public:
  explicit KnownClients(size_t connections_max) : pool_(connections_max) {}

  /// Counts one more connection of this client; the first one brings it into the table.
  KnownClient& join(uint64_t namespace_id, const ClientId& id);
  /// Counts one connection less. True: it was the last one, and the client is forgotten.
  bool leave(KnownClient& client);
  size_t count() const { return pool_.in_use(); }

 private:
  using Bucket = base::IntrusiveList<KnownClient, &KnownClient::link>;
  Bucket& bucket_of(const ClientId& id) { return buckets_[id[0] % kBuckets]; }

  static constexpr size_t kBuckets = 256;
  Pool<KnownClient> pool_;
  std::array<Bucket, kBuckets> buckets_;
};

}  // namespace memkv::shard
