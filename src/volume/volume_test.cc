#include "volume/volume.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "base/bytes.h"
#include "base/log.h"
#include "format/format_check.h"
#include "format/layout.h"
#include "volume/fake_drive.h"
#include "volume/membership.h"

namespace memkv::volume {
namespace {

using testing::HasSubstr;

constexpr uint64_t kDriveBytes = uint64_t{1} << 30;

class VolumeTest : public testing::Test {
 protected:
  using Files = std::vector<io::DriveFile*>;

  explicit VolumeTest(int drives = 3) {
    base::set_log_level(base::LogLevel::kOff);
    for (int i = 0; i < drives; ++i) add(kDriveBytes);
  }
  ~VolumeTest() override { base::set_log_level(base::LogLevel::kInfo); }

  FakeDrive& add(uint64_t size_bytes) {
    drives_.push_back(std::make_unique<FakeDrive>("drive-" + std::to_string(drives_.size()), size_bytes, power_));
    return *drives_.back();
  }
  Files all() const {
    Files files;
    for (const auto& drive : drives_) files.push_back(drive.get());
    return files;
  }
  Files some(std::initializer_list<size_t> indexes) const {
    Files files;
    for (const size_t i : indexes) files.push_back(drives_[i].get());
    return files;
  }
  void format(const FormatOptions& options = {}) {
    ASSERT_TRUE(Volume::format(all(), options).ok());
    first_life_ = drives_[0]->copy(0).life;
  }
  static std::unique_ptr<Volume> open(const Files& files, std::vector<std::string> accept_loss = {}) {
    auto volume = Volume::open(files, {std::move(accept_loss)});
    EXPECT_TRUE(volume.ok()) << (volume.ok() ? "" : volume.error().text);
    return volume.ok() ? std::move(volume).value() : nullptr;
  }
  static std::string format_error(const Files& files, const FormatOptions& options = {}) {
    const auto done = Volume::format(files, options);
    return done.ok() ? "formatted" : done.error().text;
  }
  static std::string open_error(const Files& files, std::vector<std::string> accept_loss = {}) {
    const auto volume = Volume::open(files, {std::move(accept_loss)});
    return volume.ok() ? "opened" : volume.error().text;
  }
  std::string name(size_t i) {
    char text[9];
    const uint8_t* id = drives_[i]->copy(0).drive_id;
    std::snprintf(text, sizeof text, "%02x%02x%02x%02x", id[0], id[1], id[2], id[3]);
    return text;
  }
  static std::string hex(const uint8_t (&id)[16]) {
    std::string text;
    for (const uint8_t byte : id) {
      char digits[3];
      std::snprintf(digits, sizeof digits, "%02x", byte);
      text += digits;
    }
    return text;
  }
  /// True if both copies hold the life that the drive got at format: what was written since then is still there.
  bool full(size_t i) { return drives_[i]->copy(0).life == first_life_ && drives_[i]->copy(1).life == first_life_; }
  /// True if neither copy holds that life any more.
  bool emptied(size_t i) { return drives_[i]->copy(0).life != first_life_ && drives_[i]->copy(1).life != first_life_; }

