/// How fast a store opens: entries a second, the memory that recovery takes for each, and the time beside that of
/// reading the same bytes bare. The store is a real one, made by puts of 64 bytes, on sparse files in the folder of
/// temporary files (TMPDIR): ten million blocks take about 3 GB of it.

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/checksum.h"
#include "base/chunk_seed.h"
#include "engine/store.h"
#include "format/layout.h"
#include "io/huge_memory.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kNamespace = 77;
constexpr uint32_t kBlockBytes = 64;
constexpr uint64_t kEntriesOfSegment = 12'000;  // a footer has room for a few more
constexpr size_t kPutsAtOnce = 2048;
constexpr uint64_t kBareReadBytes = 1 << 20;

/// A read that the store asked for.
struct Piece {
  uint64_t offset, bytes;
};

/// Passes all on to another device, and remembers the reads.
class WatchedDevice final : public io::BlockDevice {
 public:
  explicit WatchedDevice(std::unique_ptr<io::BlockDevice> below) : below_(std::move(below)) {}
  const io::DeviceInfo& info() const override { return below_->info(); }
  Result<void> read(io::IoOp& op, uint64_t offset, std::span<const iovec> pieces) override {
    auto begun = below_->read(op, offset, pieces);
    if (begun) reads.push_back({offset, pieces[0].iov_len});
    return begun;
  }
  Result<void> write(io::IoOp& op, uint64_t offset, std::span<const iovec> pieces, bool dsync) override {
    return below_->write(op, offset, pieces, dsync);
  }
  Result<void> sync(io::IoOp& op) override { return below_->sync(op); }
  const io::DriveLoad* load() const override { return below_->load(); }

  std::vector<Piece> reads;

 private:
  std::unique_ptr<io::BlockDevice> below_;
};

/// One put of many that are under way.
struct Put {
  PutOp op;
  std::string key;
  std::byte* memory = static_cast<std::byte*>(std::aligned_alloc(base::kSectorBytes, 3 * base::kSectorBytes));
  uint64_t sum = 0;
  bool under_way = false;
  ~Put() { std::free(memory); }
};

/// Files with a store of so many blocks on them, made once.
class Filled {
 public:
  Filled(uint64_t entries, size_t drives) : entries_(entries) {
    std::string name = (std::filesystem::temp_directory_path() / "memkv-recovery-XXXXXX").string();
    MEMKV_ASSERT(mkdtemp(name.data()) != nullptr);
    folder_ = name;
    const uint64_t segments = (entries / drives / kEntriesOfSegment + 8) * 5 / 4;
    const uint64_t bytes = format::kSlicesOffset + format::segment_offset(format::segment_bytes_for(32), segments);
    layout_ = *format::choose_layout(bytes, 1);
    for (size_t d = 0; d < drives; ++d) {
      const std::string path = (folder_ / std::to_string(d)).string();
      const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
      MEMKV_ASSERT(fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0);
      ::close(fd);
      files_.push_back(std::move(io::DriveFile::open(path, {.power_loss_protected = true})).value());
    }
    make();
    fill();
    finish(&Store::close);
    destroy();
  }
  ~Filled() {
    destroy();
    files_.clear();
    std::filesystem::remove_all(folder_);
  }

  /// A store whose files hold nothing in the kernel's memory, and that is not open yet.
  void make() {
    reactor_ = std::move(io::make_reactor({}, nullptr)).value();
    StoreOptions o;
    std::memset(o.store_id, 7, sizeof o.store_id);
    o.index_entries_max = entries_ + entries_ / 8 + 1000;
    for (size_t d = 0; d < files_.size(); ++d) {
      devices_.push_back(std::make_unique<WatchedDevice>(files_[d]->bind(*reactor_)));
      DriveSlice s;
      s.device = devices_.back().get();
      s.drive_index = static_cast<uint8_t>(d);
      s.offset_bytes = format::kSlicesOffset;
      s.size_bytes = layout_.slice_bytes;
      s.segment_bytes = layout_.segment_bytes;
      o.slices.push_back(s);
    }
    store_ = Store::make(*reactor_, o);
    if (!filled_) finish(&Store::open);
  }
  void finish(void (Store::*step)(StoreOp&)) {
    StoreOp op;
    bool done = false;
    op.context = &done;
    op.on_done = [](StoreOp& o) { *static_cast<bool*>(o.context) = true; };
    (store_.get()->*step)(op);
    while (!done) reactor_->run_once(1'000'000);
    MEMKV_ASSERT(op.status == Status::kOk);
  }
  void destroy() {
    store_.reset();
    devices_.clear();
    reactor_.reset();
  }
  Store& store() { return *store_; }
  std::vector<std::unique_ptr<WatchedDevice>>& devices() { return devices_; }
  int fd(size_t drive) const { return files_[drive]->fd(); }

