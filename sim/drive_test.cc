/// The simulated drive: what it loses, tears and damages, and what it never does.

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "sim/drive.h"

namespace memkv::sim {
namespace {

constexpr uint64_t kSector = base::kSectorBytes;

class SimulatedDrive : public testing::Test {
 protected:
  void make(bool volatile_cache, uint64_t seed = 7) {
    drive_ = std::make_unique<Drive>(world_, 0, Drive::Options{.bytes = 64 * kSector, .volatile_cache = volatile_cache},
                                     seed);
    drive_->set_slices({0, 64 * kSector});
    file_ = drive_->open();
    device_ = file_->bind(loop_);
  }
  struct Write {
    io::IoOp op;
    alignas(4096) std::byte bytes[4 * kSector];
    iovec piece{};
    int32_t result = 1;
  };
  void start(Write& write, uint64_t sector, char fill, bool dsync = false) {
    std::memset(write.bytes, fill, sizeof write.bytes);
    write.piece = {write.bytes, sizeof write.bytes};
    write.op.context = &write;
    write.op.on_done = [](io::IoOp& op, int32_t result) { static_cast<Write*>(op.context)->result = result; };
    ASSERT_TRUE(device_->write(write.op, sector * kSector, {&write.piece, 1}, dsync).ok());
  }
  void finish(Write& write) {
    while (write.result == 1) {
      world_.run_for(kMs);
      loop_.run_once(0);
    }
  }
  char at(uint64_t sector) {
    std::vector<std::byte> bytes(kSector);
    EXPECT_TRUE(file_->read_now(sector * kSector, bytes).ok());
    return static_cast<char>(bytes[17]);
  }

