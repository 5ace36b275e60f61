/// Ops from start to end without a server: tries, deadlines, drains, chains and uploads.

#include "client/ops/calls_testing.h"

namespace memkv::client {
namespace {

using wire::OpKind;
constexpr uint64_t kChunk = kChunkBytesMax;

// Tries.

TEST_F(CallsTest, BusyIsTriedAgainAfterAMoment) {
  add(Kind::kRemove, "key");
  submit();
  ASSERT_EQ(kinds(), std::vector{OpKind::kRemove});
  remote.answer(Status::kBusy);
  EXPECT_TRUE(remote.asked.empty()) << "not at once";
  EXPECT_FALSE(done);
  pass(100 * kUs);
  ASSERT_EQ(kinds(), std::vector{OpKind::kRemove});
  remote.answer(Status::kOk, 7);
  EXPECT_TRUE(done);
  EXPECT_EQ(status(), Status::kOk);
  EXPECT_EQ(outcomes[0].generation, 7u);
  EXPECT_EQ(counters().retries.value(), 1u);
}

TEST_F(CallsTest, TriesComeLessOftenButNeverSlowerThanFiveMilliseconds) {
  add(Kind::kRemove, "key");
  submit(10'000 * kMs);
  size_t tries = 0;
  for (uint64_t at = 0; at < 1000 * kMs; at += 50 * kUs) {
    while (!remote.asked.empty()) remote.answer(Status::kNotReady), tries++;
    pass(50 * kUs);
  }
  EXPECT_GE(tries, 200u) << "one in 5 ms at least";
  EXPECT_LE(tries, 700u) << "about one in 2.5 ms, but for the first ones";
}

TEST_F(CallsTest, BusyUntilTheDeadlineIsBusy) {
  add(Kind::kRemove, "key");
  submit(10 * kMs);
  remote.answer(Status::kBusy);
  remote.sends = false;
  pass(10 * kMs);
  EXPECT_TRUE(done);
  EXPECT_EQ(status(), Status::kBusy);
}

TEST_F(CallsTest, TooLateByTheServersClockIsTriedAgainWhileThereIsTime) {
  add(Kind::kRemove, "key");
  submit(100 * kMs);
  remote.answer(Status::kDeadline);
  EXPECT_FALSE(done);
  pass(95 * kMs);
  remote.answer(Status::kDeadline);
  EXPECT_TRUE(done) << "5 ms before its end it is not worth another try";
  EXPECT_EQ(status(), Status::kDeadline);
}

TEST_F(CallsTest, ALostGetIsTriedAgain) {
  add(Kind::kGet, "key", 100);
  submit();
  remote.lose(true);
  pass(kMs);
  ASSERT_EQ(kinds(), std::vector{OpKind::kGet});
  remote.answer(Status::kMiss);
  EXPECT_EQ(status(), Status::kMiss);
}

TEST_F(CallsTest, ALostPutIsUnknownIfItMayHaveLeft) {
  add(Kind::kPut, "key", 100);
  submit();
  remote.leave();
  remote.lose(true);
  EXPECT_TRUE(done);
  EXPECT_EQ(status(), Status::kUnknown);
  EXPECT_TRUE(outcomes[0].unreachable);
  EXPECT_EQ(identity.epoch, 2u) << "no server does it behind what is sent from now on";
}

TEST_F(CallsTest, ALostPutThatHasNotLeftIsTriedAgain) {
  add(Kind::kPut, "key", 100);
  submit();
  remote.leave();
  remote.lose(false);
  EXPECT_FALSE(done);
  pass(kMs);
  remote.answer(Status::kOk, 3);
  EXPECT_EQ(status(), Status::kOk);
  EXPECT_EQ(outcomes[0].bytes, 100u);
  EXPECT_EQ(identity.epoch, 1u);
}

TEST_F(CallsTest, AServerThatCannotBeReachedIsAMissAndARefusal) {
  remote.refused = Status::kUnavailable;
  add(Kind::kGet, "a", 100);
  add(Kind::kPut, "b", 100);
  add(Kind::kRemove, "c");
  submit();
  EXPECT_TRUE(done) << "inside submit";
  EXPECT_EQ(status(0), Status::kMiss);
  EXPECT_EQ(status(1), Status::kRefused);
  EXPECT_EQ(status(2), Status::kUnavailable);
  for (const Outcome& outcome : outcomes) EXPECT_TRUE(outcome.unreachable);
}

TEST_F(CallsTest, BytesThatDoNotMatchAreAskedForOnceMore) {
  add(Kind::kGet, "key", 100);
  submit();
  remote.owner->on_mismatch(remote.take());
  pass(kMs);
  ASSERT_EQ(remote.asked.size(), 1u);
  remote.owner->on_mismatch(remote.take());
  EXPECT_TRUE(done);
  EXPECT_EQ(status(), Status::kMiss);
}

// Deadlines.

TEST_F(CallsTest, ADeadlineEndsAGetToTheMillisecond) {
  add(Kind::kGet, "key", 100);
  submit(10 * kMs);
  pass(10 * kMs - 1);
  EXPECT_FALSE(done);
  remote.silent = true;
  pass(1);
  EXPECT_TRUE(done);
  EXPECT_EQ(status(), Status::kDeadline);
  EXPECT_TRUE(outcomes[0].unreachable);
  EXPECT_EQ(remote.given_up, 1u) << "the server is told";
  EXPECT_EQ(remote.quieted, 1u) << "a reply under way writes nothing more";
}

TEST_F(CallsTest, EachOpHasTheDeadlineOfItsKind) {
  add(Kind::kGet, "a", 100);
  add(Kind::kRemove, "b");
  submit();
  pass(2'100 * kMs);
  EXPECT_EQ(completed, std::vector<uint32_t>{0});
  EXPECT_FALSE(done);
  pass(8'000 * kMs);
  EXPECT_TRUE(done);
}

TEST_F(CallsTest, AChangeThatMayHaveLeftIsUnknownAtItsDeadline) {
  add(Kind::kRemove, "key");
  submit(10 * kMs);
  remote.leave();
  pass(10 * kMs);
  EXPECT_EQ(status(), Status::kUnknown);
  EXPECT_EQ(identity.epoch, 2u);
}

TEST_F(CallsTest, AChangeThatNeverLeftIsNot) {
  remote.sends = false;
  add(Kind::kRemove, "key");
  submit(10 * kMs);
  pass(10 * kMs);
  EXPECT_EQ(status(), Status::kDeadline);
  EXPECT_EQ(identity.epoch, 1u);
  EXPECT_EQ(remote.given_up, 0u);
}

// Drains.

TEST_F(CallsTest, AnOpEndsOnlyWhenNoFrameHoldsItsMemory) {
  add(Kind::kPut, "key", 100);
  submit(10 * kMs);
  pass(10 * kMs);
  EXPECT_FALSE(done) << "the link has its memory";
  pass(2 * kMs);
  EXPECT_EQ(remote.closed, 0u) << "it may still leave";
  remote.leave();
  EXPECT_TRUE(done);
  EXPECT_EQ(status(), Status::kUnknown);
}

TEST_F(CallsTest, AConnectionThatKeepsMemoryTooLongIsClosed) {
  add(Kind::kPut, "key", 100);
  submit(10 * kMs);
  pass(13 * kMs);
  EXPECT_EQ(remote.closed, 1u);
  pass(3 * kMs);
  EXPECT_EQ(remote.closed, 2u) << "and asked for again";
  remote.leave();
  EXPECT_TRUE(done);
}

TEST_F(CallsTest, AServerThatWritesByItselfGetsLongerToLetGo) {
  remote.one_sided = true;
  add(Kind::kPut, "key", 100);
  submit(10 * kMs);
  pass(10 * kMs);
  cancel();  // has no effect any more
  pass(199 * kMs);
  EXPECT_EQ(remote.closed, 0u);
  pass(kMs);
  EXPECT_EQ(remote.closed, 1u);
  remote.leave();
  EXPECT_EQ(status(), Status::kUnknown);
}

TEST_F(CallsTest, AnAnswerMayComeBeforeTheFrameHasLeft) {
  add(Kind::kPut, "key", 100);
  submit();
  remote.owner->on_reply(remote.take(), {.status = Status::kOk}, remote.link);
  EXPECT_FALSE(done);
  remote.leave();
  EXPECT_TRUE(done);
  EXPECT_EQ(status(), Status::kOk);
}

// Chains.

TEST_F(CallsTest, AChainGoesOnAfterAMissAndEndsWithAFailure) {
  add(Kind::kRemove, "a");
  add(Kind::kRemove, "b").chained = true;
  add(Kind::kRemove, "c").chained = true;
  add(Kind::kRemove, "d").chained = true;
  submit();
  EXPECT_EQ(remote.asked.size(), 1u);
  remote.answer(Status::kMiss);
  ASSERT_EQ(remote.asked.size(), 1u);
  EXPECT_EQ(remote.asked[0]->op->key, "b");
  remote.answer(Status::kInternal);
  EXPECT_TRUE(done);
  EXPECT_EQ(status(0), Status::kMiss);
  EXPECT_EQ(status(1), Status::kInternal);
  EXPECT_EQ(status(2), Status::kCanceled);
  EXPECT_EQ(status(3), Status::kCanceled);
  EXPECT_EQ(completed, (std::vector<uint32_t>{0, 1, 2, 3}));
}

TEST_F(CallsTest, ACanceledCallStartsNothingThatIsChained) {
  add(Kind::kGet, "a", 100);
  add(Kind::kRemove, "b").chained = true;
  submit();
  cancel();
  EXPECT_TRUE(done);
  EXPECT_EQ(status(0), Status::kCanceled);
  EXPECT_EQ(status(1), Status::kCanceled);
  EXPECT_TRUE(remote.asked.empty());
}

// Uploads.

TEST_F(CallsTest, ALargePutIsBeginChunksCommit) {
  add(Kind::kPut, "key", kChunk + 1);
  submit();
  ASSERT_EQ(kinds(), std::vector{OpKind::kBegin});
  EXPECT_EQ(remote.asked[0]->offset, kChunk + 1) << "how large the block becomes";
  remote.answer(Status::kOk, 55);
  pass(0);
  calls->on_room(remote), remote.pump();
  ASSERT_EQ(kinds(), (std::vector{OpKind::kChunk, OpKind::kChunk}));
  EXPECT_EQ(remote.asked[0]->op->upload, 55u);
  remote.answer(Status::kOk), remote.answer(Status::kOk);
  remote.pump();
  ASSERT_EQ(kinds(), std::vector{OpKind::kCommit});
  remote.answer({.status = Status::kOk, .generation = 9, .block_bytes = kChunk + 1});
  EXPECT_TRUE(done);
  EXPECT_EQ(status(), Status::kOk);
  EXPECT_EQ(outcomes[0].bytes, kChunk + 1);
  EXPECT_EQ(outcomes[0].generation, 9u);
  EXPECT_TRUE(remote.aborted.empty());
}

TEST_F(CallsTest, AnUploadWhoseLinkIsLostBeginsAgain) {
  add(Kind::kPut, "key", kChunk + 1);
  submit();
  remote.answer(Status::kOk, 55);
  remote.pump(), remote.leave();
  remote.link.epoch++;
  remote.lose(true);
  EXPECT_FALSE(done);
  pass(kMs);
  ASSERT_EQ(kinds(), std::vector{OpKind::kBegin}) << "the other chunk is not sent any more";
  remote.answer(Status::kOk, 56);
  remote.pump();
  EXPECT_EQ(remote.asked.front()->op->upload, 56u);
}

TEST_F(CallsTest, AnUploadThatIsGivenUpIsAborted) {
  add(Kind::kPut, "key", kChunk + 1);
  submit(10 * kMs);
  remote.answer(Status::kOk, 55);
  remote.pump(), remote.leave();
  pass(10 * kMs);
  EXPECT_EQ(status(), Status::kDeadline) << "nothing was committed";
  EXPECT_EQ(remote.aborted, std::vector<uint64_t>{55});
  EXPECT_EQ(identity.epoch, 1u);
}

TEST_F(CallsTest, ALostCommitIsUnknown) {
  add(Kind::kPut, "key", kChunk + 1);
  submit();
  remote.answer(Status::kOk, 55);
  remote.pump();
  remote.answer(Status::kOk), remote.answer(Status::kOk);
  remote.pump();
  ASSERT_EQ(kinds(), std::vector{OpKind::kCommit});
  remote.lose(true);
  EXPECT_EQ(status(), Status::kUnknown);
}

TEST_F(CallsTest, BytesLeaveAsTheyAreFed) {
  add(Kind::kPut, "key", 2 * kChunk).fed = true;
  submit();
  remote.answer(Status::kOk, 55);
  remote.pump();
  EXPECT_TRUE(remote.asked.empty());
  feed(0, kChunk);
  EXPECT_EQ(kinds(), std::vector{OpKind::kChunk});
  feed(0, 2 * kChunk);
  EXPECT_EQ(kinds(), (std::vector{OpKind::kChunk, OpKind::kChunk}));
}

// Gets of several chunks.

wire::OpReply chunk_reply(Generation generation, uint64_t block_bytes) {
  return {.status = Status::kOk, .payload_bytes = kChunk, .generation = generation, .block_bytes = block_bytes};
}

TEST_F(CallsTest, ChunksOfDifferentGenerationsAreAskedForAgain) {
  add(Kind::kGet, "key", 2 * kChunk);
  submit();
  ASSERT_EQ(remote.asked.size(), 2u) << "all leave at once";
  remote.answer(chunk_reply(4, 2 * kChunk)), remote.answer(chunk_reply(5, 2 * kChunk));
  ASSERT_EQ(remote.asked.size(), 2u) << "and again, sent off by nobody else";
  EXPECT_EQ(remote.asked[0]->op->demanded, 5u);
  remote.answer(chunk_reply(5, 2 * kChunk)), remote.answer(chunk_reply(5, 2 * kChunk));
  EXPECT_EQ(status(), Status::kOk);
  EXPECT_EQ(outcomes[0].bytes, 2 * kChunk);
}

TEST_F(CallsTest, ABlockThatIsReplacedTwiceMeanwhileIsAMiss) {
  add(Kind::kGet, "key", 2 * kChunk);
  submit();
  remote.answer(chunk_reply(4, 2 * kChunk)), remote.answer(chunk_reply(5, 2 * kChunk));
  remote.answer(chunk_reply(5, 2 * kChunk)), remote.answer(Status::kChanged);
  EXPECT_TRUE(done);
  EXPECT_EQ(status(), Status::kMiss);
  EXPECT_EQ(outcomes[0].bytes, 0u);
}

TEST_F(CallsTest, TooFewBytesAreAMiss) {
  add(Kind::kGet, "key", 100);
  submit();
  remote.answer({.status = Status::kOk, .payload_bytes = 99, .generation = 1, .block_bytes = 100});
  EXPECT_EQ(status(), Status::kMiss);
}

// Flushes, questions, long lists.

TEST_F(CallsTest, AFlushGoesToEveryWorkerOfTheNewestMap) {
  AdminSlot slot;
  add(Kind::kFlush, {}).admin = &slot;
  submit();
  ASSERT_EQ(remote.asked.size(), 2u);
  remote.answer(Status::kOk);
  remote.map = {.count = 3, .map = 2};
  remote.owner->on_moved(remote.take());
  remote.pump();
  EXPECT_EQ(remote.asked.size(), 3u) << "also to the one that has answered";
  remote.answer(Status::kOk), remote.answer(Status::kInternal);
  EXPECT_FALSE(done);
  remote.answer(Status::kOk);
  EXPECT_EQ(status(), Status::kInternal);
}

TEST_F(CallsTest, ExistsTellsWhetherItIsThere) {
  add(Kind::kExists, "a");
  add(Kind::kExists, "b");
  submit();
  remote.answer(Status::kOk), remote.answer(Status::kMiss);
  EXPECT_TRUE(outcomes[0].exists);
  EXPECT_FALSE(outcomes[1].exists);
  EXPECT_EQ(status(1), Status::kMiss);
}

TEST_F(CallsTest, ALongListGoesAsThereIsRoom) {
  remote.room = 20;
  for (int i = 0; i < 100; i++) add(Kind::kRemove, "key" + std::to_string(i));
  submit();
  EXPECT_EQ(remote.asked.size(), 32u) << "16 at a time";
  for (size_t answered = 0; answered < 100; answered++) {
    ASSERT_FALSE(remote.asked.empty()) << answered;
    remote.answer(Status::kOk);
    remote.owner->on_room(remote);
  }
  EXPECT_TRUE(done);
}

TEST_F(CallsTest, WhatStillWaitsForItsTurnEndsByItsDeadline) {
  remote.room = 1;
  for (int i = 0; i < 20; i++) add(Kind::kGet, "key" + std::to_string(i), 100);
  submit(10 * kMs);
  EXPECT_EQ(remote.asked.size(), 16u);
  pass(10 * kMs);
  EXPECT_TRUE(done);
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.status, Status::kDeadline);
}

TEST_F(CallsTest, WhatCannotBeMeantIsInvalid) {
  add(Kind::kGet, "a").offset = wire::kOffsetMax + 1;
  add(Kind::kRemove, "b").invalid = true;
  submit();
  EXPECT_EQ(status(0), Status::kInvalid);
  EXPECT_EQ(status(1), Status::kInvalid);
}

}  // namespace
}  // namespace memkv::client