  FakePower power_;
  std::vector<std::unique_ptr<FakeDrive>> drives_;
  uint64_t first_life_ = 0;  // of the drive, as format drew it
};

// --- format ----------------------------------------------------------------------------------------------------------

TEST_F(VolumeTest, FormattedDrivesOpenWithAllTheirFields) {
  add(2 * kDriveBytes);
  format();
  const auto volume = open(all());
  ASSERT_EQ(volume->drive_count(), 4u);
  EXPECT_TRUE(volume->missing().empty());
  EXPECT_EQ(volume->superblock().membership_epoch, 1u);
  EXPECT_EQ(volume->superblock().stripe_width, 4u);
  EXPECT_NE(volume->superblock().digest_key[0], 0u);
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(volume->drive(i), drives_[i].get());
    EXPECT_EQ(volume->superblock_of(i).drive_index, i);
  }
  EXPECT_GT(volume->superblock_of(3).slice_bytes, volume->superblock_of(0).slice_bytes);
  EXPECT_EQ(volume->slice_offset(0, 0), format::kSlicesOffset);
}

TEST_F(VolumeTest, FormatWritesValidAnchorsInBothPlaces) {
  ASSERT_TRUE(Volume::format(all(), {.shards = 4}).ok());
  const auto volume = open(all());
  for (uint32_t shard = 0; shard < 4; ++shard) {
    for (const uint64_t copy : {0, 1}) {
      format::Anchor anchor;
      std::memcpy(&anchor, drives_[1]->sectors[volume->slice_offset(1, shard) + copy * base::kSectorBytes].data(),
                  sizeof anchor);
      EXPECT_TRUE(valid(anchor, format::store_seed(volume->superblock().store_id)));
      EXPECT_EQ(anchor.shard, shard);
      EXPECT_EQ(anchor.drive_index, 1u);
      EXPECT_EQ(anchor.sequence_end, 1u);
    }
  }
}

TEST_F(VolumeTest, FormatSaysWhatIsWrongWhereAndWhatToDo) {
  EXPECT_THAT(format_error({}), HasSubstr("no drives given"));
  EXPECT_THAT(format_error(some({0, 1, 0})), HasSubstr("drive-0 and drive-0 are the same drive: name it once"));
  EXPECT_THAT(format_error(all(), {.shards = 3}), HasSubstr("3 shards: give a power of two from 1 to 32"));
  EXPECT_THAT(format_error(all(), {.stripe_width = 0}), HasSubstr("stripe width 0"));
  FakeDrive& small = add(8 << 20);
  EXPECT_THAT(format_error({&small}),
              AllOf(HasSubstr("drive-3: too small"),
                    HasSubstr("needs at least " + std::to_string(format::drive_bytes_min(1)) + " bytes"),
                    HasSubstr("use a larger drive")));
  EXPECT_THAT(format_error(some({0}), {.shards = 32}), HasSubstr("formatted"));
  EXPECT_THAT(format_error({&small}, {.shards = 2}), HasSubstr("or fewer shards"));
}

TEST_F(VolumeTest, FormattedDrivesAreOverwrittenOnlyByForce) {
  format();
  const std::string id = hex(drives_[0]->copy(0).store_id);
  EXPECT_THAT(format_error(all()),
              AllOf(HasSubstr("drive-0: already formatted, by store " + id), HasSubstr("--force")));
  drives_[1]->copy(0).checksum ^= 1;
  drives_[1]->copy(1).checksum ^= 1;
  EXPECT_THAT(format_error(some({1})), AllOf(HasSubstr("damaged or newer"), HasSubstr("--force")));
  EXPECT_TRUE(Volume::format(all(), {.force = true}).ok());
  EXPECT_NE(hex(open(all())->superblock().store_id), id);
}

/// A second format is interrupted after each of its writes in turn. On each drive the former store is then gone or
/// whole, and it never opens with new anchors.
TEST_F(VolumeTest, FormatCutShortLeavesNoFormerStoreBehind) {
  format();
  const std::string former = hex(drives_[0]->copy(0).store_id);
  for (int64_t cut = 0;; ++cut) {
    power_.writes_left = cut;
    const bool done = Volume::format(all(), {.force = true}).ok();
    power_.writes_left = INT64_MAX;
    if (done) break;
    const auto volume = Volume::open(all(), {});
    // The first write takes one copy of one superblock away. Nothing is lost by that: the former store opens from the
    // other copy.
    if (cut <= 1 || !volume.ok()) continue;
    EXPECT_NE(hex((*volume)->superblock().store_id), former) << "cut after " << cut;
  }
}

// --- open: refusals --------------------------------------------------------------------------------------------------

TEST_F(VolumeTest, OpenSaysWhatIsWrongWhereAndWhatToDo) {
  EXPECT_THAT(open_error({}), HasSubstr("no drives given"));
  EXPECT_THAT(open_error(all()), AllOf(HasSubstr("drive-0: not formatted"), HasSubstr("memkv setup --drive drive-0")));
}

TEST_F(VolumeTest, NewerFormatIsNamedWithBothVersions) {
  format();
  for (const int copy : {0, 1}) {
    drives_[1]->copy(copy).format_version = 7;
    seal(drives_[1]->copy(copy));
  }
  EXPECT_THAT(open_error(all()), AllOf(HasSubstr("drive-1: has format version 7, this program knows 2"),
                                       HasSubstr("use a newer program")));
}

TEST_F(VolumeTest, DriveOfAnotherStoreIsNamedWithBothIds) {
  format();
  const std::string id = hex(drives_[0]->copy(0).store_id);
  FakeDrive& foreign = add(kDriveBytes);
  ASSERT_TRUE(Volume::format({&foreign}, {}).ok());
  EXPECT_THAT(open_error(all()), AllOf(HasSubstr("drive-3 belongs to another store (" + hex(foreign.copy(0).store_id)),
                                       HasSubstr("than drive-0 (" + id)));
}

TEST_F(VolumeTest, OneDamagedSuperblockIsMadeGoodTwoAreRefused) {
  format();
  drives_[1]->copy(1).shard_seed ^= 1;
  ASSERT_NE(open(all()), nullptr);
  EXPECT_TRUE(valid(drives_[1]->copy(1)));
  drives_[1]->copy(0).shard_seed ^= 1;
  drives_[1]->copy(1).shard_seed ^= 1;
  EXPECT_THAT(open_error(all()), AllOf(HasSubstr("drive-1: both superblocks are damaged"),
                                       HasSubstr("leave the drive out"), HasSubstr("format it anew")));
}

TEST_F(VolumeTest, SealedNonsenseCountsAsDamaged) {
  format();
  for (const int copy : {0, 1}) {
    drives_[1]->copy(copy).member_count = 1000;
    seal(drives_[1]->copy(copy));
  }
  EXPECT_THAT(open_error(all()), HasSubstr("drive-1: both superblocks are damaged"));
}

TEST_F(VolumeTest, CopyOfADriveIsRefused) {
  format();
  FakeDrive& copy = add(kDriveBytes);
  copy.sectors = drives_[1]->sectors;
  EXPECT_THAT(open_error(all()),
              HasSubstr("drive-1 and drive-3 are the same drive " + name(1) + " or one is a copy of the other"));
}

TEST_F(VolumeTest, ShrunkDriveIsRefused) {
  format();
  drives_[2]->resize(kDriveBytes / 2);
  EXPECT_THAT(open_error(all()), AllOf(HasSubstr("drive-2 has shrunk"), HasSubstr(std::to_string(kDriveBytes))));
}

TEST_F(VolumeTest, UnreadableDriveCountsAsMissing) {
  format();
  drives_[2]->fail_reads = true;
  EXPECT_EQ(open(all())->missing(), std::vector<std::string>{name(2)});
  drives_[1]->fail_reads = true;
  EXPECT_THAT(open_error(all()), HasSubstr("drive-1 cannot be read"));
  drives_[0]->fail_reads = true;
  EXPECT_THAT(open_error(all()), HasSubstr("cannot be read, and no other drive is there"));
}

// --- open: membership ------------------------------------------------------------------------------------------------

TEST_F(VolumeTest, MoreThanHalfOpensDegradedAndNamesTheMissing) {
  format();
  const auto volume = open(some({0, 2}));
  EXPECT_EQ(volume->missing(), std::vector<std::string>{name(1)});
  EXPECT_EQ(volume->drive(1), nullptr);
  EXPECT_EQ(volume->superblock().membership_epoch, 2u);
  EXPECT_EQ(volume->superblock().members_in, 5u);
}

TEST_F(VolumeTest, HalfOrFewerNeedTheirLossAcceptedByName) {
  add(kDriveBytes);
  format();
  EXPECT_THAT(open_error(some({0, 1})),
              AllOf(HasSubstr("only 2 of 4 drives"), HasSubstr("drive 2 (" + name(2)), HasSubstr("drive 3 (" + name(3)),
                    HasSubstr("--accept-loss " + name(2) + " --accept-loss " + name(3))));
  EXPECT_THAT(open_error(some({0, 1}), {name(2)}), HasSubstr("only 2 of 4 drives"));
  EXPECT_THAT(open_error(some({0, 1}), {name(2), "0badf00d"}),
              HasSubstr("--accept-loss 0badf00d: no such drive is missing"));
  EXPECT_THAT(open_error(some({0, 1}), {name(2), name(3), name(0)}), HasSubstr("no such drive is missing"));
  const auto volume = open(some({0, 1}), {name(2), name(3)});
  EXPECT_EQ(volume->missing().size(), 2u);
  EXPECT_EQ(volume->superblock().members_in, 3u);
}

TEST_F(VolumeTest, DriveThatWasMissingComesBackEmpty) {
  format();
  ASSERT_NE(open(some({0, 1})), nullptr);
  const auto volume = open(all());
  EXPECT_TRUE(full(0));
  EXPECT_TRUE(full(1));
  EXPECT_TRUE(emptied(2));
  EXPECT_TRUE(volume->missing().empty());
  EXPECT_EQ(volume->superblock().members_in, 7u);
  EXPECT_EQ(volume->superblock().membership_epoch, 3u);
}

TEST_F(VolumeTest, DriveTakenOutComesBackEmpty) {
  format();
  auto volume = open(all());
  ASSERT_TRUE(volume->take_out(1).ok());
  EXPECT_EQ(volume->drive(1), nullptr);
  EXPECT_EQ(volume->missing(), std::vector<std::string>{name(1)});
  EXPECT_TRUE(full(1));
  volume = open(all());
  EXPECT_EQ(volume->drive(1), drives_[1].get());
  EXPECT_TRUE(emptied(1));
}

TEST_F(VolumeTest, EveryReturnBeginsANewLife) {
  format();
  uint64_t life = 0;
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(open(all())->take_out(1).ok());
    const auto volume = open(all());
    EXPECT_NE(volume->superblock_of(1).life, life);
    life = volume->superblock_of(1).life;
    EXPECT_EQ(drives_[1]->copy(0).life, life);
    EXPECT_EQ(drives_[1]->copy(1).life, life);
    EXPECT_EQ(open(all())->superblock_of(1).life, life) << "the drive was there";
    EXPECT_EQ(volume->superblock_of(0).life, first_life_);
  }
}

