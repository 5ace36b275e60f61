#include "tools/bench/nixl_report.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/units.h"
#include "tools/bench/nixl_tables.h"

namespace memkv::bench {
namespace {

constexpr const char* kEmulated = " (emulated: no performance)";

std::string block_of(uint64_t bytes) { return base::format_bytes(bytes); }

std::string text_of(const Json& table, bool emulated) {
  std::string out =
      fmt::format("\n{}, GiB/s{}\n{:>8}", table["title"].get<std::string>(), emulated ? kEmulated : "", "block");
  std::vector<size_t> widths;
  for (const std::string name : table["columns"]) {
    widths.push_back(std::max<size_t>(10, name.size()));
    out += fmt::format("  {:>{}}", name, widths.back());
  }
  out += "\n";
  for (const Json& row : table["rows"]) {
    out += fmt::format("{:>8}", block_of(row["block_bytes"]));
    for (size_t i = 0; i < widths.size(); i++) {
      const Json& rate = row["gib_per_s"][i];
      out += fmt::format("  {:>{}}", rate.is_null() ? "-" : fmt::format("{:.3f}", rate.get<double>()), widths[i]);
    }
    out += "\n";
  }
  return out;
}

/// Reads of one block over one way: one at a time, and a batch of them.
std::string coalesced(const Json& report, const std::string& way, const std::string& heading) {
  const uint32_t batch = report["settings"]["max_batch_size"];
  const Lines reads = lines_of(report, way, "read", "one", batch), single = lines_of(report, way, "read", "one", 1);
  if (batch == 1 || single.empty() || reads.empty()) return "";
  const auto maybe = [](double value, const char* format) {
    return value > 0 ? fmt::format(fmt::runtime(format), value) : std::string("-");
  };
  std::string out =
      fmt::format("\nReads of one block{}: batch 1 on the wire, batch {} fetched once and copied {} times{}\n", heading,
                  batch, batch - 1, report["emulated"] ? kEmulated : "");
  out += fmt::format("{:>8} {:>10} {:>10} {:>10} {:>12} {:>12} {:>8} {:>11}\n", "block", "b=1 GiB/s", "b=1 us",
                     "bare us", fmt::format("b={} us/desc", batch), "factor", "logical", "of expected");
  for (const auto& [block, run] : single) {
    const double one_us = (*run)["descriptor_us_p50"], many_us = number_of(reads, block, "descriptor_us_p50");
    const double logical = number_of(reads, block, "logical_gib_per_s"),
                 expected = number_of(reads, block, "expected_gib_per_s");
    out += fmt::format("{:>8} {:>10.3f} {:>10.1f} {:>10} {:>12.2f} {:>12} {:>8.3f} {:>11}\n", block_of(block),
                       (*run)["logical_gib_per_s"].get<double>(), one_us,
                       maybe(number_of(single, block, "bare_us_p50"), "{:.1f}"), many_us,
                       maybe(many_us > 0 ? one_us / many_us : 0, "{:.1f}"), logical,
                       maybe(expected > 0 ? logical / expected : 0, "{:.2f}"));
  }
  return out;
}

}  // namespace

std::string nixl_table_head() {
  return fmt::format(
      "{:>8} {:>7} {:>8} {:>6} {:>9} {:>6} {:>10} {:>10} {:>10} {:>10} {:>9} {:>7} {:>10} {:>9} {:>9} {:>6}\n", "block",
      "asked", "via", "op", "keys", "batch", "logical", "wire GiB/s", "us/desc.", "p99", "wire ops", "copies",
      "of client", "planning", "verified", "wrong");
}

std::string nixl_table_line(const Json& run) {
  const bool client = !run["client_gib_per_s"].is_null();
  const double rate = run["logical_gib_per_s"];
  return fmt::format(
      "{:>8} {:>7} {:>8} {:>6} {:>9} {:>6} {:>10.3f} {:>10.3f} {:>10.1f} {:>10.1f} {:>9.1f} {:>7.1f} {:>10} {:>9} "
      "{:>9} {:>6}{}\n",
      block_of(run["block_bytes"]), run["asked"].get<std::string>(), via_of(run), run["op"].get<std::string>(),
      run["keys"].get<std::string>(), run["batch"].get<uint32_t>(), rate, run["wire_gib_per_s"].get<double>(),
      run["descriptor_us_p50"].get<double>(), run["descriptor_us_p99"].get<double>(),
      run["wire_ops_per_request"].get<double>(), run["copies_per_request"].get<double>(),
      client ? fmt::format("{:.2f}", rate / run["client_gib_per_s"].get<double>()) : "-",
      run["planning_share"].is_null() ? "-" : fmt::format("{:.1f} %", 100 * run["planning_share"].get<double>()),
      run["verified_blocks"].get<uint64_t>(), run["mismatches"].get<uint64_t>(), run["emulated"] ? " emulated" : "");
}

std::string nixl_summary(const Json& report) {
  std::string out;
  const bool emulated = report["emulated"];
  for (const Json& table : report["tables"]) out += text_of(table, emulated);
  const std::vector<std::string> ways = ways_in(report);
  for (const std::string& way : ways) out += coalesced(report, way, ways.size() == 1 ? "" : ", " + way);
  if (!report["notes"].empty()) out += "\n";
  for (const std::string note : report["notes"]) out += note + "\n";
  return out;
}

}  // namespace memkv::bench
