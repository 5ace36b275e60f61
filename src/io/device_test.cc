/// The contract of BlockDevice, run on files, on memory and on a faulty device without faults. Then come the properties
/// that each has alone.

#include "io/device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <list>
#include <string>
#include <thread>
#include <vector>

#include "base/random.h"
#include "base/unique_fd.h"
#include "io/faulty_device.h"
#include "io/sim_reactor.h"
#include "io/test_ops.h"

namespace memkv::io {
namespace {

constexpr uint64_t kSize = 1 << 20;

struct TemporaryFolder {
  std::string path = ::testing::TempDir() + "/memkv-drive-XXXXXX";
  TemporaryFolder() { EXPECT_NE(mkdtemp(path.data()), nullptr); }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  std::string file(const std::string& name) const { return path + "/" + name; }
};

std::string create(const TemporaryFolder& folder, uint64_t size = kSize) {
  const std::string path = folder.file("drive");
  auto created = create_drive_file(path, size, nullptr, nullptr);
  EXPECT_TRUE(created) << created.error().text;
  return path;
}

/// A device of each kind, and the loop that it needs.
struct Bench {
  TemporaryFolder folder;
  std::unique_ptr<Reactor> reactor;
  std::unique_ptr<DriveFile> drive;
  std::unique_ptr<BlockDevice> device;