TEST_F(VolumeTest, OpeningTwiceWritesNothingTheSecondTime) {
  format();
  ASSERT_NE(open(some({0, 1})), nullptr);
  ASSERT_NE(open(all()), nullptr);
  const int64_t before = power_.writes_done;
  ASSERT_NE(open(all()), nullptr);
  EXPECT_EQ(power_.writes_done, before);
}

TEST_F(VolumeTest, ThoseTakenOutAreNoMajority) {
  add(kDriveBytes);
  format();
  auto volume = open(all());
  ASSERT_TRUE(volume->take_out(3).ok());
  ASSERT_TRUE(volume->take_out(2).ok());
  ASSERT_TRUE(volume->take_out(1).ok());
  EXPECT_THAT(open_error(some({1, 2, 3})), HasSubstr("only 1 of 2 drives"));
  EXPECT_THAT(open_error(some({2, 3})), HasSubstr("only 1 of 3 drives"));
  EXPECT_EQ(open(some({0}))->missing().size(), 3u);
}

TEST_F(VolumeTest, TakeOutTakesOutWhatCannotBeToldAsWell) {
  format();
  auto volume = open(all());
  drives_[2]->fail_writes = true;
  ASSERT_TRUE(volume->take_out(1).ok());
  EXPECT_EQ(volume->drive(2), nullptr);
  EXPECT_EQ(volume->superblock().members_in, 1u);
  drives_[0]->fail_writes = true;
  EXPECT_EQ(volume->take_out(1).error().status, Status::kIo);
}