  World world_{1};
  Network network_{world_};
  SimLoop loop_{world_, network_, SimLoop::Likeness::kUring, 0};
  std::unique_ptr<Drive> drive_;
  std::unique_ptr<io::DriveFile> file_;
  std::unique_ptr<io::BlockDevice> device_;
  Write first_, second_, third_;
};

TEST_F(SimulatedDrive, an_unwritten_sector_is_zeros_and_a_written_one_is_read_back) {
  make(false);
  EXPECT_EQ(at(3), 0);
  start(first_, 3, 'a');
  EXPECT_EQ(first_.result, 1) << "never inside the submit";
  finish(first_);
  EXPECT_EQ(first_.result, static_cast<int32_t>(4 * kSector));
  EXPECT_EQ(at(6), 'a');
  EXPECT_EQ(at(7), 0);
}

TEST_F(SimulatedDrive, a_power_cut_loses_what_only_the_cache_holds) {
  bool lost = false;
  for (uint64_t round = 0; round < 20 && !lost; round++) {
    make(true);
    start(first_, 0, 'd', /*dsync=*/true);
    finish(first_);
    start(second_, 8, 'c');
    finish(second_);
    EXPECT_EQ(at(8), 'c') << "read from the cache";
    drive_->cut_power();
    for (uint64_t sector = 0; sector < 4; sector++) EXPECT_EQ(at(sector), 'd');
    for (uint64_t sector = 8; sector < 12; sector++) lost = lost || at(sector) == 0;
    first_.result = second_.result = 1;
  }
  EXPECT_TRUE(lost);
}

TEST_F(SimulatedDrive, an_error_is_told_and_ends_with_its_time) {
  make(false);
  drive_->faults().write_error = 1;
  drive_->faults().errors_until_ns = world_.now_ns() + kSecond;
  start(first_, 0, 'e');
  finish(first_);
  EXPECT_EQ(first_.result, -EIO);
  world_.run_for(kSecond);
  start(second_, 0, 'f');
  finish(second_);
  EXPECT_EQ(at(0), 'f');
}

TEST_F(SimulatedDrive, a_lost_write_counts_as_damage_until_something_is_written_behind_it) {
  make(false);
  drive_->faults().lost_write = 1;
  drive_->faults().errors_until_ns = world_.now_ns() + kSecond;
  start(first_, 0, 'l');
  finish(first_);
  EXPECT_GT(first_.result, 0);
  EXPECT_EQ(at(0), 0);
  EXPECT_TRUE(drive_->newest_damaged());
  drive_->faults() = {};
  start(second_, 4, 'm');
  finish(second_);
  EXPECT_FALSE(drive_->newest_damaged());
}

/// A write vouches only for writes that its writer knew to be complete when it began, like an extent's mark.
TEST_F(SimulatedDrive, writes_in_flight_together_do_not_tell_of_each_other) {
  bool first_was_hit = false, second_was_hit = false;
  for (int round = 0; round < 40; round++) {
    make(false, static_cast<uint64_t>(round));
    first_.result = second_.result = third_.result = 1;
    start(first_, 0, 'f');
    if (round % 2 == 0) world_.run_for(kMs);  // it ends, but its owner does not know yet
    start(second_, 4, 's');
    finish(first_);
    finish(second_);
    const auto sector = drive_->rot(false);
    ASSERT_TRUE(sector.has_value());
    (*sector < 4 ? first_was_hit : second_was_hit) = true;
    EXPECT_TRUE(drive_->newest_damaged()) << "sector " << *sector;
    start(third_, 8, 't');
    EXPECT_TRUE(drive_->newest_damaged());
    finish(third_);
    EXPECT_FALSE(drive_->newest_damaged());
  }
  EXPECT_TRUE(first_was_hit && second_was_hit);
}

/// A write does not vouch for anything behind the first write that is still in flight.
TEST_F(SimulatedDrive, a_write_does_not_tell_of_what_stands_behind_one_in_flight) {
  int second_was_hit = 0;
  for (uint64_t seed = 1; seed <= 40; seed++) {
    make(false, seed);
    first_.result = second_.result = third_.result = 1;
    drive_->faults().slow_ns_max = 10 * kSecond;
    drive_->faults().slow_until_ns = world_.now_ns() + 1;
    start(first_, 0, 'f');  // this one takes long
    world_.run_for(2);
    start(second_, 4, 's');
    finish(second_);
    start(third_, 8, 't');
    finish(third_);
    if (first_.result == 1 && drive_->rot(false).value_or(8) < 8) {
      second_was_hit++;
      EXPECT_TRUE(drive_->newest_damaged());
    }
    finish(first_);
  }
  EXPECT_GT(second_was_hit, 5);
}

TEST_F(SimulatedDrive, rot_turns_one_bit_over) {
  make(false);
  start(first_, 0, 'r');
  finish(first_);
  const auto sector = drive_->rot(false);
  ASSERT_TRUE(sector.has_value());
  std::vector<std::byte> bytes(kSector);
  ASSERT_TRUE(file_->read_now(*sector * kSector, bytes).ok());
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), std::byte{'r'}), static_cast<ptrdiff_t>(kSector - 1));
}

TEST_F(SimulatedDrive, of_two_copies_one_stays_good_until_the_other_is_written_again) {
  make(false);
  drive_->set_copies({0, 2});
  const auto good = [&](uint64_t sector) {
    std::vector<std::byte> bytes(kSector);
    EXPECT_TRUE(file_->read_now(sector * kSector, bytes).ok());
    return std::count(bytes.begin(), bytes.end(), std::byte{'c'}) == static_cast<ptrdiff_t>(kSector);
  };
  bool first_was_hit = false, second_was_hit = false;
  for (int round = 0; round < 20; round++) {
    first_.result = 1;
    start(first_, 0, 'c');
    finish(first_);
    for (int i = 0; i < 40; i++) (void)(round % 2 == 0 ? drive_->rot(i % 2 == 0) : drive_->zero_sector());
    EXPECT_NE(good(0), good(2));
    EXPECT_FALSE(good(1));
    first_was_hit = first_was_hit || !good(0);
    second_was_hit = second_was_hit || !good(2);
  }
  EXPECT_TRUE(first_was_hit && second_was_hit);
}

}  // namespace
}  // namespace memkv::sim