  explicit Bench(const std::string& kind) {
    if (kind.starts_with("file")) {
      auto made = make_reactor({.kind = kind == "file_epoll" ? ReactorKind::kEpoll : ReactorKind::kAuto}, nullptr);
      reactor = std::move(made).value();
      auto opened = DriveFile::open(create(folder), {});
      EXPECT_TRUE(opened) << opened.error().text;
      drive = std::move(opened).value();
      device = drive->bind(*reactor);
      return;
    }
    reactor = std::make_unique<SimReactor>();
    auto storage = make_memory_storage(kSize);
    if (kind == "memory") device = make_memory_device(*reactor, storage, true);
    if (kind == "faulty")
      device = std::make_unique<FaultyDevice>(*reactor, storage, FaultPlan{.latency_ns_max = 1000}, 1);
  }
  int32_t wait(TestOp& op, int count = 1) {
    for (int i = 0; i < 10'000 && op.count < count; i++) reactor->run_once(1'000'000);
    EXPECT_EQ(op.count, count);
    return op.result;
  }
  int32_t write(uint64_t offset, AlignedBytes& bytes, bool dsync = true) {
    TestOp op;
    const iovec from = bytes.piece();
    EXPECT_TRUE(device->write(op.op, offset, {&from, 1}, dsync));
    return wait(op);
  }
  int32_t read(uint64_t offset, AlignedBytes& bytes) {
    TestOp op;
    const iovec into = bytes.piece();
    EXPECT_TRUE(device->read(op.op, offset, {&into, 1}));
    return wait(op);
  }
};

class BlockDeviceContract : public ::testing::TestWithParam<const char*> {
 protected:
  Bench bench{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(All, BlockDeviceContract, ::testing::Values("file", "file_epoll", "memory", "faulty"),
                         [](const auto& at) { return std::string(at.param); });

TEST_P(BlockDeviceContract, ReadsBackWhatWasWritten) {
  EXPECT_EQ(bench.device->info().size_bytes, kSize);
  AlignedBytes out(64 << 10), in(64 << 10, 1);
  base::Random(7).fill({out.data(), out.size()});
  EXPECT_EQ(bench.write(8192, out), 64 << 10);
  EXPECT_EQ(bench.read(8192, in), 64 << 10);
  EXPECT_TRUE(in == out);
  TestOp sync;
  ASSERT_TRUE(bench.device->sync(sync.op));
  EXPECT_EQ(bench.wait(sync), 0);
}

TEST_P(BlockDeviceContract, PiecesAreGatheredAndScattered) {
  AlignedBytes out(16 * 4096), in(16 * 4096);
  base::Random(8).fill({out.data(), out.size()});
  std::vector<iovec> from, into;
  for (size_t i = 0; i < 16; i++)
    from.push_back(out.piece((15 - i) * 4096, 4096)), into.push_back(in.piece(i * 4096, 4096));
  TestOp write, read;
  ASSERT_TRUE(bench.device->write(write.op, 0, from, false));
  EXPECT_EQ(bench.wait(write), 16 * 4096);
  ASSERT_TRUE(bench.device->read(read.op, 0, into));
  EXPECT_EQ(bench.wait(read), 16 * 4096);
  for (size_t i = 0; i < 16; i++) EXPECT_EQ(std::memcmp(in.data() + i * 4096, out.data() + (15 - i) * 4096, 4096), 0);
}

TEST_P(BlockDeviceContract, RangesOutsideAreRefused) {
  AlignedBytes bytes(8192);
  const iovec piece = bytes.piece();
  for (const uint64_t offset : {kSize, kSize - 4096, ~uint64_t{0} - 4095}) {
    TestOp op;
    auto refused = bench.device->read(op.op, offset, {&piece, 1});
    ASSERT_FALSE(refused) << offset;
    EXPECT_EQ(refused.error().status, Status::kInvalid);
    EXPECT_FALSE(bench.device->write(op.op, offset, {&piece, 1}, false));
    EXPECT_FALSE(op.op.pending());
  }
  EXPECT_EQ(bench.write(kSize - 8192, bytes), 8192);
}

TEST_P(BlockDeviceContract, NeverInsideTheSubmitAndAgainFromTheCompletion) {
  AlignedBytes bytes(4096, 3);
  const iovec piece = bytes.piece();
  TestOp op;
  op.then = [&](TestOp& self) {
    if (self.count < 5) {
      ASSERT_TRUE(bench.device->write(self.arm(), 0, {&piece, 1}, false));
    }
  };
  ASSERT_TRUE(bench.device->write(op.op, 0, {&piece, 1}, false));
  EXPECT_TRUE(op.op.pending());
  EXPECT_EQ(op.count, 0);
  EXPECT_EQ(bench.wait(op, 5), 4096);
}

TEST_P(BlockDeviceContract, ManyOpsAtOnceCompleteOnceEach) {
  std::vector<TestOp> ops(200);
  AlignedBytes bytes(4096, 5);
  const iovec piece = bytes.piece();
  for (size_t i = 0; i < ops.size(); i++) ASSERT_TRUE(bench.device->write(ops[i].op, i * 4096, {&piece, 1}, false));
  for (TestOp& op : ops) bench.wait(op);
  for (int i = 0; i < 5; i++) bench.reactor->run_once(1'000'000);
  for (TestOp& op : ops) EXPECT_TRUE(op.count == 1 && op.result == 4096);
}

// --- Files.

TEST(DriveFile, ReadsLeaveRoomForWrites) {
  Bench bench("file");
  AlignedBytes bytes(4096), over(4096);
  const iovec piece = bytes.piece(), rest = over.piece();
  std::list<TestOp> reads;
  while (bench.device->read(reads.emplace_back().op, 0, {&piece, 1})) ASSERT_LT(reads.size(), 10'000u);
  reads.pop_back();
  std::vector<TestOp> writes(100);
  for (TestOp& write : writes) ASSERT_TRUE(bench.device->write(write.op, 4096, {&rest, 1}, false));
  for (TestOp& op : reads) EXPECT_EQ(bench.wait(op), 4096);
  for (TestOp& op : writes) EXPECT_EQ(bench.wait(op), 4096);
}

TEST(DriveFile, TellsWhatIsWrong) {
  TemporaryFolder folder;
  const auto text_of = [](const std::string& path) {
    auto opened = DriveFile::open(path, {.lock_wait_ms = 0});
    return opened ? std::string("opened") : opened.error().text;
  };
  EXPECT_EQ(text_of(folder.file("none")), folder.file("none") + ": no such file or device");
  EXPECT_NE(text_of(folder.path).find("is a directory"), std::string::npos);
  EXPECT_NE(text_of("/dev/null").find("neither a file nor a block device"), std::string::npos);
  std::ofstream(folder.file("empty")).close();
  EXPECT_NE(text_of(folder.file("empty")).find("size 0"), std::string::npos);
}

TEST(DriveFile, IsLockedByItsUser) {
  TemporaryFolder folder;
  const std::string path = create(folder);
  {
    auto first = DriveFile::open(path, {});
    ASSERT_TRUE(first);
    auto second = DriveFile::open(path, {.lock_wait_ms = 60});
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().text.find("in use by another process"), std::string::npos);
    EXPECT_EQ(second.error().status, Status::kBusy);
  }
  EXPECT_TRUE(DriveFile::open(path, {.lock_wait_ms = 0}));
}

TEST(DriveFile, AFileThatIsRemovedBeforeItIsLockedIsNoDrive) {
  TemporaryFolder folder;
  const std::string path = create(folder);
  auto first = DriveFile::open(path, {.lock_wait_ms = 0});
  ASSERT_TRUE(first);
  std::thread waits([&] {
    auto second = DriveFile::open(path, {.lock_wait_ms = 60'000});
    ASSERT_FALSE(second);
    EXPECT_NE(second.error().text.find("no such file"), std::string::npos) << second.error().text;
  });
  const auto opened_by_both = [&] {
    size_t count = 0;
    for (const auto& fd : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      count += std::filesystem::read_symlink(fd.path(), gone) == path ? 1 : 0;
    }
    return count >= 2;
  };
  while (!opened_by_both()) std::this_thread::yield();
  std::filesystem::remove(path);
  first->reset();
  waits.join();
}

TEST(DriveFile, BlockingAccessMovesAnyAddress) {
  TemporaryFolder folder;
  auto drive = DriveFile::open(create(folder), {});
  ASSERT_TRUE(drive);
  std::vector<std::byte> out(8193), in(8193);
  base::Random(9).fill(out);
  ASSERT_TRUE((*drive)->write_now(4096, std::span(out).subspan(1)));
  ASSERT_TRUE((*drive)->read_now(4096, std::span(in).subspan(1)));
  EXPECT_EQ(std::memcmp(in.data() + 1, out.data() + 1, 8192), 0);
  EXPECT_FALSE((*drive)->read_now(kSize, std::span(in).first(4096)));
}

TEST(DriveFile, CacheIsVolatileUnlessProtected) {
  TemporaryFolder folder;
  const std::string path = create(folder);
  EXPECT_TRUE((*DriveFile::open(path, {}))->info().volatile_cache);
  EXPECT_FALSE((*DriveFile::open(path, {.power_loss_protected = true}))->info().volatile_cache);
}

TEST(DriveFile, FileThatShrinksIsAnErrorAndNeverShort) {
  Bench bench("file");
  ASSERT_EQ(truncate(bench.drive->info().path.c_str(), kSize / 2), 0);
  AlignedBytes bytes(16 << 10);
  EXPECT_EQ(bench.read(kSize - (16 << 10), bytes), -EIO);
  EXPECT_EQ(bench.read(kSize / 2 - 8192, bytes), -EIO);  // the first half was read; the rest lies beyond the file's end
}

TEST(CaseC8, a_filling_that_is_stopped_leaves_no_file) {
  TemporaryFolder folder;
  const auto stop = [](uint64_t, uint64_t, void*) { return false; };
  EXPECT_EQ(create_drive_file(folder.file("a"), 64 << 20, stop, nullptr).error().status, Status::kCanceled);
  EXPECT_NE(access(folder.file("a").c_str(), F_OK), 0);
}

TEST(CaseC8, what_does_not_fit_is_refused_with_the_arithmetic_before_a_file_is_made) {
  TemporaryFolder folder;
  const uint64_t huge = uint64_t{1} << 50;
  const auto refused = create_drive_file(folder.file("a"), huge, nullptr, nullptr);
  ASSERT_EQ(refused.error().status, Status::kNoSpace);
  EXPECT_NE(refused.error().text.find("no space for 1 PiB"), std::string::npos) << refused.error().text;
  EXPECT_NE(refused.error().text.find("must stay free"), std::string::npos) << refused.error().text;
  EXPECT_NE(access(folder.file("a").c_str(), F_OK), 0);
  EXPECT_TRUE(check_room({{folder.file("a"), 4096}, {folder.file("b"), 4096}}).ok());
  EXPECT_FALSE(check_room({{folder.file("a"), 4096}, {folder.file("b"), huge}}).ok());
}

TEST(CreateDriveFile, FillsReportsAndRefuses) {
  TemporaryFolder folder;
  const uint64_t size = (9 << 20) + 4096;
  std::vector<uint64_t> seen;
  const auto progress = [](uint64_t done, uint64_t, void* context) {
    static_cast<std::vector<uint64_t>*>(context)->push_back(done);
    return true;
  };
  ASSERT_TRUE(create_drive_file(folder.file("a"), size, progress, &seen));
  EXPECT_EQ(seen, (std::vector<uint64_t>{8 << 20, size}));
  struct stat status {};
  ASSERT_EQ(stat(folder.file("a").c_str(), &status), 0);
  EXPECT_EQ(static_cast<uint64_t>(status.st_size), size);
  EXPECT_GE(static_cast<uint64_t>(status.st_blocks) * 512, size);
  EXPECT_EQ(create_drive_file(folder.file("a"), size, nullptr, nullptr).error().status, Status::kExists);
  EXPECT_EQ(create_drive_file(folder.file("b"), 4097, nullptr, nullptr).error().status, Status::kInvalid);
  EXPECT_NE(create_drive_file(folder.file("no/c"), 4096, nullptr, nullptr).error().text.find("no such"),
            std::string::npos);
}

/// A reactor that cuts transfers short at random places, to see that devices continue them.
class ShortReactor final : public Reactor {
 public:
  ShortReactor(SimReactor& sim, std::vector<std::byte>& file) : sim_(sim), file_(file) {}
  std::string_view name() const override { return "short"; }
  Result<void> read(IoOp& op, int, uint64_t offset, std::span<const iovec> pieces) override {
    return move(op, offset, pieces, true);
  }
  Result<void> write(IoOp& op, int, uint64_t offset, std::span<const iovec> pieces, bool) override {
    return move(op, offset, pieces, false);
  }
  Result<void> accept(IoOp&, int) override { return Error{}; }
  Result<void> connect(IoOp&, int, const sockaddr*, socklen_t) override { return Error{}; }
  Result<void> readable(IoOp&, int) override { return Error{}; }
  Result<void> writable(IoOp&, int) override { return Error{}; }
  Result<void> recv(IoOp&, int, std::span<const iovec>) override { return Error{}; }
  Result<void> send(IoOp&, int, std::span<const iovec>) override { return Error{}; }
  Result<void> sync(IoOp& op, int) override { return sim_.post(op, 0); }
  Result<void> post(IoOp& op, int32_t result) override { return sim_.post(op, result); }
  void cancel(IoOp& op) override { sim_.cancel(op); }
  void start(Timer& timer, uint64_t deadline_ns) override { sim_.start(timer, deadline_ns); }
  void stop(Timer& timer) override { sim_.stop(timer); }
  void add(PollSource& source) override { sim_.add(source); }
  void remove(PollSource& source) override { sim_.remove(source); }
  void register_memory(std::span<std::byte>) override {}
  uint64_t now_ns() const override { return sim_.now_ns(); }
  size_t run_once(uint64_t wait_ns) override { return sim_.run_once(wait_ns); }
  void wake() override {}
  size_t pending() const override { return sim_.pending(); }
  int calls = 0;

 private:
  Result<void> move(IoOp& op, uint64_t offset, std::span<const iovec> pieces, bool reading) {
    size_t limit = 0;
    for (const iovec& piece : pieces) limit += piece.iov_len;
    limit = 512 * random_.between(1, limit / 512);
    if (calls++ % 5 == 0) return sim_.post(op, -EINTR);
    size_t moved = 0;
    for (const iovec& piece : pieces) {
      const size_t length = std::min(piece.iov_len, limit - moved);
      auto* there = file_.data() + offset + moved;
      reading ? std::memcpy(piece.iov_base, there, length) : std::memcpy(there, piece.iov_base, length);
      moved += length;
    }
    return sim_.post(op, static_cast<int32_t>(moved));
  }
  SimReactor& sim_;
  std::vector<std::byte>& file_;
  base::Random random_{11};
};

TEST(DriveFile, ShortTransfersAreContinued) {
  TemporaryFolder folder;
  auto drive = DriveFile::open(create(folder), {});
  ASSERT_TRUE(drive);
  SimReactor sim;
  std::vector<std::byte> file(kSize);
  ShortReactor reactor(sim, file);
  auto device = (*drive)->bind(reactor);
  AlignedBytes out(96 << 10), in(96 << 10);
  base::Random(12).fill({out.data(), out.size()});
  const std::array<iovec, 3> from = {out.piece(0, 4096), out.piece(4096, 60 << 10), out.piece(64 << 10, 32 << 10)};
  const std::array<iovec, 2> into = {in.piece(0, 80 << 10), in.piece(80 << 10, 16 << 10)};
  TestOp write, read;
  ASSERT_TRUE(device->write(write.op, 4096, from, true));
  sim.run_until_idle();
  EXPECT_EQ(write.count, 1);
  EXPECT_EQ(write.result, 96 << 10);
  ASSERT_TRUE(device->read(read.op, 4096, into));
  sim.run_until_idle();
  EXPECT_EQ(read.result, 96 << 10);
  EXPECT_TRUE(in == out);
  EXPECT_GT(reactor.calls, 4);
}

// --- Memory.

TEST(MemoryDevice, ViewsAreTheBytesThemselves) {
  Bench bench("memory");
  std::byte* view = bench.device->view(4096, 4096);
  ASSERT_NE(view, nullptr);
  std::memset(view, 9, 4096);
  AlignedBytes in(4096);
  bench.read(4096, in);
  EXPECT_EQ(in[17], std::byte{9});
  EXPECT_EQ(bench.device->view(kSize, 4096), nullptr);
  EXPECT_EQ(bench.device->view(4096, kSize), nullptr);
  EXPECT_FALSE(bench.device->info().durable);
  TestOp op;
  const iovec in_place{view, 4096};
  ASSERT_TRUE(bench.device->write(op.op, 4096, {&in_place, 1}, false));
  EXPECT_EQ(bench.wait(op), 4096);
  auto without = make_memory_device(*bench.reactor, make_memory_storage(8192), false);
  EXPECT_EQ(without->view(0, 4096), nullptr);
}

// --- Faults.

struct FaultyBench {
  SimReactor sim;
  std::shared_ptr<MemoryStorage> image = make_memory_storage(kSize);
  std::unique_ptr<FaultyDevice> device;
  explicit FaultyBench(const FaultPlan& plan, uint64_t seed = 1) { open(plan, seed); }
  void open(const FaultPlan& plan, uint64_t seed) { device = std::make_unique<FaultyDevice>(sim, image, plan, seed); }
  int32_t write(uint64_t offset, int fill, size_t bytes = 4096, bool dsync = false) {
    AlignedBytes out(bytes, fill);
    const iovec from = out.piece();
    TestOp op;
    EXPECT_TRUE(device->write(op.op, offset, {&from, 1}, dsync));
    sim.run_until([&] { return op.count > 0; });
    return op.result;
  }
  int32_t read(uint64_t offset, AlignedBytes& in) {
    const iovec into = in.piece();
    TestOp op;
    EXPECT_TRUE(device->read(op.op, offset, {&into, 1}));
    sim.run_until([&] { return op.count > 0; });
    return op.result;
  }
  int32_t sync() {
    TestOp op;
    EXPECT_TRUE(device->sync(op.op));
    sim.run_until([&] { return op.count > 0; });
    return op.result;
  }
  int on_platter(uint64_t offset) { return static_cast<int>(image->data()[offset]); }
};

TEST(FaultyDevice, ErrorsAtPlacesAndByChance) {
  FaultyBench bench({});
  bench.device->fail_range(8192, 4096);
  AlignedBytes in(8192);
  EXPECT_EQ(bench.read(0, in), 8192);
  EXPECT_EQ(bench.read(4096, in), -EIO);
  EXPECT_EQ(bench.write(8192, 1), -EIO);
  EXPECT_EQ(bench.on_platter(8192), 0);
  EXPECT_EQ(bench.sync(), 0);
  bench.device->fail_all();
  EXPECT_EQ(bench.sync(), -EIO);
  bench.device->heal();
  EXPECT_EQ(bench.write(8192, 1), 4096);
  bench.device->plan().write_error = 0.5;
  int failed = 0;
  for (int i = 0; i < 200; i++) failed += bench.write(0, i) == -EIO;
  EXPECT_GT(failed, 50);
  EXPECT_LT(failed, 150);
}

TEST(FaultyDevice, LostMisdirectedAndFlipped) {
  FaultyBench bench({.write_lost = 1});
  EXPECT_EQ(bench.write(0, 7), 4096);
  EXPECT_EQ(bench.on_platter(0), 0);
  bench.device->plan() = {.write_misdirected = 1};
  EXPECT_EQ(bench.write(0, 7), 4096);
  EXPECT_EQ(std::count(bench.image->data(), bench.image->data() + kSize, std::byte{7}), 4096);
  bench.device->plan() = {.read_bit_flip = 1};
  AlignedBytes in(4096);
  EXPECT_EQ(bench.read(64 << 10, in), 4096);
  const std::vector<std::byte> truth(bench.image->data() + (64 << 10), bench.image->data() + (68 << 10));
  int wrong = 0;
  for (size_t i = 0; i < 4096; i++) wrong += in[i] != truth[i];
  EXPECT_EQ(wrong, 1);
  EXPECT_EQ(bench.device->counts().lost + bench.device->counts().misdirected + bench.device->counts().bit_flips, 3u);
}

TEST(FaultyDevice, CompletionsComeInAnotherOrder) {
  FaultyBench bench({.latency_ns_max = 1'000'000});
  AlignedBytes out(4096);
  const iovec from = out.piece();
  std::vector<TestOp> ops(32);
  std::vector<size_t> order;
  for (size_t i = 0; i < ops.size(); i++) {
    ops[i].then = [&, i](TestOp&) { order.push_back(i); };
    ASSERT_TRUE(bench.device->write(ops[i].op, i * 4096, {&from, 1}, false));
  }
  bench.sim.run_until([&] { return order.size() == ops.size(); });
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
}

TEST(FaultyDevice, VolatileCacheKeepsOnlyWhatWasSynced) {
  int lost = 0, kept = 0;
  for (uint64_t seed = 0; seed < 40; seed++) {
    FaultyBench bench({.volatile_cache = true}, seed);
    bench.write(0, 1);
    EXPECT_EQ(bench.on_platter(0), 0);
    AlignedBytes in(4096);
    bench.read(0, in);
    EXPECT_EQ(in[0], std::byte{1});  // the read sees what is in the cache
    bench.sync();
    EXPECT_EQ(bench.on_platter(0), 1);
    bench.write(4096, 2, 4096, true);
    EXPECT_EQ(bench.on_platter(4096), 2);
    bench.write(8192, 3);
    bench.device->power_cut();
    EXPECT_EQ(bench.on_platter(0), 1);
    EXPECT_EQ(bench.on_platter(4096), 2);
    (bench.on_platter(8192) == 3 ? kept : lost)++;
  }
  EXPECT_GT(lost, 5);
  EXPECT_GT(kept, 5);
}

TEST(FaultyDevice, PowerCutTearsWhatIsInFlightAndForgetsIt) {
  int whole = 0, none = 0, part = 0;
  for (uint64_t seed = 0; seed < 100; seed++) {
    FaultyBench bench({}, seed);
    AlignedBytes out(8 * 4096, 5);
    const iovec from = out.piece();
    TestOp op, later;
    ASSERT_TRUE(bench.device->write(op.op, 0, {&from, 1}, true));
    bench.device->power_cut();
    EXPECT_FALSE(op.op.pending());
    EXPECT_FALSE(bench.device->write(later.op, 0, {&from, 1}, true));
    bench.sim.advance(1'000'000'000);
    EXPECT_EQ(op.count, 0);
    int landed = 0;
    for (uint64_t i = 0; i < 8; i++) landed += bench.on_platter(i * 4096) == 5;
    (landed == 8 ? whole : landed == 0 ? none : part)++;
    bench.open({}, seed);  // a new device on the image of the old one
    AlignedBytes in(8 * 4096);
    EXPECT_EQ(bench.read(0, in), 8 * 4096);
  }
  EXPECT_GT(whole, 10);
  EXPECT_GT(none, 10);
  EXPECT_GT(part, 20);
}

TEST(FaultyDevice, GateHoldsUntilReleased) {
  FaultyBench bench({});
  bench.device->set_gate([](const auto& op) { return op.kind == FaultyDevice::OpKind::kWrite && op.offset >= 8192; });
  AlignedBytes out(4096, 6);
  const iovec from = out.piece();
  std::array<TestOp, 3> ops;
  for (size_t i = 0; i < 3; i++) ASSERT_TRUE(bench.device->write(ops[i].op, i * 8192, {&from, 1}, false));
  bench.sim.run_until_idle();
  EXPECT_EQ(ops[0].count, 1);
  ASSERT_EQ(bench.device->held(), 2u);
  EXPECT_EQ(bench.device->held_at(1).offset, 16384u);
  bench.device->release(1);
  EXPECT_EQ(ops[2].count, 1);
  EXPECT_EQ(ops[1].count, 0);
  EXPECT_EQ(bench.on_platter(8192), 0);
  bench.device->release_all();
  EXPECT_EQ(bench.on_platter(8192), 6);
  EXPECT_EQ(bench.device->in_flight(), 0u);
}

TEST(FaultyDevice, HookMayCutThePowerAtAnExactWrite) {
  FaultyBench bench({});
  int writes = 0;
  bench.device->set_on_write([&](uint64_t, uint64_t) {
    if (++writes == 3) bench.device->power_cut();
  });
  AlignedBytes out(4096, 6);
  const iovec from = out.piece();
  std::array<TestOp, 5> ops;
  for (size_t i = 0; i < 5; i++) ASSERT_TRUE(bench.device->write(ops[i].op, i * 4096, {&from, 1}, true));
  bench.sim.run_until_idle();
  EXPECT_EQ(ops[0].count + ops[1].count, 2);
  EXPECT_EQ(ops[2].count + ops[3].count + ops[4].count, 0);
  EXPECT_EQ(bench.on_platter(0), 6);
  EXPECT_EQ(bench.on_platter(4096), 6);
}

}  // namespace
}  // namespace memkv::io