/// The power goes after each write of take_out() in turn: the other drives open, and hold all that they held.
TEST_F(VolumeTest, PowerCutInTakeOutLosesNothingOfTheOthers) {
  for (int64_t cut = 0; cut <= 4; ++cut) {  // two copies on each of two drives
    SCOPED_TRACE(testing::Message() << "cut after " << cut << " writes");
    format({.force = true});
    auto volume = open(all());
    power_.writes_left = cut;
    (void)volume->take_out(1);
    power_.writes_left = INT64_MAX;
    volume = open(all());
    EXPECT_TRUE(full(0));
    EXPECT_TRUE(full(2));
    // Before the third write the new epoch is not on all of its members, so it was never in force, and the drive is
    // still good. From then on the drive is out, and comes back empty.
    EXPECT_TRUE(cut < 3 ? full(1) : emptied(1));
    EXPECT_EQ(volume->superblock().members_in, 7u);
    for (const auto& drive : drives_) {
      const format::Superblock& newest =
          drive->copy(drive->copy(1).write_counter > drive->copy(0).write_counter ? 1 : 0);
      EXPECT_EQ(newest.membership_epoch, volume->superblock().membership_epoch);
    }
  }
}

/// The same while a store opens degraded, and while a drive comes back: a second open ends in the same state.
TEST_F(VolumeTest, PowerCutInOpenCanBeRepeated) {
  for (int64_t cut = 0; cut < 1000; ++cut) {
    SCOPED_TRACE(testing::Message() << "cut after " << cut << " writes");
    format({.force = true});
    ASSERT_TRUE(open(all())->take_out(2).ok());
    power_.writes_left = cut;
    const bool done = Volume::open(all(), {}).ok();
    power_.writes_left = INT64_MAX;
    const auto volume = open(all());
    ASSERT_NE(volume, nullptr);
    EXPECT_TRUE(full(0) && full(1) && emptied(2));
    EXPECT_EQ(volume->superblock().members_in, 7u);
    if (done) return;
  }
  FAIL() << "never got through";
}

