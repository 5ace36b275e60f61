#pragma once
/// For tests: a store over images in memory, on a simulated reactor. Its methods run one operation after another.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/checksum.h"
#include "base/chunk_seed.h"
#include "base/random.h"
#include "engine/store.h"
#include "format/layout.h"
#include "io/faulty_device.h"
#include "io/sim_reactor.h"

namespace memkv::engine {

inline constexpr uint64_t kNamespace = 77;
inline constexpr base::SipKey kSecret{1, 2};
inline constexpr uint64_t kMi = 1 << 20;

struct Slot {
  explicit Slot(size_t bytes = base::kChunkBytes) {
    memory = static_cast<std::byte*>(std::aligned_alloc(4096, base::align_up(bytes, 4096) + 8192));
    data = memory + 4096;
  }
  ~Slot() { std::free(memory); }
  std::byte* memory;
  std::byte* data;
};

inline std::string bytes_of(std::string_view key, uint64_t version, size_t size) {
  std::string out(size, 0);
  base::Random random(base::xxh3(base::as_bytes(key), version));
  random.fill({reinterpret_cast<std::byte*>(out.data()), size});
  return out;
}

enum class RigKind { kFaulty, kMemory, kFile };

class Rig {
 public:
  uint64_t index_entries_max = 20000;  ///< takes effect at the next open()
  uint64_t tier_bytes = 0;             ///< likewise
  /// `on_memory`: memory mode instead of faulty devices.
  Rig(int drives, uint64_t drive_bytes, bool on_memory = false)
      : Rig(drives, drive_bytes, on_memory ? RigKind::kMemory : RigKind::kFaulty) {}
  Rig(int drives, uint64_t drive_bytes, RigKind kind) : kind_(kind), drive_bytes_(drive_bytes) {
    if (kind == RigKind::kFile) {
      auto reactor = io::make_reactor({.kind = io::ReactorKind::kEpoll, .ops_max = 512, .device_threads = 2}, nullptr);
      reactor_ = std::move(reactor).value();
      for (int d = 0; d < drives; ++d) add_file(d);
    } else {
      reactor_ = std::make_unique<io::SimReactor>();
      for (int d = 0; d < drives; ++d) images_.push_back(io::make_memory_storage(drive_bytes));
    }
    open();
  }
  ~Rig() {
    close();
    devices_.clear();
    files_.clear();
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  void open() { ASSERT_EQ(try_open(), Status::kOk); }
  Status try_open() {
    store_.reset();
    devices_.clear();
    StoreOptions o;
    std::memset(o.store_id, 7, sizeof o.store_id);
    o.index_entries_max = index_entries_max;
    o.tier_bytes = tier_bytes;
    o.memory_mode = kind_ == RigKind::kMemory;
    o.on_drive_out = on_drive_out_;
    o.on_drive_out_context = on_drive_out_context_;
    const auto layout = format::choose_layout(drive_bytes_, 1);
    for (size_t d = 0; d < std::max(images_.size(), files_.size()); ++d) {
      if (kind_ == RigKind::kMemory)
        devices_.push_back(io::make_memory_device(*reactor_, images_[d], true));
      else if (kind_ == RigKind::kFile)
        devices_.push_back(files_[d]->bind(*reactor_));
      else
        devices_.push_back(std::make_unique<io::FaultyDevice>(*reactor_, images_[d], plan_, ++seed_));
      DriveSlice s;
      if ((missing_ >> d & 1) == 0) s.device = devices_.back().get();
      s.drive_index = static_cast<uint8_t>(d);
      s.offset_bytes = format::kSlicesOffset;
      s.size_bytes = layout->slice_bytes;
      s.segment_bytes = layout->segment_bytes;
      s.life = life_[d];
      s.dsync = dsync_;
      o.slices.push_back(s);
    }
    if (before_open_) before_open_(*this);
    store_ = Store::make(*reactor_, o);
    StoreOp op;
    return run(op, [&] { store_->open(op); });
  }
  void close() {
    if (!store_) return;
    StoreOp op;
    EXPECT_EQ(run(op, [&] { store_->close(op); }), Status::kOk);
    EXPECT_EQ(store_->ops_in_flight(), 0u);
    store_.reset();
  }
  void reopen() {
    close();
    open();
  }
  void power_cut() {
    for (size_t d = 0; d < devices_.size(); ++d) device(d).power_cut();
    reactor().run_until_idle();
  }
  void power_cut_and_open() {
    power_cut();
    open();
  }
  io::FaultyDevice& device(size_t d) { return static_cast<io::FaultyDevice&>(*devices_[d]); }

  Status run(StoreOp& op, auto&& start) {
    bool done = false;
    op.context = &done;
    op.on_done = [](StoreOp& o) { *static_cast<bool*>(o.context) = true; };
    start();
    EXPECT_FALSE(done) << "completed inside the call";
    for (int turns = 0; !done && turns < kTurnsMax; ++turns) reactor_->run_once(1'000'000);
    EXPECT_TRUE(done);
    return op.status;
  }

  BlockKey key(const std::string& k) { return {digest_of(kSecret, kNamespace, k), kNamespace, k}; }

  Status put(const std::string& k, const std::string& bytes, bool if_absent = false) {
    Slot slot(bytes.size());
    std::memcpy(slot.data, bytes.data(), bytes.size());
    std::vector<uint64_t> sums(base::grain_count(bytes.size()));
    base::grain_sums({slot.data, bytes.size()}, base::chunk_seed(kNamespace, k, 0), sums.data());
    PutOp op;
    op.key = key(k);
    op.payload = {slot.data, static_cast<uint32_t>(bytes.size()), sums.data()};
    op.if_absent = if_absent;
    return run(op, [&] { store_->put(op); });
  }

  Status put_large(const std::string& k, const std::string& bytes) {
    Upload upload;
    upload.key = key(k);
    if (const Status s = store_->begin(upload, bytes.size(), false, false); s != Status::kOk) return s;
    for (uint32_t n = 0; n * base::kChunkBytes < bytes.size(); ++n) {
      const size_t size = std::min<size_t>(base::kChunkBytes, bytes.size() - n * base::kChunkBytes);
      Slot slot;
      std::memcpy(slot.data, bytes.data() + n * base::kChunkBytes, size);
      std::vector<uint64_t> sums(base::grain_count(size));
      base::grain_sums({slot.data, size}, base::chunk_seed(kNamespace, k, n), sums.data());
      ChunkOp op;
      op.upload = &upload;
      op.chunk_number = n;
      op.payload = {slot.data, static_cast<uint32_t>(size), sums.data()};
      if (const Status s = run(op, [&] { store_->put_chunk(op); }); s != Status::kOk) return s;
    }
    CommitOp op;
    op.upload = &upload;
    return run(op, [&] { store_->commit(op); });
  }

  /// A range write as an upload, with partial chunks at both ends.
  Status write_large(const std::string& k, uint64_t offset, const std::string& bytes) {
    Upload upload;
    upload.key = key(k);
    if (const Status s = store_->begin(upload, offset + bytes.size(), false, true); s != Status::kOk) return s;
    for (uint64_t done = 0; done < bytes.size();) {
      const uint64_t at = offset + done;
      const uint64_t size = std::min<uint64_t>(bytes.size() - done, base::kChunkBytes - at % base::kChunkBytes);
      if (const Status s = put_part(upload, k, at, {bytes.data() + done, size}); s != Status::kOk) return s;
      done += size;
    }
    CommitOp op;
    op.upload = &upload;
    return run(op, [&] { store_->commit(op); });
  }
  Status put_part(Upload& upload, const std::string& k, uint64_t at, std::string_view bytes) {
    Slot slot;
    std::memcpy(slot.data, bytes.data(), bytes.size());
    ChunkOp op;
    op.upload = &upload;
    op.chunk_number = static_cast<uint32_t>(at / base::kChunkBytes);
    op.offset_in_chunk = static_cast<uint32_t>(at % base::kChunkBytes);
    std::vector<uint64_t> sums(base::grain_count(bytes.size()));
    base::grain_sums({slot.data, bytes.size()}, base::chunk_seed(kNamespace, k, op.chunk_number), sums.data());
    op.payload = {slot.data, static_cast<uint32_t>(bytes.size()), sums.data()};
    return run(op, [&] { store_->put_chunk(op); });
  }

  Status write(const std::string& k, uint64_t offset, const std::string& bytes) {
    Slot slot;
    std::memcpy(slot.data, bytes.data(), bytes.size());
    WriteOp op;
    op.key = key(k);
    op.offset = offset;
    op.payload = {slot.data, static_cast<uint32_t>(bytes.size()), nullptr};
    return run(op, [&] { store_->write(op); });
  }

  Status get_unit(const std::string& k, uint64_t offset, uint32_t length, std::string& out, uint64_t* block = nullptr) {
    out.clear();
    const Lookup found = store_->lookup(key(k), offset, length, 0);
    if (found.status != Status::kOk) return found.status;
    Slot slot(found.buffer_bytes + 8192);
    ReadOp op;
    op.key = key(k);
    op.offset = offset;
    op.length = length;
    op.buffer = slot.data;
    op.buffer_bytes = found.buffer_bytes;
    const Status status = run(op, [&] { store_->read(op); });
    if (status != Status::kOk) return status;
    if (block != nullptr) *block = op.block_bytes;
    EXPECT_EQ(op.bytes, found.bytes);
    out.assign(reinterpret_cast<const char*>(op.data), op.bytes);
    check_sums(op, k, offset);
    store_->release(op);
    return status;
  }

  void check_sums(const ReadOp& op, const std::string& k, uint64_t offset) {
    if (op.bytes == 0) return;
    const uint64_t seed = base::chunk_seed(kNamespace, k, static_cast<uint32_t>(offset / base::kChunkBytes));
    const uint64_t at = offset % base::kChunkBytes;
    if (op.whole_chunk) {
      EXPECT_EQ(base::chunk_checksum_of({op.data, op.bytes}, seed), op.sums[0]);
      return;
    }
    size_t piece = 0;
    for (uint64_t from = at; from < at + op.bytes; ++piece) {
      const uint64_t g = from / base::kGrainBytes;
      const uint64_t to = std::min<uint64_t>((g + 1) * base::kGrainBytes, at + op.bytes);
      EXPECT_EQ(base::xxh3({op.data + (from - at), to - from}, seed + g), op.sums[piece]) << k << " piece " << piece;
      from = to;
    }
    EXPECT_EQ(piece, op.sum_count);
  }

  /// Reads the whole block, unit by unit. Returns the status of the first unit that is not ok.
  Status get(const std::string& k, std::string& out) {
    uint64_t block = 0;
    out.clear();
    for (uint64_t at = 0;;) {
      std::string unit;
      const auto want = static_cast<uint32_t>(base::kChunkBytes - at % base::kChunkBytes);
      if (const Status s = get_unit(k, at, want, unit, &block); s != Status::kOk) return s;
      out += unit;
      at += want;
      if (unit.size() < want || out.size() >= block) return Status::kOk;
    }
  }
  void expect(const std::string& k, const std::string& bytes) {
    std::string out;
    ASSERT_EQ(get(k, out), Status::kOk) << k;
    ASSERT_TRUE(out == bytes) << k << " size " << bytes.size();
  }
  Status remove(const std::string& k) {
    RemoveOp op;
    op.key = key(k);
    return run(op, [&] { store_->remove(op); });
  }
  Store& store() { return *store_; }
  io::SimReactor& reactor() { return static_cast<io::SimReactor&>(*reactor_); }
  io::Reactor& any_reactor() { return *reactor_; }
  RigKind kind() const { return kind_; }
  uint64_t capacity() const { return drive_bytes_ * std::max(images_.size(), files_.size()); }
  const std::shared_ptr<io::MemoryStorage>& image(size_t d) const { return images_[d]; }
  // These take effect at the next open().
  io::FaultPlan plan_;
  uint64_t seed_ = 1;
  void (*on_drive_out_)(void*, uint8_t, const char*) = nullptr;  ///< from the next open() on
  void* on_drive_out_context_ = nullptr;
  uint64_t missing_ = 0;                             ///< bitmap of drives without which the store is opened
  std::array<uint64_t, format::kDrivesMax> life_{};  ///< of each drive
  bool dsync_ = false;
  std::function<void(Rig&)> before_open_;  ///< runs when the devices exist

  static constexpr int kTurnsMax = 1'000'000;

 private:
  void add_file(int d) {
    if (folder_.empty()) {
      std::string name = (std::filesystem::temp_directory_path() / "memkv-rig-XXXXXX").string();
      EXPECT_NE(mkdtemp(name.data()), nullptr);
      folder_ = name;
    }
    const std::string path = (folder_ / std::to_string(d)).string();
    EXPECT_TRUE(io::create_drive_file(path, drive_bytes_, nullptr, nullptr).ok());
    files_.push_back(std::move(io::DriveFile::open(path, {})).value());
  }

  RigKind kind_;
  uint64_t drive_bytes_;
  std::unique_ptr<io::Reactor> reactor_;
  std::filesystem::path folder_;
  std::vector<std::unique_ptr<io::DriveFile>> files_;
  std::vector<std::shared_ptr<io::MemoryStorage>> images_;
  std::vector<std::unique_ptr<io::BlockDevice>> devices_;
  std::unique_ptr<Store> store_;
};

/// A put that can stay under way while the test goes on.
struct PreparedPut {
  PreparedPut(Rig& owner, std::string name, uint64_t version, size_t size)
      : rig(owner), key(std::move(name)), bytes(bytes_of(key, version, size)), slot(size) {
    std::memcpy(slot.data, bytes.data(), size);
    base::grain_sums({slot.data, size}, base::chunk_seed(kNamespace, key, 0), sums.data());
    op.key = rig.key(key);
    op.payload = {slot.data, static_cast<uint32_t>(size), sums.data()};
    op.context = &done;
    op.on_done = [](StoreOp& o) { ++*static_cast<int*>(o.context); };
  }
  void start() { rig.store().put(op); }
  bool acknowledged() const { return done > 0 && op.status == Status::kOk; }

  Rig& rig;
  std::string key, bytes;
  Slot slot;
  std::array<uint64_t, base::grain_count(base::kChunkBytes)> sums{};
  PutOp op;
  int done = 0;  ///< how often it completed
};

/// A put that is under way from the start.
struct PendingPut : PreparedPut {
  PendingPut(Rig& owner, std::string name, uint64_t version, size_t size)
      : PreparedPut(owner, std::move(name), version, size) {
    start();
  }
};

/// Puts so many blocks of 100 bytes, many at a time, so that they share extents.
inline void put_many(Rig& rig, size_t count, const std::string& prefix = "key") {
  constexpr size_t kAtOnce = 200;
  for (size_t i = 0; i < count;) {
    std::list<PendingPut> batch;
    for (; batch.size() < kAtOnce && i < count; ++i) batch.emplace_back(rig, prefix + std::to_string(i), 1, 100);
    const auto waits = [](const PendingPut& p) { return !p.acknowledged(); };
    while (std::any_of(batch.begin(), batch.end(), waits)) rig.reactor().run_once(1'000'000);
  }
}

}  // namespace memkv::engine
