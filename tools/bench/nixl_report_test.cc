#include "tools/bench/nixl_report.h"

#include <gmock/gmock.h>

namespace memkv::bench {
namespace {

using testing::HasSubstr;
using testing::Not;

Json run_of(const char* op, const char* keys, uint32_t batch, double logical, double us) {
  return {{"transport", "tcp"},
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

Json report_of(const std::vector<Json>& runs) {
  Json report;
  report["machine"] = describe_machine();
  report["settings"] = {{"max_batch_size", 16}};
  report["servers"] = Json::array();
  report["runs"] = runs;
  return report;
}

TEST(NixlReport, a_line_says_what_was_not_measured_by_a_dash) {
  const std::string line = nixl_table_line(run_of("read", "one", 16, 8.25, 12.5));
  EXPECT_EQ(line,
            "  64 KiB   read       one     16      8.250      0.500       12.5       25.0       1.0    15.0          "
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

TEST(NixlReport, the_summary_sets_a_batch_beside_single_reads) {
  Json many = run_of("read", "one", 16, 8, 5), single = run_of("read", "one", 1, 0.5, 60);
  many["expected_gib_per_s"] = 10.0;
  single["bare_us_p50"] = 33.3;
  const std::string text = nixl_summary(report_of({run_of("write", "distinct", 16, 1.25, 7), many, single}));
  EXPECT_THAT(text, HasSubstr("Batched write throughput, batch 16, distinct keys"));
  EXPECT_THAT(text, HasSubstr("1.250"));
  EXPECT_THAT(text, HasSubstr("12.0")) << "the factor: 60 us to 5 us";
  EXPECT_THAT(text, HasSubstr("0.80")) << "of what is expected";
  EXPECT_THAT(text, HasSubstr("33.3"));
}

TEST(NixlReport, the_summary_leaves_out_what_was_not_run) {
  EXPECT_EQ(nixl_summary(report_of({run_of("read", "distinct", 16, 1, 1)})), "");
  const std::string text = nixl_summary(report_of({run_of("read", "one", 1, 0.5, 60)}));
  EXPECT_THAT(text, Not(HasSubstr("write")));
  EXPECT_THAT(text, HasSubstr(" - ")) << "no batch, no factor";
}

TEST(NixlReport, the_page_has_a_chart_for_what_was_run_and_nothing_from_elsewhere) {
  const std::string all = nixl_html(report_of({run_of("write", "distinct", 16, 1, 1), run_of("write", "one", 16, 1, 1),
                                               run_of("read", "one", 16, 8, 5), run_of("read", "one", 1, 0.5, 60)}));
  const auto charts = [](const std::string& page) {
    size_t count = 0;
    for (size_t at = page.find("<figure"); at != std::string::npos; at = page.find("<figure", at + 1)) count++;
    return count;
  };
  EXPECT_EQ(charts(all), 3u);
  EXPECT_THAT(all, HasSubstr("<td>64 KiB<td>read<td>one<td>16<td>8.000"));
  EXPECT_THAT(all, Not(HasSubstr("src=")));
  EXPECT_EQ(charts(nixl_html(report_of({run_of("write", "distinct", 16, 1, 1)}))), 1u);
}

}  // namespace
}  // namespace memkv::bench
