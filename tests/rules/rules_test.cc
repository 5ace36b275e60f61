/// The ten rules of docs/data-file.md, each in the situation that it is for. `--take-out=N` takes rule N out; then a
/// test of suite RuleNN must fail (tools/rules.py).

#include <gtest/gtest.h>
#include <sys/file.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/test_rules.h"
#include "engine/rig_testing.h"
#include "volume/volume.h"

namespace memkv::engine {
namespace {

using OpView = io::FaultyDevice::OpView;
using OpKind = io::FaultyDevice::OpKind;

constexpr uint64_t kDriveBytes = 64 * kMi;
constexpr uint64_t kMs = 1'000'000;
constexpr size_t kLone = 200'000;  ///< the record is alone in its extent
constexpr uint64_t kLoneBlocks = 1 + (kLone + base::kSectorBytes - 1) / base::kSectorBytes;

std::string numbered(const char* name, uint64_t n) { return name + std::to_string(n); }

using Put = PreparedPut;  // a put that runs beside others

/// Puts a new record and returns its sequence.
uint64_t put_now(Rig& rig, const std::string& name, uint64_t version, size_t size) {
  Put put(rig, name, version, size);
  EXPECT_EQ(rig.run(put.op, [&] { put.start(); }), Status::kOk) << name;
  return put.op.generation;
}

bool is_write(const OpView& view) { return view.kind == OpKind::kWrite; }

/// A rig whose devices draw their faults from this seed.
std::unique_ptr<Rig> seeded_rig(int drives, uint64_t seed) {
  auto rig = std::make_unique<Rig>(drives, kDriveBytes);
  rig->seed_ = seed * 1000;
  rig->reopen();
  return rig;
}

/// The drive that whole records of this key go to while all drives are there.
size_t home_of(int drives, const std::string& name) {
  Rig rig(drives, kDriveBytes);
  std::vector<uint64_t> before;
  for (int d = 0; d < drives; ++d) before.push_back(rig.device(static_cast<size_t>(d)).counts().writes);
  put_now(rig, name, 1, 100);
  for (size_t d = 0; d < before.size(); ++d) {
    if (rig.device(d).counts().writes > before[d]) return d;
  }
  ADD_FAILURE() << "nothing was written";
  return 0;
}

std::string key_at_home(int drives, size_t drive, const char* prefix) {
  for (uint64_t n = 0;; ++n) {
    if (home_of(drives, numbered(prefix, n)) == drive) return numbered(prefix, n);
  }
}

uint64_t block_offset(uint64_t epoch, uint64_t block) {
  const auto layout = format::choose_layout(kDriveBytes, 1);
  const uint64_t position = epoch % format::segment_count(layout->slice_bytes, layout->segment_bytes);
  return format::kSlicesOffset + format::segment_offset(layout->segment_bytes, position) + block * base::kSectorBytes;
}

// --- 1: acknowledged in log order ------------------------------------------------------------------------------------

/// Two extents are in flight, and the second one completes first.
struct TwoInFlight {
  explicit TwoInFlight(Rig& rig) : first(rig, "first", 1, kLone), second(rig, "second", 1, kLone) {
    put_now(rig, "before", 1, kLone);
    rig.device(0).set_gate([this](const OpView& view) { return is_write(view) && writes++ == 0; });
    first.start();
    second.start();
    rig.reactor().advance(10 * kMs);
    EXPECT_EQ(rig.device(0).held(), 1u);
    EXPECT_EQ(writes, 2u);
    EXPECT_FALSE(first.done);
  }
  size_t writes = 0;
  Put first, second;
};

TEST(Rule01InOrder, TheSecondExtentWaitsForTheFirst) {
  Rig rig(1, kDriveBytes);
  TwoInFlight two(rig);
  EXPECT_FALSE(two.second.done);
  rig.device(0).release_all();
  rig.reactor().advance(10 * kMs);
  EXPECT_TRUE(two.first.acknowledged() && two.second.acknowledged());
  rig.power_cut_and_open();
  rig.expect("first", two.first.bytes);
  rig.expect("second", two.second.bytes);
}

TEST(Rule01InOrder, NothingAcknowledgedIsBehindATornExtent) {
  for (uint64_t seed = 1; seed <= 16; ++seed) {
    SCOPED_TRACE(seed);
    const auto rig = seeded_rig(1, seed);
    TwoInFlight two(*rig);
    const bool acknowledged = two.second.acknowledged();
    rig->power_cut_and_open();
    rig->expect("before", bytes_of("before", 1, kLone));
    if (acknowledged) rig->expect("second", two.second.bytes);
  }
}

TEST(Rule01InOrder, BothGoToTheNextSegmentWhenTheFirstFails) {
  Rig rig(1, kDriveBytes);
  TwoInFlight two(rig);
  const OpView held = rig.device(0).held_at(0);
  rig.device(0).fail_range(held.offset, held.bytes);
  rig.device(0).release_all();
  rig.device(0).heal();
  rig.reactor().advance(100 * kMs);
  EXPECT_TRUE(two.first.acknowledged() && two.second.acknowledged());
  rig.power_cut_and_open();
  for (const Put* put : {&two.first, &two.second}) rig.expect(put->key, put->bytes);
}

// --- 2: own place and chain ------------------------------------------------------------------------------------------

/// The ring has come round. Behind the newest extent lie whole extents of the segment's former life, at the very places
/// where the next ones would be. Their blocks were evicted, then removed.
TEST(Rule02OwnPlace, AFormerLifeStaysDead) {
  for (uint64_t more = 0; more < 20; ++more) {
    SCOPED_TRACE(more);
    Rig rig(1, kDriveBytes);
    uint64_t n = 0;
    while (n < 2 || rig.store().exists(rig.key("k1"))) put_now(rig, numbered("k", n++), 1, kLone);
    for (const uint64_t end = n + 20 + more; n < end;) put_now(rig, numbered("k", n++), 1, kLone);
    std::vector<std::string> removed;
    for (uint64_t i = 0; i < n; ++i) {
      const std::string k = numbered("k", i);
      if (rig.store().exists(rig.key(k))) continue;
      ASSERT_EQ(rig.remove(k), Status::kMiss);
      removed.push_back(k);
    }
    ASSERT_FALSE(removed.empty());
    rig.power_cut_and_open();
    for (const std::string& k : removed) EXPECT_FALSE(rig.store().exists(rig.key(k))) << k;
    rig.expect(numbered("k", n - 1), bytes_of(numbered("k", n - 1), 1, kLone));
  }
}

/// Where this drive's next extent would be lies an extent of another drive: same epoch, same sector, so only the chain
/// tells them apart.
TEST(Rule02OwnPlace, AMisdirectedWriteIsNotTakenForLive) {
  const std::string here = key_at_home(2, 0, "here"), there = key_at_home(2, 1, "there");
  const std::string gone = key_at_home(2, 1, "gone");
  Rig rig(2, kDriveBytes);
  for (const std::string& k : {here, there, gone}) put_now(rig, k, 1, kLone);
  const uint64_t offset = block_offset(1, 1 + kLoneBlocks);
  std::memcpy(rig.device(0).durable(offset), rig.device(1).durable(offset), kLoneBlocks * base::kSectorBytes);
  ASSERT_EQ(rig.remove(gone), Status::kOk);
  rig.power_cut_and_open();
  EXPECT_FALSE(rig.store().exists(rig.key(gone)));
  for (const std::string& k : {here, there}) rig.expect(k, bytes_of(k, 1, kLone));
}

/// Of two extents the first was lost with the power, the second landed. The next extent is written over the first, so
/// the second lies behind it: same epoch, right sector, but another chain.
TEST(Rule02OwnPlace, AnAbandonedTailStaysDead) {
  uint64_t abandoned = 0;
  for (uint64_t seed = 1; seed <= 16; ++seed) {
    SCOPED_TRACE(seed);
    const auto rig = seeded_rig(1, seed);
    TwoInFlight two(*rig);
    rig->power_cut_and_open();
    if (rig->store().exists(rig->key("second"))) continue;
    ++abandoned;
    ASSERT_EQ(rig->remove("second"), Status::kMiss);
    put_now(*rig, "third", 1, kLone);
    rig->power_cut_and_open();
    EXPECT_FALSE(rig->store().exists(rig->key("second")));
    for (const char* k : {"before", "third"}) rig->expect(k, bytes_of(k, 1, kLone));
  }
  EXPECT_GT(abandoned, 0u);
}

/// A write failed although a part of it landed. Its records, and those behind it, are also in the next segment. The
/// footer that would say where the segment ends is lost.
TEST(Rule02OwnPlace, WhatWasAppendedAgainDiesOnce) {
  for (uint64_t seed = 1; seed <= 16; ++seed) {
    SCOPED_TRACE(seed);
    const auto rig = seeded_rig(1, seed);
    TwoInFlight two(*rig);
    rig->device(0).plan().write_error = 1;
    rig->device(0).release(0);
    rig->device(0).plan().write_error = 0;
    rig->reactor().advance(100 * kMs);
    ASSERT_TRUE(two.first.acknowledged() && two.second.acknowledged());
    ASSERT_EQ(rig->remove("second"), Status::kOk);
    const uint64_t last_sector = format::segment_bytes_for(1) / base::kSectorBytes - 1;
    std::memset(rig->device(0).durable(block_offset(1, last_sector)), 0, base::kSectorBytes);
    rig->power_cut_and_open();
    EXPECT_FALSE(rig->store().exists(rig->key("second")));
    for (const char* k : {"before", "first"}) rig->expect(k, bytes_of(k, 1, kLone));
  }
}

// --- 3: complete up to -----------------------------------------------------------------------------------------------

/// Damage before the mark: the newer version was acknowledged, so the older one must not come back.
TEST(Rule03CompleteUpTo, RotIsAMissAndTheOlderVersionStaysDead) {
  Rig rig(1, kDriveBytes);
  put_now(rig, "k", 1, kLone);
  put_now(rig, "k", 2, kLone);
  put_now(rig, "after", 1, kLone);
  *rig.device(0).durable(block_offset(1, 1 + kLoneBlocks + 1) + 100) ^= std::byte{1};
  for (int open = 0; open < 2; ++open) {
    rig.power_cut_and_open();
    std::string out;
    EXPECT_EQ(rig.get_unit("k", 50, 100, out), Status::kMiss);
    rig.expect("after", bytes_of("after", 1, kLone));
  }
}

/// Nobody knows what the damaged header held, but the log goes on behind it.
TEST(Rule03CompleteUpTo, RotOfAHeaderIsNotTheEnd) {
  Rig rig(1, kDriveBytes);
  for (const char* k : {"before", "k", "after", "last"}) put_now(rig, k, 1, kLone);
  *rig.device(0).durable(block_offset(1, 1 + kLoneBlocks) + 100) ^= std::byte{1};
  for (int open = 0; open < 2; ++open) {
    rig.power_cut_and_open();
    EXPECT_FALSE(rig.store().exists(rig.key("k")));
    for (const char* k : {"before", "after", "last"}) rig.expect(k, bytes_of(k, 1, kLone));
  }
}

/// Damage behind the mark: the newer version was never acknowledged, so the older one lives.
TEST(Rule03CompleteUpTo, TornIsDroppedAndTheOlderVersionLives) {
  uint64_t torn = 0;
  for (uint64_t seed = 1; seed <= 16; ++seed) {
    SCOPED_TRACE(seed);
    const auto rig = seeded_rig(1, seed);
    const size_t size = seed % 2 != 0 ? kLone : 30'000;
    put_now(*rig, "k", 1, size);
    Put newer(*rig, "k", 2, size);
    rig->device(0).set_gate(is_write);
    newer.start();
    rig->reactor().advance(10 * kMs);
    ASSERT_EQ(rig->device(0).held(), 1u);
    EXPECT_FALSE(newer.done);
    rig->power_cut_and_open();
    torn += rig->store().counters().recovered_torn;
    std::string out;
    ASSERT_EQ(rig->get("k", out), Status::kOk);
    EXPECT_TRUE(out == newer.bytes || out == bytes_of("k", 1, size));
    rig->reopen();
    rig->expect("k", out);
  }
  EXPECT_GT(torn, 0u);
}

// --- 4: a record dies where it lies ----------------------------------------------------------------------------------

TEST(Rule04DiesWhereItLies, WhatWasRemovedStaysAway) {
  for (const size_t size : {size_t{5'000}, kLone, size_t{5 * kMi}}) {
    Rig rig(2, kDriveBytes);
    const std::string bytes = bytes_of("k", 1, size);
    ASSERT_EQ(size > base::kChunkBytes ? rig.put_large("k", bytes) : rig.put("k", bytes), Status::kOk);
    ASSERT_EQ(rig.remove("k"), Status::kOk);
    rig.power_cut_and_open();
    EXPECT_FALSE(rig.store().exists(rig.key("k"))) << size;
  }
}

/// A block was put while its home drive was away, and again when that was back, so its old record is in another log.
/// Then the home drive goes away with the new record.
TEST(Rule04DiesWhereItLies, TheOldRecordInAnotherLogDoesNotOutliveTheNew) {
  const size_t home = home_of(2, "k");
  Rig rig(2, kDriveBytes);
  rig.missing_ = uint64_t{1} << home;
  rig.reopen();
  put_now(rig, "k", 1, kLone);
  rig.missing_ = 0;
  rig.reopen();
  put_now(rig, "k", 2, kLone);
  rig.power_cut_and_open();
  rig.expect("k", bytes_of("k", 2, kLone));
  rig.power_cut();
  rig.missing_ = uint64_t{1} << home;
  rig.open();
  EXPECT_FALSE(rig.store().exists(rig.key("k")));
}

/// The same, with the power cut between the new record and the old one's tombstone.
TEST(Rule04DiesWhereItLies, RecoveryWritesTheTombstoneThatACrashKept) {
  const size_t home = home_of(2, "k");
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(seed);
    const auto rig = seeded_rig(2, seed);
    rig->missing_ = uint64_t{1} << home;
    rig->reopen();
    put_now(*rig, "k", 1, kLone);
    rig->missing_ = 0;
    rig->reopen();
    Put newer(*rig, "k", 2, kLone);
    rig->device(1 - home).set_gate(is_write);
    newer.start();
    rig->reactor().advance(10 * kMs);
    EXPECT_FALSE(newer.done) << "before the old record was dead";
    rig->power_cut_and_open();
    rig->expect("k", newer.bytes);
    rig->power_cut();
    rig->missing_ = uint64_t{1} << home;
    rig->open();
    EXPECT_FALSE(rig->store().exists(rig->key("k")));
  }
}

// --- 5: a freed segment waits ----------------------------------------------------------------------------------------

/// Puts until one has to wait, or twice the size of the drive is written.
std::unique_ptr<Put> fill_until_stuck(Rig& rig) {
  for (uint64_t n = 0; n * kLone < 2 * kDriveBytes; ++n) {
    auto put = std::make_unique<Put>(rig, numbered("fill", n), 1, kLone);
    put->start();
    for (int turn = 0; turn < 50 && !put->done; ++turn) rig.reactor().advance(20 * kMs);
    if (!put->done) return put;
    EXPECT_EQ(put->op.status, Status::kOk);
  }
  return nullptr;
}

/// A read is still under way when its segment is due to be reclaimed.
TEST(Rule05FreedWaits, ASegmentIsNotWrittenUnderARead) {
  Rig rig(1, kDriveBytes);
  put_now(rig, "read", 1, kLone);
  const std::string name = "read";
  Slot slot(kLone + 2 * base::kSectorBytes);
  ReadOp read;
  bool done = false;
  read.key = rig.key(name);
  read.length = kLone;
  read.buffer = slot.data;
  read.buffer_bytes = rig.store().lookup(read.key, 0, kLone, 0).buffer_bytes;
  read.context = &done;
  read.on_done = [](StoreOp& o) { *static_cast<bool*>(o.context) = true; };
  bool caught = false;
  rig.device(0).set_gate([&](const OpView& view) {
    if (view.kind != OpKind::kRead || caught) return false;
    return caught = true;
  });
  rig.store().read(read);
  rig.reactor().advance(kMs);
  ASSERT_EQ(rig.device(0).held(), 1u);

  const auto stuck = fill_until_stuck(rig);
  EXPECT_NE(stuck, nullptr) << "the log came round over a read in flight";
  EXPECT_FALSE(done);
  rig.device(0).release_all();
  rig.reactor().advance(kMs);
  ASSERT_TRUE(done);
  ASSERT_EQ(read.status, Status::kOk);
  const std::string bytes = bytes_of("read", 1, kLone);
  EXPECT_TRUE(std::memcmp(read.data, bytes.data(), kLone) == 0);
  rig.store().release(read);
  rig.reactor().advance(1000 * kMs);
  EXPECT_TRUE(stuck == nullptr || stuck->acknowledged());
}

/// A block that was read lies in the oldest segment and is moved. The move fails, or the power goes while it is in
/// flight.
TEST(Rule05FreedWaits, AMoveIsDurableBeforeItsSegmentIsWritten) {
  const size_t size = kLone + 5 * base::kSectorBytes;  // so that the move's write differs in size from all others
  const std::string hot = bytes_of("hot", 1, size);
  const uint64_t extent_bytes = base::kSectorBytes + base::align_up(size, base::kSectorBytes);
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(seed);
    const auto rig = seeded_rig(1, seed);
    put_now(*rig, "hot", 1, size);
    rig->expect("hot", hot);
    rig->device(0).set_gate([&](const OpView& view) { return is_write(view) && view.bytes == extent_bytes; });
    const auto stuck = fill_until_stuck(*rig);
    ASSERT_NE(stuck, nullptr);
    ASSERT_EQ(rig->device(0).held(), 1u);
    if (seed % 2 == 0) {
      rig->device(0).set_gate({});
      rig->device(0).plan().write_error = 1;
      rig->device(0).release(0);
      rig->device(0).plan().write_error = 0;
      rig->reactor().advance(1000 * kMs);
      EXPECT_TRUE(stuck->acknowledged());
      rig->expect("hot", hot);
      for (uint64_t n = 0; n < seed % 8 * 5; ++n) put_now(*rig, numbered("more", n), 1, kLone);
    }
    rig->power_cut_and_open();
    rig->expect("hot", hot);
  }
}

// --- 6: sequences never repeat ---------------------------------------------------------------------------------------

/// Records took sequences, and were lost with the power.
TEST(Rule06Sequences, LostRecordsKeepTheirSequences) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(seed);
    const auto rig = seeded_rig(2, seed);
    uint64_t used = 0;
    for (uint64_t round = 0; round < 3; ++round) {
      const uint64_t sequence = put_now(*rig, "k", round, kLone);
      EXPECT_GT(sequence, used);
      used = sequence;
      for (size_t d = 0; d < 2; ++d) rig->device(d).set_gate(is_write);
      std::vector<std::unique_ptr<Put>> lost;
      for (uint64_t n = 0; n < 20; ++n) {
        lost.push_back(std::make_unique<Put>(*rig, numbered("lost", n), round, kLone));
        lost.back()->start();
        ++used;
      }
      rig->reactor().advance(10 * kMs);
      for (const auto& put : lost) EXPECT_FALSE(put->done);
      rig->power_cut_and_open();
    }
  }
}

