#include "server/storage.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/random.h"
#include "base/units.h"
#include "format/fit.h"
#include "format/layout.h"
#include "server/budget.h"

namespace memkv::server {
namespace {

constexpr uint64_t kSmallIndexEntries = 256 * 1024;  // 16 MiB: small stores have room for blocks of 4 KiB
constexpr uint64_t kSmallestBlockBytes = 4096;

uint64_t random_u64() {
  uint64_t value = 0;
  base::os_random(base::mut_bytes_of(&value, sizeof value));
  return value;
}

/// True if the drive is pulled or dead, so that it counts as missing. The membership then decides whether the store
/// starts.
bool is_gone(const std::string& path, const Message& error) {
  return error.status == Status::kIo || ::access(path.c_str(), F_OK) != 0;
}

}  // namespace

uint64_t index_entries(uint64_t bytes, uint64_t index_block_bytes) {
  MEMKV_ASSERT(index_block_bytes > 0);
  return std::max(bytes / index_block_bytes, std::min(bytes / kSmallestBlockBytes, kSmallIndexEntries));
}

Result<std::unique_ptr<Storage>, Message> Storage::open(const Options& options, uint32_t shards_wanted) {
  return options.mode == StorageMode::kMemory ? open_memory(options, shards_wanted) : open_drives(options);
}

/// Opens the drives that the options name, and the store on them. A drive that is not there counts as missing, and the
/// store starts without it if it can. A drive that is there but cannot be opened is an error.
Result<std::unique_ptr<Storage>, Message> Storage::open_drives(const Options& options) {
  std::unique_ptr<Storage> storage(new Storage);
  std::vector<io::DriveFile*> borrowed;
  std::string gone;
  for (const DriveOption& drive : options.drives) {
    io::DriveFile::Options how;
    how.power_loss_protected = drive.power_loss_protected;
    auto file = io::DriveFile::open(drive.path, how);
    if (!file && !is_gone(drive.path, file.error())) return file.error();
    if (!file) {
      MEMKV_LOG(kError, "{}; the drive counts as missing", file.error().text);
      gone += (gone.empty() ? "" : "; ") + file.error().text;
      continue;
    }
    if (!(*file)->info().direct)
      MEMKV_LOG(kWarn, "{}: the file system has no direct I/O: the page cache is in the way", drive.path);
    borrowed.push_back(file->get());
    storage->files_.push_back(std::move(file).value());
  }
  if (borrowed.empty()) return Message{Status::kInvalid, gone + ": check storage.drives"};
  auto volume = volume::Volume::open(borrowed, {.accept_loss = options.accept_loss});
  if (!volume) return Message{volume.error().status, volume.error().text + (gone.empty() ? "" : "; " + gone)};
  storage->volume_ = std::move(volume).value();
  const format::Superblock& super = storage->volume_->superblock();
  storage->shard_count_ = super.shard_count;
  std::memcpy(storage->store_id_.data(), super.store_id, sizeof super.store_id);
  storage->shard_seed_ = super.shard_seed;
  storage->digest_key_ = {super.digest_key[0], super.digest_key[1]};
  for (uint32_t i = 0; i < storage->volume_->drive_count(); i++) {
    const io::DriveFile* file = storage->volume_->drive(i);
    if (file != nullptr) {
      storage->drives_.push_back({file->info().path, file->info().size_bytes, true});
    } else {
      storage->drives_.push_back({fmt::format("drive {}", i), super.members[i].size_bytes, false});
    }
  }
  return storage;
}

/// Uses memory instead of drives: takes all of it now, and divides it like one drive. If it is too small for the wanted
/// number of shards, there are fewer.
Result<std::unique_ptr<Storage>, Message> Storage::open_memory(const Options& options, uint32_t shards_wanted) {
  std::unique_ptr<Storage> storage(new Storage);
  storage->memory_bytes_ =
      options.memory_bytes_max != 0 ? options.memory_bytes_max : default_store_bytes(io::process_limits());
  storage->memory_bytes_ = base::align_down(storage->memory_bytes_, base::kSectorBytes);
  uint32_t shards = std::max(format::default_shards(storage->memory_bytes_, storage->memory_bytes_), shards_wanted);
  while (shards > 1 && (shards & (shards - 1)) != 0) shards--;
  auto layout = format::choose_layout(storage->memory_bytes_, shards);
  while (!layout && shards > 1) layout = format::choose_layout(storage->memory_bytes_, shards /= 2);
  if (!layout) {
    return Message{Status::kInvalid, fmt::format("memory.max_size: {} is too small: give at least {}",
                                                 base::format_bytes(storage->memory_bytes_),
                                                 base::format_bytes(format::drive_bytes_min(1)))};
  }
  storage->memory_ = io::make_memory_storage(storage->memory_bytes_);
  if (storage->memory_ == nullptr) {
    return Message{Status::kNoSpace, fmt::format("memory.max_size: the machine does not give {}",
                                                 base::format_bytes(storage->memory_bytes_))};
  }
  storage->shard_count_ = shards;
  storage->slice_bytes_ = layout->slice_bytes;
  storage->segment_bytes_ = layout->segment_bytes;
  base::os_random(base::mut_bytes_of(storage->store_id_.data(), storage->store_id_.size()));
  storage->shard_seed_ = random_u64();
  storage->digest_key_ = {random_u64(), random_u64()};
  storage->drives_.push_back({"memory", storage->memory_bytes_, true});
  return storage;
}

uint64_t Storage::raw_bytes() const {
  uint64_t bytes = 0;
  for (const DriveInfo& drive : drives_) bytes += drive.present ? drive.bytes : 0;
  return bytes;
}

/// Size of one shard's slice on one drive.
uint64_t Storage::shard_bytes(uint32_t drive_index) const {
  MEMKV_ASSERT(drive_index < drives_.size());
  if (memory_mode()) return slice_bytes_;
  return drives_[drive_index].present ? volume_->superblock_of(drive_index).slice_bytes : 0;
}

uint64_t Storage::fitting_bytes(uint32_t drive_index, uint64_t block_bytes) const {
  if (!drives_[drive_index].present) return 0;
  const uint64_t segment = memory_mode() ? segment_bytes_ : volume_->superblock_of(drive_index).segment_bytes;
  return shard_count_ * format::fitting_bytes(shard_bytes(drive_index), segment, block_bytes, format::kFitBatch);
}

uint64_t Storage::index_bytes(uint64_t index_block_bytes) const {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < drives_.size(); i++) bytes += shard_bytes(i);
  return shard_count_ * index_entries(bytes, index_block_bytes) * kIndexEntryBytes;
}

