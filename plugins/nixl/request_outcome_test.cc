/// What a post comes to, told outcome by outcome: no session, no server.

#include "request_outcome.h"

#include <gtest/gtest.h>

namespace memkv::nixl {
namespace {

using abi::Operation;
using PutEnd = RequestOutcome::PutEnd;
using Next = RequestOutcome::Next;

constexpr uint64_t kBytes = 1000;

/// A range of object `object`, which has kBytes.
struct Range {
  size_t object = 0;
  uint64_t offset = 0;
  uint64_t length = kBytes;
};

class Judged : public testing::Test {
 protected:
  /// Plans a request of these ranges, each with memory of its own.
  void plan(Operation operation, const std::vector<Range>& ranges) {
    plan_ = std::make_unique<RequestPlan>(operation, options_, movers_);
    outcome_ = std::make_unique<RequestOutcome>(*plan_, counters_);
    abi::MetaList local, remote;
    local.memory = abi::Memory::kDram;
    remote.memory = abi::Memory::kObject;
    for (size_t i = 0; i < ranges.size(); i++) {
      local.descs.push_back({{0x100000 * (i + 1), ranges[i].length, 0}, memory_.get()});
      remote.descs.push_back({{ranges[i].offset, ranges[i].length, 0}, objects_.at(ranges[i].object).get()});
    }
    ASSERT_EQ(check_lists(registry_, local, remote), abi::Status::kSuccess);
    Planner planner;
    plan_->plan(planner, local, remote);
    outcome_->prepare();
    outcome_->begin();
  }
  static Outcome with(memkv::Status status, uint64_t bytes = 0) { return {.status = status, .bytes = bytes}; }
  uint32_t key_of(uint32_t op) const { return plan_->wire_op(op).key; }
  static abi::BlobDesc object(const std::string& key) {
    abi::BlobDesc desc;
    desc.length = kBytes;
    desc.meta_info = key;
    return desc;
  }

  Options options_;
  LocalMovers movers_{4 << 20};
  Counters counters_;
  Registry registry_{""};
  const Registry::Owned memory_ = registry_.add_memory({{4096, SIZE_MAX >> 1, 0}, ""}, MemoryKind::kHost);
  std::vector<Registry::Owned> objects_ = [this] {
    std::vector<Registry::Owned> objects;
    for (const char* key : {"a", "b"}) objects.push_back(registry_.add_object(object(key)));
    return objects;
  }();
  std::unique_ptr<RequestPlan> plan_;
  std::unique_ptr<RequestOutcome> outcome_;
};

TEST_F(Judged, of_several_failures_the_one_that_tells_most_is_the_last_word) {
  plan(Operation::kRead, {{0}, {1}});
  ASSERT_EQ(plan_->wire_op_count(), 2u);
  outcome_->judge(0, with(memkv::Status::kUnavailable));
  outcome_->judge(1, with(memkv::Status::kMiss));
  EXPECT_EQ(outcome_->end(), abi::Status::kBackend) << "what a server did not say is no miss";
  outcome_->begin();
  outcome_->judge(0, with(memkv::Status::kOk, kBytes));
  outcome_->judge(1, with(memkv::Status::kMiss));
  EXPECT_EQ(outcome_->end(), abi::Status::kNotFound);
  outcome_->begin();
  for (const uint32_t op : {0u, 1u}) outcome_->judge(op, with(memkv::Status::kOk, kBytes));
  EXPECT_EQ(outcome_->end(), abi::Status::kSuccess) << "each post begins anew";
  EXPECT_EQ(counters_.misses.value(), 2u);
  EXPECT_EQ(counters_.unreachable.value(), 1u);
  EXPECT_EQ(counters_.failed_requests.value(), 2u);
}

TEST_F(Judged, a_canceled_post_is_canceled_whatever_came) {
  plan(Operation::kRead, {{0}});
  outcome_->judge(0, with(memkv::Status::kUnavailable));
  outcome_->cancel();
  EXPECT_EQ(outcome_->end(), abi::Status::kCanceled);
  EXPECT_EQ(counters_.canceled_requests.value(), 1u);
  EXPECT_EQ(counters_.failed_requests.value(), 0u);
}

TEST_F(Judged, copies_follow_what_was_fetched_but_not_in_a_canceled_post) {
  plan(Operation::kRead, {{0}, {0}});
  ASSERT_EQ(plan_->wire_op_count(), 1u) << "the same range twice";
  EXPECT_EQ(outcome_->judge(0, with(memkv::Status::kOk, kBytes)), Next::kCopies);
  outcome_->cancel();
  EXPECT_EQ(outcome_->judge(0, with(memkv::Status::kOk, kBytes)), Next::kNothing);
}

TEST_F(Judged, a_read_is_taken_apart_when_something_is_missing_not_when_a_server_is) {
  plan(Operation::kRead, {{0, 0, 500}, {0, 500, 500}});
  ASSERT_EQ(plan_->wire_op_count(), 1u);
  EXPECT_EQ(outcome_->judge(0, with(memkv::Status::kMiss)), Next::kApart);
  EXPECT_EQ(outcome_->judge(0, with(memkv::Status::kOk, 700)), Next::kApart) << "short";
  EXPECT_EQ(outcome_->judge(0, with(memkv::Status::kDeadline)), Next::kNothing);
  Outcome silent = with(memkv::Status::kMiss);
  silent.unreachable = true;
  EXPECT_EQ(outcome_->judge(0, silent), Next::kNothing);
}

TEST_F(Judged, what_a_put_came_to_is_kept_for_keys_that_are_written_to_as_well) {
  plan(Operation::kWrite, {{0, 0, kBytes}, {0, 2000, 10}, {1, 0, kBytes}});
  ASSERT_EQ(plan_->stages().size(), 2u);
  ASSERT_EQ(plan_->mixed_key_count(), 1u);
  const uint32_t range = plan_->stages()[1].wire_op_first;
  const uint32_t put = key_of(0) == key_of(range) ? 0 : 1;
  ASSERT_EQ(key_of(put), key_of(range));
  EXPECT_EQ(outcome_->put_end(key_of(put)), PutEnd::kFailed);
  outcome_->judge(put, with(memkv::Status::kRefused));
  EXPECT_EQ(outcome_->put_end(key_of(put)), PutEnd::kFailed);
  outcome_->note_present(put);
  EXPECT_EQ(outcome_->put_end(key_of(put)), PutEnd::kPresent);
  outcome_->judge(put, with(memkv::Status::kOk, kBytes));
  EXPECT_EQ(outcome_->put_end(key_of(put)), PutEnd::kStored);
  outcome_->note_present(put);
  EXPECT_EQ(outcome_->put_end(key_of(put)), PutEnd::kStored) << "the best of several";
  outcome_->begin();
  EXPECT_EQ(outcome_->put_end(key_of(put)), PutEnd::kFailed);
}

}  // namespace
}  // namespace memkv::nixl
