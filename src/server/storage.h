#pragma once
/// Where the server keeps blocks: on the drives of a volume, or in memory. Thread: main.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/siphash.h"
#include "engine/store.h"
#include "io/device.h"
#include "memkv/error.h"
#include "server/options.h"
#include "shard/worker.h"
#include "volume/volume.h"

namespace memkv::server {

/// A member as the status shows it.
struct DriveInfo {
  std::string path;  ///< of a missing member: its path, if it is known
  uint64_t bytes = 0;
  bool present = false;
  uint64_t fitting_bytes = 0;  ///< of blocks of the size that the index was made for
};

/// Of each shard.
struct ShardMemory {
  uint64_t index_block_bytes = 0;  ///< average block for which its index has room
  uint64_t tier_bytes = 0;         ///< for hot chunks of drives
};

/// Opened once, before the workers; must outlive them.
class Storage {
 public:
  /// With drives: opens them and decides on the membership. In memory mode: takes `options.memory_bytes_max` and
  /// divides it among `shards_wanted` shards.
  static Result<std::unique_ptr<Storage>, Message> open(const Options& options, uint32_t shards_wanted);

  bool memory_mode() const { return volume_ == nullptr; }
  uint32_t shard_count() const { return shard_count_; }
  uint64_t raw_bytes() const;
  /// What the drive keeps of blocks of this size (format/fit.h), all shards together. 0: it is missing.
  uint64_t fitting_bytes(uint32_t drive_index, uint64_t block_bytes) const;
  /// Memory that the indexes of all shards will take.
  uint64_t index_bytes(uint64_t index_block_bytes) const;
  const std::vector<DriveInfo>& drives() const { return drives_; }
  std::vector<std::string> missing() const;
  std::array<uint8_t, 16> store_id() const { return store_id_; }
  uint64_t shard_seed() const { return shard_seed_; }
  base::SipKey digest_key() const { return digest_key_; }
  Result<uint64_t, Message> namespace_id(const std::string& name);
  /// Gives a worker all it needs for its shards: devices bound to its reactor, and one plan for each shard.
  void plan(shard::Worker& worker, const std::vector<uint32_t>& shards, const ShardMemory& memory,
            void (*on_drive_out)(void*, uint8_t, const char*), void* context);
  /// Takes a drive out: writes the next membership, without it, durably on all others.
  Result<void> take_out(uint32_t drive_index);
  /// False: the drive is missing or taken out. One that failed to record the membership without another drive is out
  /// too.
  bool is_in(uint32_t drive_index) const { return memory_mode() || volume_->drive(drive_index) != nullptr; }

 private:
  Storage() = default;
  uint64_t shard_bytes(uint32_t drive_index) const;
  static Result<std::unique_ptr<Storage>, Message> open_drives(const Options& options);
  static Result<std::unique_ptr<Storage>, Message> open_memory(const Options& options, uint32_t shards_wanted);

  uint32_t shard_count_ = 1;
  std::array<uint8_t, 16> store_id_{};
  uint64_t shard_seed_ = 0;
  base::SipKey digest_key_{};
  std::vector<DriveInfo> drives_;
  std::vector<std::unique_ptr<io::DriveFile>> files_;
  std::unique_ptr<volume::Volume> volume_;
  std::shared_ptr<io::MemoryStorage> memory_;
  uint64_t memory_bytes_ = 0;
  uint64_t slice_bytes_ = 0;
  uint64_t segment_bytes_ = 0;
};

/// How many entries the index of a shard of `bytes` has room for, and how much memory an entry takes.
uint64_t index_entries(uint64_t bytes, uint64_t index_block_bytes);
inline constexpr uint64_t kIndexEntryBytes = 64;

}  // namespace memkv::server
