/// What a key becomes: the digest it stands under in the index, and the seed of its chunks' checksums.

#include "base/bytes.h"
#include "base/chunk_seed.h"
#include "engine/store.h"

namespace memkv::engine {

// seed = xxh3(key, seed = namespace id) + chunk number * 0x9E3779B97F4A7C15; clients compute the same.
uint64_t checksum_seed(uint64_t namespace_id, std::string_view key, uint32_t chunk_number) {
  return base::chunk_seed(namespace_id, key, chunk_number);
}

// SipHash-128 over the namespace id (8 bytes, little-endian) and the key.
Digest digest_of(const base::SipKey& secret, uint64_t namespace_id, std::string_view key) {
  base::SipStream stream(secret);
  stream.update(base::bytes_of(&namespace_id, sizeof namespace_id));
  stream.update(base::as_bytes(key));
  return stream.finish128();
}

}  // namespace memkv::engine
