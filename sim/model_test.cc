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
  /// `began`: when the read did; 0: now.
  std::string check(Status status, std::span<const std::byte> bytes, Generation generation, uint32_t server = 0,
                    uint64_t began = 0) {
    Model::Read read;
    read.server = server;
    read.start_ns = began != 0 ? began : ++now_;
    read.end_ns = ++now_;
    read.outcome.status = status;
    read.outcome.generation = generation;
    read.bytes = bytes;
    read.length = 64;
    return model_.check(read).value_or("");
  }

  Model model_{2};
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
  model_.note_unreachable(0, now_ + 5);
  EXPECT_EQ(miss(), "");
  now_ += 10;
  EXPECT_NE(miss(), "");
  model_.note_drop(0, ++now_);
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
  model_.note_newest_damaged(0, ++now_);
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

/// Two servers with a history each, and what becomes of the first one's store.
class ModelOfServers : public ModelOfOneKey {
 protected:
  Version begin_at(uint32_t server) {
    Change change;
    change.server = server;
    change.client = 1;
    change.length = 64;
    change.start_ns = ++now_;
    return model_.begin(change);
  }
  Version put(uint32_t server, Generation generation) {
    const Version version = begin_at(server);
    model_.end(version, Status::kOk, generation, ++now_);
    return version;
  }
  std::string get(uint32_t server, Version version, Generation generation, uint64_t began = 0) {
    std::vector<std::byte> bytes(64);
    fill_content(bytes, 0, version, 0);
    return check(Status::kOk, bytes, generation, server, began);
  }
  std::string miss_at(uint32_t server) { return check(Status::kMiss, {}, 0, server); }
  void lose_store(uint32_t server) {
    model_.note_store_gone(server, ++now_);
    model_.note_new_store(server, now_ += 10);
  }
};

TEST_F(ModelOfServers, each_has_a_history_of_its_own) {
  const Version first = put(0, 9), second = put(1, 2);
  EXPECT_EQ(get(0, first, 9), "") << "a newer one at the other server says nothing";
  EXPECT_EQ(get(1, second, 2), "");
  EXPECT_NE(get(1, first, 9).find("another server"), std::string::npos);
  EXPECT_NE(miss_at(1).find("lost"), std::string::npos);
}

TEST_F(ModelOfServers, a_reason_holds_for_its_server_only) {
  put(0, 1), put(1, 1);
  model_.note_drop(0, ++now_);
  EXPECT_EQ(miss_at(0), "");
  EXPECT_NE(miss_at(1).find("lost"), std::string::npos);
}

TEST_F(ModelOfServers, with_its_store_goes_what_was_in_it_and_nothing_else) {
  const Version old = put(0, 100), other = put(1, 5);
  lose_store(0);
  EXPECT_EQ(miss_at(0), "");
  EXPECT_NE(get(0, old, 100).find("is gone"), std::string::npos) << "it does not come back";
  EXPECT_NE(miss_at(1).find("lost"), std::string::npos) << "of the other server";
  EXPECT_EQ(get(1, other, 5), "");
  const Version fresh = put(0, 1);
  EXPECT_EQ(get(0, fresh, 1), "") << "generations begin again";
  EXPECT_NE(miss_at(0).find("lost"), std::string::npos) << "the reason is used up";
  EXPECT_NE(get(0, old, 100), "");
}

TEST_F(ModelOfServers, what_was_under_way_when_the_store_went_may_be_in_either) {
  const Version under_way = begin_at(0);
  const uint64_t before = now_;
  lose_store(0);
  model_.end(under_way, Status::kOk, 100, ++now_);
  EXPECT_EQ(miss_at(0), "") << "it was in the old one";
  EXPECT_EQ(get(0, under_way, 1), "") << "it is in the new one";
  const Version fresh = put(0, 2);
  EXPECT_EQ(get(0, fresh, 2, before), "") << "the read was under way as well";
  EXPECT_NE(get(0, under_way, 1).find("stale"), std::string::npos);
}

TEST_F(ModelOfServers, a_read_that_begins_while_there_is_no_store_sees_the_new_one_only) {
  const Version old = put(0, 100);
  model_.note_store_gone(0, ++now_);
  const uint64_t between = ++now_;
  model_.note_new_store(0, ++now_);
  EXPECT_NE(get(0, old, 100, between).find("is gone"), std::string::npos);
}

}  // namespace
}  // namespace memkv::sim
