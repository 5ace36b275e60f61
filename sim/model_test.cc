/// Tests of the checker itself: each rule lets the right answer through and reports the wrong one.

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "sim/model.h"

namespace memkv::sim {
namespace {

using Kind = Change::Kind;

TEST(Content, of_a_piece_is_that_of_the_whole) {
  std::vector<std::byte> whole(100), piece(100);
  fill_content(whole, 3, 4, 0);
  for (size_t from = 0; from < 20; from++) {
    for (size_t to = from; to <= whole.size(); to++) {
      fill_content({piece.data(), to - from}, 3, 4, from);
      ASSERT_TRUE(std::equal(whole.begin() + static_cast<ptrdiff_t>(from), whole.begin() + static_cast<ptrdiff_t>(to),
                             piece.begin()))
          << from << " to " << to;
    }
  }
}

/// One key of one tenant. Time goes on by one at each step.
class ModelOfOneKey : public testing::Test {
 protected:
  Version begin(Kind kind, uint64_t length = 64, uint32_t client = 1, uint64_t offset = 0) {
    Change change;
    change.kind = kind;
    change.client = client;
    change.length = length;
    change.offset = offset;
    change.start_ns = ++now_;
    return model_.begin(change);
  }
  void end(Version version, Status status) {
    model_.end(version, status, status == Status::kOk ? ++generation_ : 0, ++now_);
    generations_.resize(model_.changes() + 1);
    generations_[version] = generation_;
  }
  Version done(Kind kind, Status status = Status::kOk, uint64_t length = 64, uint32_t client = 1) {
    const Version version = begin(kind, length, client);
    end(version, status);
    return version;
  }
  std::string read(Version version, uint64_t length = 64, Generation generation = 0) {
    std::vector<std::byte> bytes(length);
    fill_content(bytes, 0, version, 0);
    return check(Status::kOk, bytes, generation != 0 ? generation : generation_);
  }
  std::string miss() { return check(Status::kMiss, {}, 0); }
  std::string check(Status status, std::span<const std::byte> bytes, Generation generation) {
    Model::Read read;
    read.start_ns = ++now_;
    read.end_ns = ++now_;
    read.outcome.status = status;
    read.outcome.generation = generation;
    read.bytes = bytes;
    read.length = 64;
    return model_.check(read).value_or("");
  }

  Model model_;
  uint64_t now_ = 100;
  Generation generation_ = 0;
  std::vector<Generation> generations_;
};

TEST_F(ModelOfOneKey, the_newest_is_right_and_an_older_one_is_not) {
  const Version first = done(Kind::kPut), second = done(Kind::kPut);
  EXPECT_EQ(read(second), "");
  EXPECT_NE(read(first).find("stale"), std::string::npos);
  EXPECT_NE(read(second, 64, 1).find("stale"), std::string::npos) << "an older generation";
}

TEST_F(ModelOfOneKey, bytes_that_nobody_wrote) {
  const Version put = done(Kind::kPut);
  std::vector<std::byte> bytes(64);
  fill_content(bytes, 0, put, 0);
  bytes[20] ^= std::byte{1};
  EXPECT_NE(check(Status::kOk, bytes, generation_), "");
  fill_content(bytes, 1, put, 0);
  EXPECT_NE(check(Status::kOk, bytes, generation_), "") << "of another key";
  fill_content(bytes, 0, put, 8);
  EXPECT_NE(check(Status::kOk, bytes, generation_), "") << "of another place";
}

TEST_F(ModelOfOneKey, a_miss_needs_a_reason) {
  const Version put = done(Kind::kPut);
  EXPECT_NE(miss().find("lost"), std::string::npos);
  const Version remove = begin(Kind::kRemove);
  EXPECT_EQ(miss(), "") << "one is under way";
  EXPECT_EQ(read(put), "");
  end(remove, Status::kOk);
  EXPECT_EQ(miss(), "");
  EXPECT_NE(read(put), "") << "removed blocks do not come back";
}

TEST_F(ModelOfOneKey, a_drop_or_a_server_out_of_reach_is_a_reason) {
  done(Kind::kPut);
  model_.note_unreachable(now_ + 5);
  EXPECT_EQ(miss(), "");
  now_ += 10;
  EXPECT_NE(miss(), "");
  model_.note_drop(++now_);
  EXPECT_EQ(miss(), "");
}

TEST_F(ModelOfOneKey, a_refused_change_never_shows) {
  const Version put = done(Kind::kPut), refused = done(Kind::kPut, Status::kRefused);
  EXPECT_EQ(read(put), "");
  EXPECT_NE(read(refused).find("refused"), std::string::npos);
}

TEST_F(ModelOfOneKey, a_given_up_change_may_land_until_a_newer_one_of_its_client_is_acknowledged) {
  const Version put = done(Kind::kPut), given_up = done(Kind::kPut, Status::kUnknown);
  EXPECT_EQ(read(put), "");
  EXPECT_EQ(read(given_up, 64, generation_ + 1), "");
  done(Kind::kPut, Status::kOk, 64, /*client=*/2);
  EXPECT_EQ(read(given_up, 64, generation_ + 1), "") << "another client's says nothing of it";
  done(Kind::kPut, Status::kOk, 64, /*client=*/1);
  EXPECT_NE(read(given_up, 64, generation_ + 1).find("given-up"), std::string::npos);
}

TEST_F(ModelOfOneKey, the_exception_lets_an_older_version_through_and_only_what_was_before_it) {
  const Version first = done(Kind::kPut), second = done(Kind::kPut);
  model_.note_newest_damaged(++now_);
  EXPECT_EQ(read(first), "");
  EXPECT_EQ(model_.stale_excused(), 1u);
  const Version third = done(Kind::kPut);
  EXPECT_NE(read(second), "");
  EXPECT_EQ(read(third), "");
}

TEST_F(ModelOfOneKey, a_range_write_covers_its_range_only) {
  const Version put = done(Kind::kPut);
  const Version write = begin(Kind::kWrite, 16, 1, 16);
  end(write, Status::kOk);
  std::vector<std::byte> bytes(64);
  fill_content(bytes, 0, put, 0);
  EXPECT_NE(check(Status::kOk, bytes, generation_), "") << "without the write";
  fill_content(std::span(bytes).subspan(16, 16), 0, write, 16);
  EXPECT_EQ(check(Status::kOk, bytes, generation_), "");
}

}  // namespace
}  // namespace memkv::sim
