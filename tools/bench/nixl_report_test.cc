#include "tools/bench/nixl_report.h"

#include <gmock/gmock.h>

#include "tools/bench/nixl_tables.h"

namespace memkv::bench {
namespace {

using testing::HasSubstr;
using testing::Not;

Json run_of(const char* op, const char* keys, uint32_t batch, double logical, double us) {
  return {{"way", "tcp"},
          {"asked", "tcp"},
          {"rails_asked", nullptr},
          {"transport", "tcp"},
          {"rails", nullptr},
          {"emulated", false},
          {"op", op},
          {"keys", keys},
          {"batch", batch},
          {"block_bytes", 65536},
          {"threads", 1},
          {"requests", 100},
          {"logical_gib_per_s", logical},
          {"wire_gib_per_s", 0.5},
          {"descriptor_us_p50", us},
          {"descriptor_us_p99", 2 * us},
          {"wire_ops_per_request", 1.0},
          {"copies_per_request", batch - 1.0},
          {"planning_share", nullptr},
          {"client_gib_per_s", nullptr},
          {"expected_gib_per_s", nullptr},
          {"bare_us_p50", nullptr},
          {"verified_blocks", 321},
          {"mismatches", 0},
          {"failures", 0}};
}

/// A run over rdma, for which `asked` rails were asked and `rails` carried bytes.
Json over_rails(Json run, uint32_t asked, uint32_t rails) {
  run["way"] = asked == 1 ? "rdma, single rail" : "rdma, dual rail";
  run["asked"] = "rdma:" + std::to_string(asked);
  run["transport"] = "rdma";
  run["rails_asked"] = asked, run["rails"] = rails;
  return run;
}

Json report_of(const std::vector<Json>& runs, bool emulated = false) {
  Json report;
  report["machine"] = describe_machine();
  report["settings"] = {{"max_batch_size", 16}};
  report["servers"] = Json::array();
  report["runs"] = runs;
  report["emulated"] = emulated;
  report["tables"] = nixl_tables(report);
  report["notes"] = nixl_notes(report);
  return report;
}

Json both_rails(bool emulated = false) {
  const Json write = run_of("write", "distinct", 16, 1.25, 7), read = run_of("read", "one", 1, 0.5, 60);
  Json faster = write;
  faster["logical_gib_per_s"] = 2.5;
  return report_of({over_rails(write, 1, 1), over_rails(faster, 2, 2), over_rails(read, 1, 1), over_rails(read, 2, 1)},
                   emulated);
}

size_t charts_in(const std::string& page) {
  size_t count = 0;
  for (size_t at = page.find("<figure"); at != std::string::npos; at = page.find("<figure", at + 1)) count++;
  return count;
}

TEST(NixlReport, a_line_says_what_was_not_measured_by_a_dash) {
  const std::string line = nixl_table_line(run_of("read", "one", 16, 8.25, 12.5));
  EXPECT_EQ(line,
            "  64 KiB     tcp      tcp   read       one     16      8.250      0.500       12.5       25.0       1.0   "
            " 15.0          "
            "-         -       321      0\n");
}

TEST(NixlReport, a_line_sets_the_plugin_beside_the_client_and_names_the_share_of_planning) {
  Json run = run_of("write", "distinct", 16, 1.5, 10);
  run["client_gib_per_s"] = 2.0;
  run["planning_share"] = 0.0123;
  const std::string line = nixl_table_line(run);
  EXPECT_THAT(line, HasSubstr(" 0.75 "));
  EXPECT_THAT(line, HasSubstr(" 1.2 % "));
}

TEST(NixlReport, a_line_is_as_wide_as_its_head) {
  EXPECT_EQ(nixl_table_line(run_of("read", "distinct", 1, 1, 1)).size(), nixl_table_head().size());
}

TEST(NixlReport, a_line_names_what_was_asked_for_what_carried_it_and_what_is_emulated) {
  Json run = over_rails(run_of("write", "distinct", 16, 1, 1), 2, 1);
  EXPECT_THAT(nixl_table_line(run), HasSubstr("  rdma:2   rdma:1  write"));
  EXPECT_THAT(nixl_table_line(run), Not(HasSubstr("emulated")));
  run["emulated"] = true;
  EXPECT_THAT(nixl_table_line(run), HasSubstr(" emulated\n"));
}

TEST(NixlReport, the_summary_sets_a_batch_beside_single_reads) {
  Json many = run_of("read", "one", 16, 8, 5), single = run_of("read", "one", 1, 0.5, 60);
  many["expected_gib_per_s"] = 10.0;
  single["bare_us_p50"] = 33.3;
  const std::string text = nixl_summary(report_of({run_of("write", "distinct", 16, 1.25, 7), many, single}));
  EXPECT_THAT(text, HasSubstr("Batched write throughput, batch 16, distinct keys, GiB/s\n   block         tcp\n"
                              "  64 KiB       1.250\n"));
  EXPECT_THAT(text, HasSubstr("Read throughput, batch 1, GiB/s\n   block         tcp\n  64 KiB       0.500\n"));
  EXPECT_THAT(text, HasSubstr("12.0")) << "the factor: 60 us to 5 us";
  EXPECT_THAT(text, HasSubstr("0.80")) << "of what is expected";
  EXPECT_THAT(text, HasSubstr("33.3"));
}

TEST(NixlReport, the_summary_leaves_out_what_was_not_run) {
  EXPECT_EQ(nixl_summary(report_of({run_of("read", "distinct", 16, 1, 1)})), "");
  const std::string text = nixl_summary(report_of({run_of("read", "one", 1, 0.5, 60)}));
  EXPECT_THAT(text, Not(HasSubstr("write")));
  EXPECT_THAT(text, Not(HasSubstr("factor"))) << "no batch, no factor";
}

TEST(NixlReport, rails_stand_side_by_side) {
  const std::string text = nixl_summary(both_rails());
  EXPECT_THAT(text, HasSubstr("   block  rdma, single rail  rdma, dual rail\n"
                              "  64 KiB              1.250            2.500\n"));
  EXPECT_THAT(text, HasSubstr("  64 KiB              0.500            0.500\n"));
}

TEST(NixlReport, what_is_emulated_is_no_performance) {
  EXPECT_THAT(nixl_summary(both_rails()), Not(HasSubstr("emulated")));
  EXPECT_THAT(nixl_html(both_rails()), Not(HasSubstr("mulated")));
  EXPECT_THAT(nixl_summary(both_rails(true)), HasSubstr("distinct keys, GiB/s (emulated: no performance)\n"));
  EXPECT_THAT(nixl_html(both_rails(true)), HasSubstr("Emulated: soft-RoCE"));
  EXPECT_THAT(nixl_html(both_rails(true)), HasSubstr("batch 1, emulated <span"));
}

TEST(NixlReport, what_went_another_way_is_said) {
  Json over_tcp = over_rails(run_of("write", "distinct", 16, 1, 1), 2, 0);
  over_tcp["transport"] = "tcp", over_tcp["rails"] = nullptr;
  const Json report = report_of({over_tcp, over_rails(run_of("read", "one", 1, 1, 1), 2, 1)});
  for (const std::string& text : {nixl_summary(report), nixl_html(report)}) {
    EXPECT_THAT(text, HasSubstr("rdma, dual rail: 1 of 2 lines went over tcp."));
    EXPECT_THAT(text, HasSubstr("rdma, dual rail: the bytes went over 1 at most."));
  }
  EXPECT_TRUE(both_rails()["notes"].empty()) << "single reads go over one rail, batches over both";
}

TEST(NixlReport, the_page_has_a_chart_for_what_was_run_and_nothing_from_elsewhere) {
  const std::string all = nixl_html(report_of({run_of("write", "distinct", 16, 1, 1), run_of("write", "one", 16, 1, 1),
                                               run_of("read", "one", 16, 8, 5), run_of("read", "one", 1, 0.5, 60)}));
  EXPECT_EQ(charts_in(all), 5u) << "two tables; writes, reads, latency";
  EXPECT_THAT(all, HasSubstr("<td>64 KiB<td>tcp<td>tcp<td>read<td>one<td>16<td>8.000"));
  EXPECT_THAT(all, HasSubstr("<tr><td>64 KiB<td>0.500 GiB/s</tr>"));
  EXPECT_THAT(all, Not(HasSubstr("src=")));
  EXPECT_EQ(charts_in(nixl_html(report_of({run_of("write", "distinct", 16, 1, 1)}))), 2u);
}

}  // namespace
}  // namespace memkv::bench