/// A sequence is used only when both copies of the reservation are above it. So if either copy is lost, none is used
/// twice.
TEST(Rule06Sequences, ALostAnchorTakesNoReservationBack) {
  for (const uint64_t copy : {0, 1}) {
    Rig rig(1, kDriveBytes);
    rig.power_cut_and_open();
    const uint64_t sequence = put_now(rig, "k", 1, kLone);
    for (uint64_t i = 0; i < 2; ++i) {
      format::Anchor anchor;
      std::memcpy(&anchor, rig.device(0).durable(format::kSlicesOffset + i * base::kSectorBytes), sizeof anchor);
      EXPECT_GT(anchor.sequence_end, sequence);
    }
    std::memset(rig.device(0).durable(format::kSlicesOffset + copy * base::kSectorBytes) + 2048, 0xFF, 2048);
    rig.power_cut_and_open();
    EXPECT_GE(put_now(rig, "k", 2, kLone), format::kSequenceReservation);
  }
}

// --- 7: membership ---------------------------------------------------------------------------------------------------

/// A rig's drive as the volume sees it.
class RigDrive final : public io::DriveFile {
 public:
  RigDrive(Rig& rig, size_t d) : image_(rig.image(d)) {
    info_.path = numbered("drive-", d);
    info_.size_bytes = kDriveBytes;
  }
  const io::DeviceInfo& info() const override { return info_; }
  int fd() const override { return -1; }
  std::unique_ptr<io::BlockDevice> bind(io::Reactor&) override { return nullptr; }
  Result<void> read_now(uint64_t offset, std::span<std::byte> out) override {
    std::memcpy(out.data(), image_->data() + offset, out.size());
    return {};
  }
  Result<void> write_now(uint64_t offset, std::span<const std::byte> bytes) override {
    std::memcpy(image_->data() + offset, bytes.data(), bytes.size());
    return {};
  }

