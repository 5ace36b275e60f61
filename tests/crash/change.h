#pragma once
/// A change of one block: a client of the torture makes it, and reports it to the parent.

#include <unistd.h>

#include <compare>
#include <cstdint>
#include <string>

#include "memkv/error.h"

namespace memkv::test {

enum class ChangeKind : uint8_t { kPut, kPutIfAbsent, kWrite, kRemove };

/// What a client is about to do to its block `key`. The bytes follow from the block's name, the version and the
/// position, so that no two changes of a block have the same bytes.
struct Change {
  ChangeKind kind = ChangeKind::kPut;
  uint32_t key = 0;
  uint64_t version = 0;  ///< larger than the version of any change of this block before
  uint64_t offset = 0;   ///< used by range writes
  uint64_t bytes = 0;
};

/// True if it was acknowledged: the block is now as the change makes it.
bool was_done(const Change& change, Status status);
/// True if it was not even sent, or there was nothing to do. Unlike a change that was given up, it will not be applied
/// later.
bool changed_nothing(Status status);

/// One message in a client's pipe. It has fewer bytes than PIPE_BUF and is written in one piece, so a client that is
/// killed leaves none cut.
struct Report {
  enum class Kind : uint8_t {
    kBegun,      ///< the change is about to be submitted
    kEnded,      ///< it completed with `status`
    kWrongRead,  ///< a block that nobody else changes was not as this client last had it acknowledged
  };
  Kind kind = Kind::kBegun;
  Status status = Status::kOk;
  Change change;
};

inline constexpr int kReportFd = 3;  ///< in a client process: where it writes its reports
inline constexpr int kStopFd = 4;    ///< in a client process: it ends when the other end is closed

inline constexpr int kTenants = 2;
inline constexpr int kClientCount = 4;  ///< processes; half of them belong to each tenant
inline constexpr uint32_t kBlocksPerClient = 16;

inline int tenant_of(int client) { return client % kTenants; }
/// Number of a client among those of its tenant.
inline int id_of(int client) { return client / kTenants; }

/// Names a block: the client that changes it, and its number among that client's blocks.
struct BlockId {
  int client = 0;
  uint32_t key = 0;
  auto operator<=>(const BlockId&) const = default;
};

/// The key in the store, the same for all tenants. `id` counts the clients of a tenant.
inline std::string key_text(int id, uint32_t key) {
  return "client" + std::to_string(id) + "/block" + std::to_string(key);
}
inline std::string key_of(const BlockId& block) { return key_text(id_of(block.client), block.key); }
/// The name from which a block's bytes follow. Each tenant has another one.
inline std::string block_name(int tenant, int id, uint32_t key) {
  return "tenant" + std::to_string(tenant) + "/" + key_text(id, key);
}

}  // namespace memkv::test
