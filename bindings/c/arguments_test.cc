/// Wrong arguments: every such call is refused with a sentence that says what is wrong, and has no effect.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "memkv/error.h"
#include "memkv/memkv.h"

namespace memkv::c {
namespace {

using testing::HasSubstr;

/// Programs were compiled with these numbers. A struct may grow at its end only; then its number here grows, too.
TEST(CStructs, keep_their_sizes_and_the_places_of_their_fields) {
  EXPECT_EQ(sizeof(memkv_options), 128u);
  EXPECT_EQ(offsetof(memkv_options, namespace_key), 24u);
  EXPECT_EQ(offsetof(memkv_options, get_timeout_ns), 80u);
  EXPECT_EQ(offsetof(memkv_options, transport), 96u);
  EXPECT_EQ(offsetof(memkv_options, log_level), 120u);
  EXPECT_EQ(sizeof(memkv_outcome), 40u);
  EXPECT_EQ(offsetof(memkv_outcome, bytes), 16u);
  EXPECT_EQ(sizeof(memkv_batch), 112u);
  EXPECT_EQ(offsetof(memkv_batch, piece_count), 32u);
  EXPECT_EQ(offsetof(memkv_batch, offsets), 80u);
  EXPECT_EQ(offsetof(memkv_batch, timeout_ns), 104u);
  EXPECT_EQ(sizeof(memkv_results), 56u);
  EXPECT_EQ(sizeof(memkv_listing), 48u);
  EXPECT_EQ(sizeof(memkv_counters), 120u);
  EXPECT_EQ(sizeof(memkv_rail), 160u);
}

/// The bytes behind its end belong to somebody else.
TEST(CStructs, options_of_the_first_version_are_taken) {
  const char* server = "127.0.0.1:1";
  memkv_options options{};
  options.struct_size = 120;
  options.servers = &server;
  options.server_count = 1;
  options.log_level = "not ours";
  memkv_client* client = nullptr;
  ASSERT_EQ(memkv_connect(&options, &client), MEMKV_OK) << memkv_last_message();
  memkv_close(client);
  options.struct_size = sizeof options;
  EXPECT_EQ(memkv_connect(&options, &client), MEMKV_INVALID);
  EXPECT_THAT(memkv_last_message(), HasSubstr("log_level: unknown log level 'not ours'; known are debug, info, warn"));
  options.struct_size = 119;
  EXPECT_EQ(memkv_connect(&options, &client), MEMKV_INVALID);
}

TEST(CStatus, every_status_has_its_name_and_a_sentence) {
  for (int number = 0; number < 256; number++) {
    const std::string_view name = to_string(static_cast<Status>(number));
    EXPECT_EQ(memkv_error_name(number), name) << number;
    EXPECT_EQ(std::string_view(memkv_error_text(number)) == "no status of this version of the library",
              name == "unnamed");
  }
  EXPECT_STREQ(memkv_error_name(-1), "unnamed");
}

/// A client of a server that is down: enough for calls that are refused.
class CArguments : public testing::Test {
 protected:
  CArguments() {
    const char* server = "127.0.0.1:1";
    memkv_options options{};
    options.struct_size = sizeof options;
    options.servers = &server;
    options.server_count = 1;
    options.transport = MEMKV_TRANSPORT_TCP;
    EXPECT_EQ(memkv_connect(&options, &client_), MEMKV_OK) << memkv_last_message();
  }
  ~CArguments() override { memkv_close(client_); }

  /// A batch of three gets with a piece each.
  memkv_batch good() {
    memkv_batch batch{};
    batch.struct_size = sizeof batch;
    batch.op_count = keys_.size();
    batch.keys = keys_.data();
    batch.key_sizes = key_sizes_.data();
    batch.piece_count = pieces_.size();
    batch.pieces = pieces_.data();
    batch.piece_sizes = piece_sizes_.data();
    batch.kind = MEMKV_OP_GET;
    return batch;
  }
  void expect_refused(const memkv_batch& batch, const char* why) {
    EXPECT_EQ(memkv_run(client_, &batch, nullptr), MEMKV_INVALID) << why;
    EXPECT_THAT(memkv_last_message(), HasSubstr(why));
    memkv_pending* pending = nullptr;
    EXPECT_EQ(memkv_submit(client_, &batch, nullptr, 0, &pending), MEMKV_INVALID);
    EXPECT_EQ(pending, nullptr);
  }