 private:
  std::shared_ptr<io::MemoryStorage> image_;
  io::DeviceInfo info_;
};

class Members {
 public:
  explicit Members(int drives) : rig(drives, kDriveBytes) {
    for (int d = 0; d < drives; ++d) drives_.push_back(std::make_unique<RigDrive>(rig, static_cast<size_t>(d)));
    rig.close();
    EXPECT_TRUE(volume::Volume::format(all(), {.shards = 1}).ok());
    start(*open(all()));
  }
  std::vector<io::DriveFile*> all() const { return without(drives_.size()); }
  std::vector<io::DriveFile*> without(size_t drive) const {
    std::vector<io::DriveFile*> files;
    for (size_t d = 0; d < drives_.size(); ++d) {
      if (d != drive) files.push_back(drives_[d].get());
    }
    return files;
  }
  static std::unique_ptr<volume::Volume> open(const std::vector<io::DriveFile*>& files) {
    auto volume = volume::Volume::open(files, {});
    EXPECT_TRUE(volume.ok()) << (volume.ok() ? "" : volume.error().text);
    return volume.ok() ? std::move(volume).value() : nullptr;
  }
  /// Starts the store on what the volume says.
  void start(const volume::Volume& volume) {
    rig.missing_ = 0;
    for (uint32_t d = 0; d < volume.drive_count(); ++d) {
      if (volume.drive(d) == nullptr) rig.missing_ |= uint64_t{1} << d;
      rig.life_[d] = volume.superblock_of(d).life;
    }
    rig.open();
  }