std::vector<std::string> Storage::missing() const {
  return volume_ != nullptr ? volume_->missing() : std::vector<std::string>{};
}

Result<uint64_t, Message> Storage::namespace_id(const std::string& name) {
  if (volume_ == nullptr) return random_u64() | 1;
  auto id = volume_->namespace_id(name);
  if (id) return *id;
  return Message{id.error().status,
                 fmt::format("namespace {}: {} ({})", name, id.error().what, to_string(id.error().status))};
}

Result<void> Storage::take_out(uint32_t drive_index) {
  if (volume_ == nullptr) return Error{Status::kInvalid, 0, "memory has no members"};
  return volume_->take_out(drive_index);
}

void Storage::plan(shard::Worker& worker, const std::vector<uint32_t>& shards, const ShardMemory& memory,
                   void (*on_drive_out)(void*, uint8_t, const char*), void* context) {
  const auto drive_count = static_cast<uint32_t>(drives_.size());
  std::vector<io::BlockDevice*> devices(drive_count, nullptr);
  for (uint32_t i = 0; i < drive_count; i++) {
    std::unique_ptr<io::BlockDevice> device;
    if (memory_mode()) {
      device = io::make_memory_device(worker.reactor(), memory_, /*with_views=*/true);
    } else if (io::DriveFile* file = volume_->drive(i)) {
      device = file->bind(worker.reactor());
    }
    devices[i] = device.get();
    if (device != nullptr) worker.stores().keep(std::move(device));
  }
  for (const uint32_t number : shards) {
    MEMKV_ASSERT(number < shard_count_);
    shard::ShardPlan plan;
    plan.number = number;
    engine::StoreOptions& store = plan.options;
    std::memcpy(store.store_id, store_id_.data(), store_id_.size());
    store.shard = number;
    store.memory_mode = memory_mode();
    store.stripe_width = memory_mode() ? 1 : volume_->superblock().stripe_width;
    store.on_drive_out = on_drive_out;
    store.on_drive_out_context = context;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < drive_count; i++) {
      engine::DriveSlice slice;
      slice.device = devices[i];
      slice.drive_index = static_cast<uint8_t>(i);
      if (memory_mode()) {
        slice.offset_bytes = format::kSlicesOffset + number * slice_bytes_;
        slice.size_bytes = slice_bytes_;
        slice.segment_bytes = segment_bytes_;
      } else if (devices[i] != nullptr) {
        slice.offset_bytes = volume_->slice_offset(i, number);
        slice.size_bytes = volume_->superblock_of(i).slice_bytes;
        slice.segment_bytes = volume_->superblock_of(i).segment_bytes;
        slice.life = volume_->superblock_of(i).life;
        slice.dsync = devices[i]->info().volatile_cache;
      }
      bytes += slice.size_bytes;
      store.slices.push_back(slice);
    }
    store.index_entries_max = index_entries(bytes, memory.index_block_bytes);
    store.tier_bytes = memory.tier_bytes;
    worker.stores().plan(std::move(plan));
  }
}

}  // namespace memkv::server
