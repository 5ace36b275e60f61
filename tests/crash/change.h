#pragma once
/// A change of one block, as a client of the torture makes it, and what the client reports of it to the parent.

#include <unistd.h>

#include <compare>
#include <cstdint>
#include <string>

#include "memkv/error.h"

namespace memkv::test {

enum class ChangeKind : uint8_t { kPut, kPutIfAbsent, kWrite, kRemove };

/// What a client is about to do to its block `key`. Bytes follow from (name of the block, version, position), so no two
/// changes of a block have the same.
struct Change {
  ChangeKind kind = ChangeKind::kPut;
  uint32_t key = 0;
  uint64_t version = 0;  ///< larger than that of all changes of this block before
  uint64_t offset = 0;   ///< of a range write
  uint64_t bytes = 0;
};

/// It is acknowledged: the block is as the change makes it.
bool was_done(const Change& change, Status status);
/// It was not even sent, or found that there was nothing to do: unlike a change that was given up it is not applied
/// later.
bool changed_nothing(Status status);

/// One message of a client's pipe. Written in one piece (fewer bytes than PIPE_BUF), so a killed client leaves none
/// cut.
struct Report {
  enum class Kind : uint8_t {
    kBegun,      ///< the change is about to be submitted
    kEnded,      ///< it completed with `status`
    kWrongRead,  ///< a block that nobody else changes did not read as this client last had it acknowledged
  };
  Kind kind = Kind::kBegun;
  Status status = Status::kOk;
  Change change;
};

inline constexpr int kReportFd = 3;  ///< of a client process: it writes its reports here
inline constexpr int kStopFd = 4;    ///< the client ends when this is closed at the other end

inline constexpr int kTenants = 2;
inline constexpr int kClientCount = 4;  ///< processes, half of them of each tenant
inline constexpr uint32_t kBlocksPerClient = 16;

inline int tenant_of(int client) { return client % kTenants; }
/// Of a client among those of its tenant.
inline int id_of(int client) { return client / kTenants; }

/// A block: the client that changes it, and its number among that client's.
struct BlockId {
  int client = 0;
  uint32_t key = 0;
  auto operator<=>(const BlockId&) const = default;
};

/// The key as the store sees it; the same for all tenants. `id` of a client among those of its tenant.
inline std::string key_text(int id, uint32_t key) {
  return "client" + std::to_string(id) + "/block" + std::to_string(key);
}
inline std::string key_of(const BlockId& block) { return key_text(id_of(block.client), block.key); }
/// The name that a block's bytes follow from: another one for each tenant.
inline std::string block_name(int tenant, int id, uint32_t key) {
  return "tenant" + std::to_string(tenant) + "/" + key_text(id, key);
}

}  // namespace memkv::test