  Rig rig;

 private:
  std::vector<std::unique_ptr<RigDrive>> drives_;
};

/// A drive goes out. The store goes on, and changes and removes what the drive held. Then the drive comes back.
TEST(Rule07Membership, AStaleMemberComesBackEmpty) {
  const size_t home = home_of(3, "k");
  for (const bool put_again : {false, true}) {
    for (const bool taken_out : {false, true}) {
      Members members(3);
      Rig& rig = members.rig;
      put_now(rig, "k", 1, kLone);
      rig.power_cut();
      {
        const auto volume = Members::open(taken_out ? members.all() : members.without(home));
        ASSERT_NE(volume, nullptr);
        ASSERT_TRUE(!taken_out || volume->take_out(static_cast<uint32_t>(home)).ok());
        members.start(*volume);
      }
      EXPECT_FALSE(rig.store().exists(rig.key("k")));
      put_now(rig, "other", 1, kLone);
      if (put_again) put_now(rig, "k", 2, kLone);
      EXPECT_EQ(rig.remove("k"), put_again ? Status::kOk : Status::kMiss);
      rig.power_cut();
      const auto volume = Members::open(members.all());
      ASSERT_NE(volume, nullptr);
      EXPECT_TRUE(volume->missing().empty());
      members.start(*volume);
      EXPECT_FALSE(rig.store().exists(rig.key("k"))) << put_again << taken_out;
      rig.expect("other", bytes_of("other", 1, kLone));
    }
  }
}

