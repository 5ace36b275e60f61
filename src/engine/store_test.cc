/// The store over an in-memory image: round trips, restarts, a log that wraps, power cuts. Operations run one after
/// another on a simulated reactor.

#include "engine/store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/checksum.h"
#include "base/chunk_seed.h"
#include "base/random.h"
#include "engine/layout.h"
#include "io/faulty_device.h"
#include "io/sim_reactor.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kNamespace = 77;
constexpr base::SipKey kSecret{1, 2};
constexpr uint64_t kMi = 1 << 20;

struct Slot {
  explicit Slot(size_t bytes = base::kChunkBytes) {
    memory = static_cast<std::byte*>(std::aligned_alloc(4096, base::align_up(bytes, 4096) + 8192));
    data = memory + 4096;
  }
  ~Slot() { std::free(memory); }
  std::byte* memory;
  std::byte* data;
};

std::string bytes_of(std::string_view key, uint64_t version, size_t size) {
  std::string out(size, 0);
  base::Random random(base::xxh3(base::as_bytes(key), version));
  random.fill({reinterpret_cast<std::byte*>(out.data()), size});
  return out;
}

class Rig {
 public:
  Rig(int drives, uint64_t drive_bytes, bool memory_mode = false)
      : memory_mode_(memory_mode), drive_bytes_(drive_bytes) {
    for (int d = 0; d < drives; ++d) images_.push_back(io::make_memory_storage(drive_bytes));
    open();
  }
  ~Rig() { close(); }