  memkv_client* client_ = nullptr;
  char memory_[3][16] = {};
  std::array<const void*, 3> keys_{"a", "b", "c"};
  std::array<size_t, 3> key_sizes_{1, 1, 1};
  std::array<void*, 3> pieces_{memory_[0], memory_[1], memory_[2]};
  std::array<size_t, 3> piece_sizes_{16, 16, 16};
};

TEST_F(CArguments, no_address_may_be_null) {
  EXPECT_EQ(memkv_connect(nullptr, nullptr), MEMKV_INVALID);
  EXPECT_EQ(memkv_put(nullptr, "k", 1, "v", 1, 0, nullptr), MEMKV_INVALID);
  EXPECT_STREQ(memkv_last_message(), "the client is NULL");
  EXPECT_EQ(memkv_put(client_, nullptr, 1, "v", 1, 0, nullptr), MEMKV_INVALID);
  EXPECT_EQ(memkv_get(client_, "k", 1, nullptr, 1, 0, 0, nullptr), MEMKV_INVALID);
  EXPECT_EQ(memkv_get(client_, "k", 1, memory_, 1, 0, -1, nullptr), MEMKV_INVALID);
  EXPECT_EQ(memkv_run(client_, nullptr, nullptr), MEMKV_INVALID);
  EXPECT_EQ(memkv_wait(nullptr, 0), MEMKV_INVALID);
  EXPECT_EQ(memkv_cancel(nullptr), MEMKV_INVALID);
  EXPECT_EQ(memkv_collect(nullptr, nullptr), MEMKV_INVALID);
  EXPECT_EQ(memkv_queue_open(client_, nullptr), MEMKV_INVALID);
  EXPECT_EQ(memkv_queue_fd(nullptr), -1);
  EXPECT_EQ(memkv_queue_next(nullptr), nullptr);
  EXPECT_EQ(memkv_describe(client_, nullptr), MEMKV_INVALID);
  EXPECT_EQ(memkv_client_counters(client_, nullptr), MEMKV_INVALID);
  EXPECT_EQ(memkv_list(client_, 0, 0, 0, nullptr), MEMKV_INVALID);
  EXPECT_EQ(memkv_register(client_, memory_, 1, 0, 0, nullptr), MEMKV_INVALID);
  EXPECT_EQ(memkv_pending_tag(nullptr), 0u);
  EXPECT_EQ(memkv_server_count(nullptr), 0u);
  for (const auto& end :
       {+[] { memkv_close(nullptr); }, +[] { memkv_queue_close(nullptr); }, +[] { memkv_unregister(nullptr); },
        +[] { memkv_listing_free(nullptr); }, +[] { memkv_free(nullptr); }}) {
    end();
  }
}

TEST_F(CArguments, a_batch_whose_columns_do_not_fit_is_refused_whole) {
  memkv_batch batch = good();
  batch.struct_size = 0;
  expect_refused(batch, "memkv_batch: struct_size is 0");
  batch = good();
  batch.op_count = MEMKV_BATCH_OPS_MAX + 1;
  expect_refused(batch, "at most 1048576");
  batch = good();
  batch.keys = nullptr;
  expect_refused(batch, "keys or key_sizes is NULL");
  batch = good();
  batch.pieces = nullptr;
  expect_refused(batch, "pieces or piece_sizes is NULL");
  batch = good();
  batch.kind = 0;
  expect_refused(batch, "op 0: its kind is 0");
  batch = good();
  batch.flags = MEMKV_FLAG_CHAINED;
  expect_refused(batch, "op 0: it is chained, and no op is before it");
  batch = good();
  batch.flags = MEMKV_FLAG_TOUCH;
  expect_refused(batch, "MEMKV_FLAG_TOUCH is for MEMKV_OP_EXISTS");
  batch = good();
  batch.flags = 1 << 9;
  expect_refused(batch, "op 0: its flags are 512");
  batch = good();
  batch.piece_count = 2;
  expect_refused(batch, "op 2: its pieces end after piece_count");
  batch = good();
  batch.op_count = 2;
  expect_refused(batch, "the ops have 2 pieces, and piece_count is 3");
  const std::array<uint32_t, 3> wraps{1, UINT32_MAX, 3};
  batch = good();
  batch.op_piece_counts = wraps.data();
  expect_refused(batch, "op 1: its pieces end after piece_count");
  batch = good();
  batch.timeout_ns = -1;
  expect_refused(batch, "timeout_ns is negative");
  const std::array<uint8_t, 3> kinds{MEMKV_OP_GET, MEMKV_OP_EXISTS, MEMKV_OP_GET};
  const std::array<uint32_t, 3> counts{1, 1, 1};
  batch = good();
  batch.op_kinds = kinds.data();
  batch.op_piece_counts = counts.data();
  expect_refused(batch, "op 1: it has pieces, and takes none");
  keys_[1] = nullptr;
  expect_refused(good(), "op 1: its key is NULL");
  keys_[1] = "b";
  pieces_[2] = nullptr;
  expect_refused(good(), "op 2: its piece 0 is NULL");
  piece_sizes_[2] = SIZE_MAX;
  pieces_[2] = memory_[2];
  expect_refused(good(), "op 2: its pieces are larger than any memory");
}

TEST_F(CArguments, results_and_outcomes_need_their_size_before_anything_is_done) {
  const memkv_batch batch = good();
  memkv_results results{};
  EXPECT_EQ(memkv_run(client_, &batch, &results), MEMKV_INVALID);
  EXPECT_THAT(memkv_last_message(), HasSubstr("memkv_results: struct_size is 0"));
  memkv_outcome outcome{};
  EXPECT_EQ(memkv_exists(client_, "k", 1, 0, &outcome), MEMKV_INVALID);
  memkv_counters counters{};
  EXPECT_EQ(memkv_client_counters(client_, &counters), MEMKV_INVALID);
  memkv_counters now{};
  now.struct_size = sizeof now;
  EXPECT_EQ(memkv_client_counters(client_, &now), MEMKV_OK);
  EXPECT_EQ(now.ops, 0u);
}

TEST_F(CArguments, keys_that_are_too_long_or_empty_fail_alone) {
  const std::string longest(MEMKV_KEY_BYTES_MAX, 'k'), longer(MEMKV_KEY_BYTES_MAX + 1, 'k');
  keys_ = {longest.data(), longer.data(), nullptr};
  key_sizes_ = {longest.size(), longer.size(), 0};
  std::array<int32_t, 3> statuses{-1, -1, -1};
  std::array<uint8_t, 3> unreachable{};
  memkv_results results{};
  results.struct_size = sizeof results;
  results.statuses = statuses.data();
  results.unreachable = unreachable.data();
  const memkv_batch batch = good();
  EXPECT_EQ(memkv_run(client_, &batch, &results), MEMKV_OK);
  EXPECT_EQ(statuses, (std::array<int32_t, 3>{MEMKV_MISS, MEMKV_INVALID, MEMKV_INVALID}));
  EXPECT_EQ(unreachable[0], 1) << "the server is down";
}

TEST_F(CArguments, no_ops_are_fine) {
  memkv_batch batch{};
  batch.struct_size = sizeof batch;
  EXPECT_EQ(memkv_run(client_, &batch, nullptr), MEMKV_OK);
  memkv_pending* pending = nullptr;
  EXPECT_EQ(memkv_submit(client_, &batch, nullptr, 7, &pending), MEMKV_OK);
  EXPECT_EQ(memkv_pending_tag(pending), 7u);
  EXPECT_EQ(memkv_collect(pending, nullptr), MEMKV_OK);
}

/// The batch of a program that was compiled with a newer header.
struct NewerBatch {
  memkv_batch known;
  uint64_t added;
};

TEST_F(CArguments, a_newer_programs_struct_is_taken_as_long_as_it_asks_for_nothing_new) {
  NewerBatch newer{good(), 0};
  newer.known.struct_size = sizeof newer;
  EXPECT_EQ(memkv_run(client_, &newer.known, nullptr), MEMKV_OK) << memkv_last_message();
  newer.added = 1;
  expect_refused(newer.known, "this library does not know");
  struct {
    memkv_counters known;
    uint64_t added;
  } counters{{}, 99};
  counters.known.struct_size = sizeof counters;
  EXPECT_EQ(memkv_client_counters(client_, &counters.known), MEMKV_OK);
  EXPECT_EQ(counters.added, 0u) << "what this library does not count is zero";
  EXPECT_EQ(counters.known.struct_size, sizeof counters);
}

TEST(COptions, wrong_ones_are_told_with_their_name) {
  memkv_client* client = nullptr;
  const auto refused = [&](auto change, const char* why) {
    const char* server = "127.0.0.1:1";
    memkv_options options{};
    options.struct_size = sizeof options;
    options.servers = &server;
    options.server_count = 1;
    change(options);
    EXPECT_EQ(memkv_connect(&options, &client), MEMKV_INVALID) << why;
    EXPECT_EQ(client, nullptr);
    EXPECT_THAT(memkv_last_message(), HasSubstr(why));
  };
  const char* none = nullptr;
  refused([](auto& o) { o.struct_size = 8; }, "memkv_options: struct_size is 8");
  refused([&](auto& o) { o.servers = &none; }, "servers[0] is NULL");
  refused([](auto& o) { o.servers = nullptr; }, "servers is NULL");
  refused([](auto& o) { o.transport = 9; }, "transport");
  refused([](auto& o) { o.put_checksum = 2; }, "put_checksum");
  refused([](auto& o) { o.skip_verify = 2; }, "skip_verify");
  refused([](auto& o) { o.reserved = 1; }, "reserved");
  refused([](auto& o) { o.get_timeout_ns = -5; }, "get_timeout");
  refused([](auto& o) { o.io_contexts = 1000; }, "io_contexts is 1000: at most 64");
  refused([](auto& o) { o.namespace_key = "abc"; }, "64 hex");
}

}  // namespace
}  // namespace memkv::c
