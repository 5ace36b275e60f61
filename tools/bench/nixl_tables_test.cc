#include "tools/bench/nixl_tables.h"

#include <gmock/gmock.h>

namespace memkv::bench {
namespace {

using testing::ElementsAre;

Json run_of(const char* way, const char* op, const char* keys, uint32_t batch, uint64_t block, double rate) {
  return {{"way", way},       {"asked", way},
          {"op", op},         {"keys", keys},
          {"batch", batch},   {"block_bytes", block},
          {"transport", way}, {"rails_asked", nullptr},
          {"rails", nullptr}, {"logical_gib_per_s", rate}};
}

Json report_of(const std::vector<Json>& runs) {
  Json report;
  report["settings"]["max_batch_size"] = 16;
  report["runs"] = runs;
  return report;
}

TEST(NixlTables, a_column_for_each_way_and_a_row_for_each_block_in_order) {
  const Json tables = nixl_tables(
      report_of({run_of("tcp", "write", "distinct", 16, 8192, 2), run_of("shm", "write", "distinct", 16, 4096, 3),
                 run_of("tcp", "write", "distinct", 16, 4096, 1)}));
  ASSERT_EQ(tables.size(), 1u);
  EXPECT_EQ(tables[0]["columns"], Json({"tcp", "shm"}));
  EXPECT_EQ(tables[0]["rows"], Json::parse(R"([{"block_bytes": 4096, "gib_per_s": [1.0, 3.0]},
                                               {"block_bytes": 8192, "gib_per_s": [2.0, null]}])"));
}

TEST(NixlTables, a_batch_of_one_has_its_table_whatever_the_keys) {
  for (const char* keys : {"one", "distinct"}) {
    const Json tables = nixl_tables(report_of({run_of("tcp", "read", keys, 1, 4096, 1)}));
    ASSERT_EQ(tables.size(), 1u) << keys;
    EXPECT_EQ(tables[0]["title"], "Read throughput, batch 1");
  }
}

TEST(NixlTables, writes_of_one_key_where_there_are_no_others) {
  const Json one = run_of("tcp", "write", "one", 16, 4096, 1),
             distinct = run_of("tcp", "write", "distinct", 16, 4096, 2);
  EXPECT_EQ(nixl_tables(report_of({one}))[0]["title"], "Batched write throughput, batch 16, one key");
  EXPECT_EQ(nixl_tables(report_of({one, distinct}))[0]["rows"][0]["gib_per_s"], Json({2.0}));
}

TEST(NixlTables, ways_stand_as_they_were_run) {
  EXPECT_THAT(ways_in(report_of({run_of("tcp", "read", "one", 1, 1, 1), run_of("shm", "read", "one", 1, 1, 1),
                                 run_of("tcp", "read", "one", 1, 2, 1)})),
              ElementsAre("tcp", "shm"));
}

TEST(NixlNotes, auto_is_content_with_one_transport_and_tells_of_a_change) {
  Json run = run_of("auto", "read", "one", 1, 4096, 1);
  run["transport"] = "shm";
  EXPECT_EQ(nixl_notes(report_of({run})), Json::array());
  run["transport"] = "shm+tcp";
  EXPECT_EQ(nixl_notes(report_of({run})), Json({"auto: 1 of 1 lines went over shm+tcp."}));
}

TEST(NixlNotes, a_named_transport_that_was_left_is_told) {
  Json run = run_of("rdma", "read", "one", 1, 4096, 1);
  EXPECT_EQ(nixl_notes(report_of({run})), Json::array());
  run["transport"] = "tcp";
  EXPECT_EQ(nixl_notes(report_of({run})), Json({"rdma: 1 of 1 lines went over tcp."}));
}

}  // namespace
}  // namespace memkv::bench