/// A drive comes back and is written again, but not as far as before. Behind its new tail lies what its former life
/// wrote: it has the same epochs and places, and says of itself that it is complete.
TEST(Rule07Membership, AFormerLifeStaysAwayFromANewOne) {
  constexpr uint64_t kKeys = 40;
  Members members(3);
  Rig& rig = members.rig;
  for (uint64_t n = 0; n < kKeys; ++n) put_now(rig, numbered("k", n), 1, kLone);
  rig.close();
  {
    const auto volume = Members::open(members.without(1));
    ASSERT_NE(volume, nullptr);
    members.start(*volume);
  }
  for (uint64_t n = 0; n < kKeys; ++n) (void)rig.remove(numbered("k", n));
  rig.close();
  {
    const auto volume = Members::open(members.all());
    ASSERT_NE(volume, nullptr);
    members.start(*volume);
  }
  std::vector<std::string> fresh;
  for (uint64_t writes = rig.device(1).counts().writes; rig.device(1).counts().writes < writes + 3;) {
    fresh.push_back(numbered("fresh", fresh.size()));
    put_now(rig, fresh.back(), 1, kLone);
  }
  rig.close();
  const auto volume = Members::open(members.all());
  ASSERT_NE(volume, nullptr);
  members.start(*volume);
  EXPECT_EQ(rig.store().counters().recovered_rot, 0u);
  for (uint64_t n = 0; n < kKeys; ++n) EXPECT_FALSE(rig.store().exists(rig.key(numbered("k", n)))) << n;
  for (const std::string& name : fresh) rig.expect(name, bytes_of(name, 1, kLone));
}