  void open() {
    devices_.clear();
    StoreOptions o;
    std::memset(o.store_id, 7, sizeof o.store_id);
    o.index_entries_max = 20000;
    o.memory_mode = memory_mode_;
    const auto layout = choose_layout(drive_bytes_, 1);
    for (size_t d = 0; d < images_.size(); ++d) {
      if (memory_mode_)
        devices_.push_back(io::make_memory_device(reactor_, images_[d], true));
      else
        devices_.push_back(std::make_unique<io::FaultyDevice>(reactor_, images_[d], plan_, ++seed_));
      DriveSlice s;
      s.device = devices_.back().get();
      s.drive_index = static_cast<uint8_t>(d);
      s.offset_bytes = kSlicesOffset;
      s.size_bytes = layout->slice_bytes;
      s.segment_bytes = layout->segment_bytes;
      o.slices.push_back(s);
    }
    store_ = Store::make(reactor_, o);
    StoreOp op;
    ASSERT_EQ(run(op, [&] { store_->open(op); }), Status::kOk);
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
  void power_cut_and_open() {
    for (size_t d = 0; d < devices_.size(); ++d) device(d).power_cut();
    store_.reset();
    open();
  }
  io::FaultyDevice& device(size_t d) { return static_cast<io::FaultyDevice&>(*devices_[d]); }

  Status run(StoreOp& op, auto&& start) {
    bool done = false;
    op.context = &done;
    op.on_done = [](StoreOp& o) { *static_cast<bool*>(o.context) = true; };
    start();
    EXPECT_FALSE(done) << "completed inside the call";
    reactor_.run_until([&] { return done; });
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

  /// The whole block, unit by unit; status of the first that is not ok.
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
  io::SimReactor& reactor() { return reactor_; }
  io::FaultPlan plan_;
  uint64_t seed_ = 1;

 private:
  io::SimReactor reactor_;
  bool memory_mode_;
  uint64_t drive_bytes_;
  std::vector<std::shared_ptr<io::MemoryStorage>> images_;
  std::vector<std::unique_ptr<io::BlockDevice>> devices_;
  std::unique_ptr<Store> store_;
};

const size_t kSizes[] = {0, 1, 4096, 65536, 65537, 549 * 1024, 2 * kMi - 1, 2 * kMi, 2 * kMi + 1, 8'262'779};

void put_all_sizes(Rig& rig) {
  for (const size_t size : kSizes) {
    const std::string k = "size" + std::to_string(size);
    const std::string bytes = bytes_of(k, 1, size);
    ASSERT_EQ(size > base::kChunkBytes ? rig.put_large(k, bytes) : rig.put(k, bytes), Status::kOk) << size;
  }
}

void check_all_sizes(Rig& rig) {
  for (const size_t size : kSizes) {
    const std::string k = "size" + std::to_string(size);
    const std::string bytes = bytes_of(k, 1, size);
    rig.expect(k, bytes);
    for (const uint64_t at : {size / 3, size / 2, size - std::min<size_t>(size, 5)}) {
      const auto want =
          static_cast<uint32_t>(std::min<uint64_t>({size - at, 100'000, base::kChunkBytes - at % base::kChunkBytes}));
      std::string out;
      ASSERT_EQ(rig.get_unit(k, at, want, out), Status::kOk) << size << " at " << at;
      ASSERT_EQ(out, bytes.substr(at, want)) << size << " at " << at;
    }
  }
}

TEST(Store, EverySizeAndRangeSurvivesARestart) {
  for (const int drives : {1, 3}) {
    Rig rig(drives, 256 * kMi);
    put_all_sizes(rig);
    check_all_sizes(rig);
    rig.reopen();
    check_all_sizes(rig);
  }
}

TEST(Store, MemoryModeReadsInPlace) {
  Rig rig(1, 256 * kMi, true);
  put_all_sizes(rig);
  check_all_sizes(rig);
  const Reservation room = rig.store().reserve(300'000);
  ASSERT_NE(room.data, nullptr);
  const std::string bytes = bytes_of("reserved", 1, 300'000);
  std::memcpy(room.data, bytes.data(), bytes.size());
  std::vector<uint64_t> sums(base::grain_count(bytes.size()));
  base::grain_sums({room.data, bytes.size()}, base::chunk_seed(kNamespace, "reserved", 0), sums.data());
  PutOp op;
  const std::string name = "reserved";
  op.key = rig.key(name);
  op.payload = {room.data, 300'000, sums.data()};
  ASSERT_EQ(rig.run(op, [&] { rig.store().put(op); }), Status::kOk);
  rig.expect("reserved", bytes);
  rig.store().abandon(rig.store().reserve(100'000));
}

TEST(Store, OverwriteRemoveIfAbsentAndListOverRestarts) {
  Rig rig(3, 128 * kMi);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 50; ++i) {
      const std::string k = "k" + std::to_string(i);
      const size_t size = 1 + base::mix64(static_cast<uint64_t>(round * 100 + i)) % 200'000;
      ASSERT_EQ(rig.put(k, bytes_of(k, static_cast<uint64_t>(round), size)), Status::kOk);
    }
    for (int i = 0; i < 50; i += 7) ASSERT_EQ(rig.remove("k" + std::to_string(i)), Status::kOk);
    rig.reopen();
    for (int i = 0; i < 50; ++i) {
      const std::string k = "k" + std::to_string(i);
      const size_t size = 1 + base::mix64(static_cast<uint64_t>(round * 100 + i)) % 200'000;
      std::string out;
      if (i % 7 == 0) {
        ASSERT_EQ(rig.get(k, out), Status::kMiss);
        ASSERT_EQ(rig.remove(k), Status::kMiss);
      } else {
        rig.expect(k, bytes_of(k, static_cast<uint64_t>(round), size));
        ASSERT_EQ(rig.put(k, "x", true), Status::kExists);
      }
    }
  }
  FlushOp flush;
  flush.namespace_id = kNamespace;
  ASSERT_EQ(rig.run(flush, [&] { rig.store().flush_namespace(flush); }), Status::kOk);
  rig.reopen();
  std::string out;
  for (int i = 0; i < 50; ++i) ASSERT_EQ(rig.get("k" + std::to_string(i), out), Status::kMiss);
}

TEST(Store, RangeWritesKeepHolesAndGrow) {
  Rig rig(2, 128 * kMi);
  const std::string k = "ranged";
  const std::string bytes = bytes_of(k, 1, 5 * kMi);
  ASSERT_EQ(rig.write(k, 1000, bytes.substr(1000, 500)), Status::kOk);
  std::string out;
  ASSERT_EQ(rig.get_unit(k, 0, 100, out), Status::kMiss);
  ASSERT_EQ(rig.get_unit(k, 1000, 500, out), Status::kOk);
  ASSERT_EQ(out, bytes.substr(1000, 500));
  ASSERT_EQ(rig.write(k, 3 * kMi, bytes.substr(3 * kMi, 2 * kMi - 1 * kMi)), Status::kOk);
  ASSERT_EQ(rig.get_unit(k, 2 * kMi, 100, out), Status::kMiss);
  rig.reopen();
  ASSERT_EQ(rig.get_unit(k, 1000, 500, out), Status::kOk);
  ASSERT_EQ(out, bytes.substr(1000, 500));
  ASSERT_EQ(rig.write(k, 0, bytes.substr(0, 2 * kMi)), Status::kOk);
  ASSERT_EQ(rig.write(k, 2 * kMi, bytes.substr(2 * kMi, kMi)), Status::kOk);
  ASSERT_EQ(rig.write(k, 4 * kMi, bytes.substr(4 * kMi)), Status::kOk);
  rig.expect(k, bytes);
  rig.reopen();
  rig.expect(k, bytes);
  for (const auto& name : {"small", "grown"}) {
    ASSERT_EQ(rig.put(name, bytes_of(name, 1, 10'000)), Status::kOk);
  }
  ASSERT_EQ(rig.write("small", 5'000, bytes_of("x", 1, 2'000)), Status::kOk);
  std::string expected = bytes_of("small", 1, 10'000);
  expected.replace(5'000, 2'000, bytes_of("x", 1, 2'000));
  rig.expect("small", expected);
}

TEST(Store, ThreeTimesTheCapacityKeepsWhatIsRead) {
  for (const bool memory : {false, true}) {
    Rig rig(2, 64 * kMi, memory);
    const std::string hot = bytes_of("hot", 1, 700'000);
    ASSERT_EQ(rig.put("hot", hot), Status::kOk);
    uint64_t written = 0;
    for (int i = 0; written < 400 * kMi; ++i) {
      const std::string k = "fill" + std::to_string(i);
      const size_t size = i % 3 == 0 ? 1'900'000 : i % 3 == 1 ? 4096 : 300'000;
      ASSERT_EQ(rig.put(k, bytes_of(k, 1, size)), Status::kOk) << "after " << written;
      written += size;
      if (i % 8 == 0) rig.expect("hot", hot);
    }
    const StoreCounters& c = rig.store().counters();
    EXPECT_GT(c.dropped_evicted, 0u);
    EXPECT_LE(c.bytes_used, c.bytes_usable);
    if (memory) continue;
    rig.reopen();
    rig.expect("hot", hot);
  }
}

TEST(Store, AFullLogOfSmallHotBlocksStillTakesLargeOnes) {
  Rig rig(1, 128 * kMi);
  int n = 0;
  for (const size_t size : {size_t{4096}, size_t{65536}, size_t{1} << 20}) {
    for (uint64_t at = 0; at < 32 * kMi; at += size, ++n) {
      const std::string k = "k" + std::to_string(n);
      const std::string bytes = bytes_of(k, 1, size);
      ASSERT_EQ(rig.put(k, bytes), Status::kOk);
      rig.expect(k, bytes);
    }
  }
  for (int i = 0; i < 30; ++i) {
    const std::string k = "large" + std::to_string(i);
    ASSERT_EQ(rig.put_large(k, bytes_of(k, 1, 4 * kMi)), Status::kOk) << i;
  }
}

TEST(Store, PowerCutsLoseNothingAcknowledged) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    Rig rig(2, 96 * kMi);
    rig.plan_.latency_ns_max = 300'000;
    rig.seed_ = seed * 1000;
    rig.reopen();
    base::Random random(seed);
    std::map<std::string, std::vector<std::string>> may_be;
    for (int round = 0; round < 4; ++round) {
      for (int i = 0; i < 40; ++i) {
        const std::string k = "k" + std::to_string(random.below(12));
        const std::string bytes = bytes_of(k, random.next_u64(), random.below(300'000));
        ASSERT_EQ(rig.put(k, bytes), Status::kOk);
        may_be[k] = {bytes};
      }
      // One more change is cut in the middle.
      auto slot = std::make_unique<Slot>();
      const std::string k = "k" + std::to_string(random.below(12));
      const std::string bytes = bytes_of(k, random.next_u64(), random.below(1'000'000));
      std::memcpy(slot->data, bytes.data(), bytes.size());
      std::vector<uint64_t> sums(base::grain_count(bytes.size()));
      base::grain_sums({slot->data, bytes.size()}, base::chunk_seed(kNamespace, k, 0), sums.data());
      PutOp op;
      op.key = rig.key(k);
      op.payload = {slot->data, static_cast<uint32_t>(bytes.size()), sums.data()};
      op.on_done = [](StoreOp&) {};
      rig.store().put(op);
      may_be[k].push_back(bytes);
      rig.reactor().advance(random.below(300'000));
      rig.power_cut_and_open();
      for (auto& [name, versions] : may_be) {
        std::string out;
        ASSERT_EQ(rig.get(name, out), Status::kOk) << "seed " << seed << " round " << round << " " << name;
        ASSERT_TRUE(std::find(versions.begin(), versions.end(), out) != versions.end())
            << "seed " << seed << " " << name;
        versions = {out};
      }
    }
  }
}

}  // namespace
}  // namespace memkv::engine
