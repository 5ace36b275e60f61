#include "tools/bench/nixl_report.h"

#include <fmt/core.h>

#include <map>

#include "base/units.h"
#include "tools/bench/ceiling.h"
#include "tools/bench/chart.h"

namespace memkv::bench {
namespace {

std::string block_of(const Json& run) { return base::format_bytes(run["block_bytes"]); }

/// Lines of one kind, by block size.
using Lines = std::map<uint64_t, const Json*>;
Lines lines_of(const Json& report, const std::string& op, const std::string& keys, uint32_t batch) {
  Lines lines;
  for (const Json& run : report["runs"]) {
    if (run["op"] == op && run["keys"] == keys && run["batch"] == batch) lines[run["block_bytes"]] = &run;
  }
  return lines;
}

double number(const Lines& lines, uint64_t block, const char* field) {
  const auto found = lines.find(block);
  return found == lines.end() || found->second->at(field).is_null() ? 0 : found->second->at(field).get<double>();
}

Series series_of(const Lines& lines, const std::string& name, const char* color, const char* field, bool dashed) {
  Series series{name, color, dashed, {}};
  for (const auto& [block, run] : lines) {
    if (!run->at(field).is_null()) series.points.emplace_back(block, run->at(field));
  }
  return series;
}

constexpr const char* kBlue = "#2f6fed";
constexpr const char* kOrange = "#e2703a";
constexpr const char* kGreen = "#137a4b";

std::string svg(Chart chart) {
  std::erase_if(chart.series, [](const Series& series) { return series.points.empty(); });
  return chart.series.empty() ? "" : svg_of(chart);
}

std::string charts(const Json& report) {
  const uint32_t batch = report["settings"]["max_batch_size"];
  const std::string b = fmt::format("batch {}", batch);
  const Lines writes = lines_of(report, "write", "distinct", batch),
              writes_one = lines_of(report, "write", "one", batch);
  const Lines reads = lines_of(report, "read", "one", batch),
              reads_distinct = lines_of(report, "read", "distinct", batch);
  const Lines single = lines_of(report, "read", "one", 1);
  const char* rate = "logical_gib_per_s";
  Chart written{"Batched writes by block size", "GiB/s", false, {}};
  written.series = {series_of(writes, b + ", distinct keys", kOrange, rate, false),
                    series_of(writes_one, b + ", one key", kBlue, rate, false),
                    series_of(writes, "our client, same operations", kOrange, "client_gib_per_s", true)};
  Chart read{"Reads by block size: logical and wire", "GiB/s", false, {}};
  read.series = {series_of(reads, b + " of one block, logical", kBlue, rate, false),
                 series_of(reads, b + " of one block, wire", kBlue, "wire_gib_per_s", true),
                 series_of(reads_distinct, b + ", distinct keys", kOrange, rate, false),
                 series_of(single, "batch 1", kGreen, rate, false)};
  Chart latency{"Read latency per descriptor by batch size", "µs", true, {}};
  latency.series = {series_of(single, "batch 1", kGreen, "descriptor_us_p50", false),
                    series_of(reads, b + " of one block", kBlue, "descriptor_us_p50", false),
                    series_of(reads_distinct, b + ", distinct keys", kOrange, "descriptor_us_p50", false),
                    series_of(single, "bare round trip", kGreen, "bare_us_p50", true)};
  return svg(written) + svg(read) + svg(latency);
}

std::string html_table(const Json& runs) {
  std::string out =
      "<div class=\"wide\"><table><tr><th>block<th>op<th>keys<th>batch<th>logical GiB/s<th>wire GiB/s<th>µs a "
      "descriptor"
      "<th>p99<th>wire ops<th>copies<th>of our client<th>verified<th>wrong</tr>\n";
  for (const Json& run : runs) {
    const bool client = !run["client_gib_per_s"].is_null();
    out += fmt::format(
        "<tr><td>{}<td>{}<td>{}<td>{}<td>{:.3f}<td>{:.3f}<td>{:.1f}<td>{:.1f}<td>{:.1f}<td>{:.1f}<td>{}<td>{}<td>{}</"
        "tr>\n",
        block_of(run), run["op"].get<std::string>(), run["keys"].get<std::string>(), run["batch"].get<uint32_t>(),
        run["logical_gib_per_s"].get<double>(), run["wire_gib_per_s"].get<double>(),
        run["descriptor_us_p50"].get<double>(), run["descriptor_us_p99"].get<double>(),
        run["wire_ops_per_request"].get<double>(), run["copies_per_request"].get<double>(),
        client ? fmt::format("{:.2f}", run["logical_gib_per_s"].get<double>() / run["client_gib_per_s"].get<double>())
               : "–",
        run["verified_blocks"].get<uint64_t>(), run["mismatches"].get<uint64_t>());
  }
  return out + "</table></div>\n";
}

}  // namespace

std::string nixl_table_head() {
  return fmt::format("{:>8} {:>6} {:>9} {:>6} {:>10} {:>10} {:>10} {:>10} {:>9} {:>7} {:>10} {:>9} {:>9} {:>6}\n",
                     "block", "op", "keys", "batch", "logical", "wire GiB/s", "us/desc.", "p99", "wire ops", "copies",
                     "of client", "planning", "verified", "wrong");
}

std::string nixl_table_line(const Json& run) {
  const bool client = !run["client_gib_per_s"].is_null();
  const double rate = run["logical_gib_per_s"];
  return fmt::format(
      "{:>8} {:>6} {:>9} {:>6} {:>10.3f} {:>10.3f} {:>10.1f} {:>10.1f} {:>9.1f} {:>7.1f} {:>10} {:>9} {:>9} {:>6}\n",
      block_of(run), run["op"].get<std::string>(), run["keys"].get<std::string>(), run["batch"].get<uint32_t>(), rate,
      run["wire_gib_per_s"].get<double>(), run["descriptor_us_p50"].get<double>(),
      run["descriptor_us_p99"].get<double>(), run["wire_ops_per_request"].get<double>(),
      run["copies_per_request"].get<double>(),
      client ? fmt::format("{:.2f}", rate / run["client_gib_per_s"].get<double>()) : "-",
      run["planning_share"].is_null() ? "-" : fmt::format("{:.1f} %", 100 * run["planning_share"].get<double>()),
      run["verified_blocks"].get<uint64_t>(), run["mismatches"].get<uint64_t>());
}

std::string nixl_summary(const Json& report) {
  const uint32_t batch = report["settings"]["max_batch_size"];
  const Lines writes = lines_of(report, "write", "distinct", batch);
  const Lines reads = lines_of(report, "read", "one", batch), single = lines_of(report, "read", "one", 1);
  std::string out;
  if (!writes.empty()) {
    out += fmt::format("\nBatched write throughput, batch {}, distinct keys\n{:>8} {:>10}\n", batch, "block", "GiB/s");
    for (const auto& [block, run] : writes)
      out += fmt::format("{:>8} {:>10.3f}\n", block_of(*run), (*run)["logical_gib_per_s"].get<double>());
  }
  if (single.empty()) return out;
  out += fmt::format("\nReads of one block: batch 1 on the wire, batch {} fetched once and copied {} times\n", batch,
                     batch - 1);
  out += fmt::format("{:>8} {:>10} {:>10} {:>10} {:>12} {:>12} {:>8} {:>10}\n", "block", "b=1 GiB/s", "b=1 us",
                     "bare us", fmt::format("b={} us/desc", batch), "factor", "logical", "of expected");
  for (const auto& [block, run] : single) {
    const double one_us = (*run)["descriptor_us_p50"], many_us = number(reads, block, "descriptor_us_p50");
    const double logical = number(reads, block, "logical_gib_per_s"),
                 expected = number(reads, block, "expected_gib_per_s");
    out += fmt::format("{:>8} {:>10.3f} {:>10.1f} {:>10.1f} {:>12.2f} {:>12} {:>8.3f} {:>10}\n", block_of(*run),
                       (*run)["logical_gib_per_s"].get<double>(), one_us, number(single, block, "bare_us_p50"), many_us,
                       many_us > 0 ? fmt::format("{:.1f}", one_us / many_us) : "-", logical,
                       expected > 0 ? fmt::format("{:.2f}", logical / expected) : "-");
  }
  return out;
}

std::string nixl_html(const Json& report) {
  return page_of(
      report, "MemKV through NIXL",
      cards_of(report["runs"], "logical_gib_per_s", "peak logical read") + charts(report) +
          "<p class=\"soft\">GiB/s are 2<sup>30</sup> bytes. <b>Logical</b> counts every descriptor whole, as "
          "nixlbench does; <b>wire</b> is what crossed the network. Where several descriptors of a request read the "
          "same block it is fetched once and copied in memory, so that logical is above wire.</p>\n"
          "<h2>All lines</h2>" +
          html_table(report["runs"]));
}

}  // namespace memkv::bench