// --- 8: namespaces ---------------------------------------------------------------------------------------------------

/// The same names, in stores of their own and in one store that is formatted again. No id may come twice, so that bytes
/// of one never verify in the other.
TEST(Rule08Namespaces, NoIdComesTwice) {
  std::set<uint64_t> ids;
  size_t made = 0;
  Members members(2), others(2);
  for (Members* m : {&members, &others, &members}) {
    ASSERT_TRUE(volume::Volume::format(m->all(), {.shards = 1, .force = true}).ok());
    for (const char* name : {"a", "b", "c"}) {
      const auto volume = Members::open(m->all());
      ASSERT_NE(volume, nullptr);
      const uint64_t id = volume->namespace_id(name).value();
      ids.insert(id);
      ++made;
      EXPECT_EQ(Members::open(m->all())->namespace_id(name).value(), id);
    }
  }
  EXPECT_EQ(ids.size(), made);
}

TEST(Rule08Namespaces, AFlushIsARecordInEachLog) {
  const std::string keys[] = {key_at_home(2, 0, "here"), key_at_home(2, 1, "there")};
  for (size_t slow = 0; slow < 2; ++slow) {
    Rig rig(2, kDriveBytes);
    for (const std::string& k : keys) put_now(rig, k, 1, kLone);
    FlushOp flush;
    bool done = false;
    flush.namespace_id = kNamespace;
    flush.context = &done;
    flush.on_done = [](StoreOp& o) { *static_cast<bool*>(o.context) = true; };
    rig.device(slow).set_gate(is_write);
    rig.store().flush_namespace(flush);
    rig.reactor().advance(10 * kMs);
    EXPECT_FALSE(done);
    rig.device(slow).set_gate({});
    rig.device(slow).release_all();
    rig.reactor().advance(10 * kMs);
    ASSERT_TRUE(done);
    rig.power_cut_and_open();
    for (const std::string& k : keys) EXPECT_FALSE(rig.store().exists(rig.key(k))) << k;
  }
}