 private:
  void fill() {
    std::vector<Put> puts(kPutsAtOnce);
    uint64_t next = 0;
    const auto under_way = [](const Put& p) { return p.under_way; };
    while (next < entries_ || std::any_of(puts.begin(), puts.end(), under_way)) {
      for (Put& p : puts) {
        if (!p.under_way && next < entries_) start(p, next++);
      }
      reactor_->run_once(1'000'000);
    }
    filled_ = true;
  }
  void start(Put& p, uint64_t number) {
    p.key = "block-" + std::to_string(number);
    std::byte* const payload = p.memory + base::kSectorBytes;
    base::grain_sums({payload, kBlockBytes}, base::chunk_seed(kNamespace, p.key, 0), &p.sum);
    p.op = {};
    p.op.key = {digest_of({1, 2}, kNamespace, p.key), kNamespace, p.key};
    p.op.payload = {payload, kBlockBytes, &p.sum};
    p.op.context = &p;
    p.op.on_done = [](StoreOp& o) {
      MEMKV_ASSERT(o.status == Status::kOk);
      static_cast<Put*>(o.context)->under_way = false;
    };
    p.under_way = true;
    store_->put(p.op);
  }

  const uint64_t entries_;
  std::filesystem::path folder_;
  format::Layout layout_;
  std::unique_ptr<io::Reactor> reactor_;
  std::vector<std::unique_ptr<io::DriveFile>> files_;
  std::vector<std::unique_ptr<WatchedDevice>> devices_;
  std::unique_ptr<Store> store_;
  bool filled_ = false;
};

/// A line of /proc/self/status, in bytes.
uint64_t memory_line(const std::string& name) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::stoull(line.substr(name.size() + 1)) * 1024;
  }
  return 0;
}

double seconds_since(std::chrono::steady_clock::time_point begun) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

/// Of this process: on a busy machine the clock tells less.
double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// Reads what the store read, in its order of places, with large reads one after another.
double bare_seconds(Filled& filled, const std::vector<std::vector<Piece>>& all) {
  auto buffer = io::HugeMemory::make(kBareReadBytes, true);
  MEMKV_ASSERT(buffer.ok());
  const auto begun = std::chrono::steady_clock::now();
  for (size_t d = 0; d < all.size(); ++d) {
    for (const Piece& piece : all[d]) {
      for (uint64_t at = 0; at < piece.bytes; at += kBareReadBytes) {
        const uint64_t bytes = std::min(kBareReadBytes, piece.bytes - at);
        MEMKV_ASSERT(pread(filled.fd(d), buffer->data(), bytes, static_cast<off_t>(piece.offset + at)) > 0);
      }
    }
  }
  return seconds_since(begun);
}

/// Reads side by side as one.
std::vector<Piece> joined(std::vector<Piece> reads) {
  std::sort(reads.begin(), reads.end(), [](const Piece& a, const Piece& b) { return a.offset < b.offset; });
  std::vector<Piece> out;
  for (const Piece& r : reads) {
    if (!out.empty() && r.offset <= out.back().offset + out.back().bytes)
      out.back().bytes = std::max(out.back().bytes, r.offset + r.bytes - out.back().offset);
    else
      out.push_back(r);
  }
  return out;
}

Filled& filled(uint64_t entries, size_t drives) {
  static std::map<std::pair<uint64_t, size_t>, std::unique_ptr<Filled>> made;
  auto& one = made[{entries, drives}];
  if (!one) one = std::make_unique<Filled>(entries, drives);
  return *one;
}

void open_store(benchmark::State& state) {
  const auto entries = static_cast<uint64_t>(state.range(0));
  Filled& files = filled(entries, static_cast<size_t>(state.range(1)));
  uint64_t transient = 0, reads = 0, bytes = 0;
  double open_s = 0, cpu_s = 0, bare_s = 0;
  for (auto _ : state) {
    files.make();
    malloc_trim(0);
    const uint64_t before = memory_line("VmRSS");
    std::ofstream("/proc/self/clear_refs") << "5";  // VmHWM starts again
    const double cpu_begun = cpu_seconds();
    const auto begun = std::chrono::steady_clock::now();
    files.finish(&Store::open);
    const double seconds = seconds_since(begun);
    cpu_s += cpu_seconds() - cpu_begun;
    transient = std::max(transient, memory_line("VmHWM") - before);
    MEMKV_ASSERT(files.store().counters().blocks == entries);
    std::vector<std::vector<Piece>> all;
    reads = bytes = 0;
    for (const auto& device : files.devices()) {
      reads += device->reads.size();
      for (const Piece& r : device->reads) bytes += r.bytes;
      all.push_back(joined(device->reads));
    }
    bare_s += bare_seconds(files, all);
    open_s += seconds;
    state.SetIterationTime(seconds);
    files.finish(&Store::close);
    files.destroy();
  }
  const auto n = static_cast<double>(entries);
  state.counters["entries/s"] = n * static_cast<double>(state.iterations()) / open_s;
  state.counters["entries/CPU s"] = n * static_cast<double>(state.iterations()) / cpu_s;
  state.counters["memory/entry"] = static_cast<double>(transient) / n;
  state.counters["reads"] = static_cast<double>(reads);
  state.counters["read bytes/entry"] = static_cast<double>(bytes) / n;
  state.counters["over bare read"] = open_s / bare_s;
}

BENCHMARK(open_store)
    ->Args({300'000, 1})
    ->Args({1'000'000, 1})
    ->Args({1'000'000, 4})
    ->Args({10'000'000, 1})
    ->UseManualTime()
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace memkv::engine