TEST_F(VolumeTest, AbortedMembershipOfADriveThatWasAwayIsNotTakenForNewer) {
  format();
  auto volume = open(all());
  power_.writes_left = 1;  // drive 0 alone learns that 1 is out
  (void)volume->take_out(1);
  power_.writes_left = INT64_MAX;
  ASSERT_NE(open(some({1, 2})), nullptr);  // goes on without 0, at the same epoch
  ASSERT_NE(open(all()), nullptr);
  EXPECT_TRUE(emptied(0));
  EXPECT_TRUE(full(1));
  EXPECT_TRUE(full(2));
}

TEST(Membership, TwoEquallyLikelyOnesAreRefused) {
  const MemberState states[] = {{0, 2, 0b101}, {1, 2, 0b110}};
  EXPECT_EQ(decide_membership(states).error().status, Status::kInvalid);
}

// --- namespaces ------------------------------------------------------------------------------------------------------

TEST_F(VolumeTest, NamespaceIdsAreRandomAndStay) {
  format();
  auto volume = open(all());
  const uint64_t a = volume->namespace_id("a").value();
  const uint64_t b = volume->namespace_id("b").value();
  EXPECT_NE(a, b);
  EXPECT_GT(a, format::kNamespacesMax);
  EXPECT_EQ(volume->namespace_id("a").value(), a);
  volume = open(some({1, 2}));
  EXPECT_EQ(volume->namespace_id("b").value(), b);
  EXPECT_EQ(volume->namespace_id("a").value(), a);
}

TEST_F(VolumeTest, BadNamespaceNamesAndAFullTableAreRefused) {
  format();
  auto volume = open(all());
  EXPECT_EQ(volume->namespace_id("").error().status, Status::kInvalid);
  EXPECT_EQ(volume->namespace_id(std::string(32, 'x')).error().status, Status::kInvalid);
  EXPECT_EQ(volume->namespace_id(std::string_view("a\0b", 3)).error().status, Status::kInvalid);
  EXPECT_TRUE(volume->namespace_id(std::string(31, 'x')).ok());
  for (uint32_t i = 1; i < format::kNamespacesMax; ++i) ASSERT_TRUE(volume->namespace_id("n" + std::to_string(i)).ok());
  EXPECT_EQ(volume->namespace_id("one more").error().status, Status::kTooLarge);
}

TEST_F(VolumeTest, PowerCutWhileANamespaceIsWritten) {
  for (int64_t cut = 0; cut <= 6; ++cut) {
    format({.force = true});
    auto volume = open(all());
    const uint64_t old_id = volume->namespace_id("old").value();
    power_.writes_left = cut;
    const auto made = volume->namespace_id("new");
    EXPECT_EQ(made.ok(), cut == 6);
    power_.writes_left = INT64_MAX;
    volume = open(all());
    EXPECT_EQ(volume->namespace_id("old").value(), old_id);
    const uint64_t new_id = volume->namespace_id("new").value();
    EXPECT_TRUE(!made.ok() || new_id == *made);
    EXPECT_EQ(open(all())->namespace_id("new").value(), new_id);
  }
}

TEST_F(VolumeTest, NamespaceThatFailedIsWrittenWhenAskedAgain) {
  format();
  auto volume = open(all());
  power_.writes_left = 1;
  EXPECT_FALSE(volume->namespace_id("a").ok());
  power_.writes_left = INT64_MAX;
  const uint64_t id = volume->namespace_id("a").value();
  for (const size_t i : {0, 1, 2})
    EXPECT_EQ(drives_[i]->copy(0).namespace_count + drives_[i]->copy(1).namespace_count, 2u);
  EXPECT_EQ(open(all())->namespace_id("a").value(), id);
}

}  // namespace
}  // namespace memkv::volume