// --- 9: file lock ----------------------------------------------------------------------------------------------------

class Rule09FileLock : public testing::Test {
 protected:
  Rule09FileLock() {
    std::string name = (std::filesystem::temp_directory_path() / "memkv-rules-XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    path_ = folder_ / "drive";
    EXPECT_TRUE(io::create_drive_file(path_, kMi, nullptr, nullptr).ok());
  }
  ~Rule09FileLock() override { std::filesystem::remove_all(folder_); }

  static std::unique_ptr<io::DriveFile> open(const std::string& path, uint32_t wait_ms) {
    auto file = io::DriveFile::open(path, {.lock_wait_ms = wait_ms});
    return file.ok() ? std::move(file).value() : nullptr;
  }

  std::filesystem::path folder_;
  std::string path_;
};

TEST_F(Rule09FileLock, ASecondOpenIsRefused) {
  auto first = open(path_, 0);
  ASSERT_NE(first, nullptr);
  const auto second = io::DriveFile::open(path_, {.lock_wait_ms = 100});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().status, Status::kBusy);
  EXPECT_EQ(flock(first->fd(), LOCK_EX | LOCK_NB), 0) << "the lock is not on the descriptor used for writes";
  first.reset();
  EXPECT_NE(open(path_, 0), nullptr);
}

TEST_F(Rule09FileLock, AStartWaitsForTheOneBeforeToEnd) {
  auto first = open(path_, 0);
  ASSERT_NE(first, nullptr);
  std::thread end([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    first.reset();
  });
  EXPECT_NE(open(path_, 20'000), nullptr);
  end.join();
}

// --- 10: durable means durable ---------------------------------------------------------------------------------------

TEST(Rule10Durable, AcknowledgedIsPastTheDrivesCache) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(seed);
    Rig rig(2, kDriveBytes);
    rig.seed_ = seed * 1000;
    rig.plan_.volatile_cache = true;
    rig.dsync_ = true;
    rig.reopen();
    uint64_t n = 0;
    for (int round = 0; round < 3; ++round) {
      const uint64_t from = n;
      for (const size_t size : {size_t{100}, size_t{5'000}, kLone, size_t{2 * kMi}, size_t{1}, kLone}) {
        put_now(rig, numbered("k", n++), 1, size);
      }
      ASSERT_EQ(rig.put_large("large", bytes_of("large", n, 5 * kMi)), Status::kOk);
      ASSERT_EQ(rig.remove(numbered("k", from)), Status::kOk);
      rig.power_cut_and_open();
      rig.expect("large", bytes_of("large", n, 5 * kMi));
      EXPECT_FALSE(rig.store().exists(rig.key(numbered("k", from))));
      size_t at = 1;
      for (const size_t size : {size_t{5'000}, kLone, size_t{2 * kMi}, size_t{1}, kLone}) {
        const std::string k = numbered("k", from + at++);
        rig.expect(k, bytes_of(k, 1, size));
      }
    }
  }
}

/// Moves of reclaim must be durable as well, since the segment that they came from is written again.
TEST(Rule10Durable, MovedIsPastTheDrivesCache) {
  Rig rig(1, kDriveBytes);
  rig.plan_.volatile_cache = true;
  rig.dsync_ = true;
  rig.reopen();
  const std::string hot = bytes_of("hot", 1, kLone);
  put_now(rig, "hot", 1, kLone);
  for (uint64_t n = 0; n * kLone < 3 * kDriveBytes; ++n) {
    put_now(rig, numbered("fill", n), 1, kLone);
    if (n % 8 == 0) rig.expect("hot", hot);
  }
  rig.power_cut_and_open();
  rig.expect("hot", hot);
}

}  // namespace
}  // namespace memkv::engine

namespace {

/// False: there is no such rule.
bool take_out(const char* number) {
  memkv::base::TestRules& r = memkv::base::test_rules();
  bool* const rules[] = {
      &r.acknowledged_in_order, &r.own_place,  &r.complete_up_to,    &r.dies_where_it_lies, &r.freed_waits,
      &r.sequences_reserved,    &r.membership, &r.random_namespaces, &r.file_lock,          &r.durable};
  const size_t n = std::strtoul(number, nullptr, 10);
  if (n < 1 || n > std::size(rules)) return false;
  *rules[n - 1] = false;
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr std::string_view kTakeOut = "--take-out=";
  for (int i = 1; i < argc; ++i) {
    if (!std::string_view(argv[i]).starts_with(kTakeOut)) continue;
    if (take_out(argv[i] + kTakeOut.size())) continue;
    std::fprintf(stderr, "%s: there are rules 1 to 10\n", argv[i]);
    return 2;
  }
  memkv::base::set_log_level(memkv::base::LogLevel::kOff);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
