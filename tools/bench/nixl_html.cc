/// The page of `memkv-bench nixl`.

#include <fmt/core.h>

#include "base/units.h"
#include "tools/bench/chart.h"
#include "tools/bench/nixl_report.h"
#include "tools/bench/nixl_tables.h"

namespace memkv::bench {
namespace {

constexpr const char* kBlue = "#2f6fed";
constexpr const char* kOrange = "#e2703a";
constexpr const char* kGreen = "#137a4b";
constexpr const char* kColors[] = {kBlue, kOrange, kGreen, "#6a3fd8", "#c2255c", "#12a4a4", "#c9a200", "#7a4b2e"};
constexpr const char* kRate = "logical_gib_per_s";
constexpr const char* kTime = "descriptor_us_p50";

const char* color_of(size_t way) { return kColors[way % std::size(kColors)]; }

Series series_of(const Lines& lines, const std::string& name, const char* color, const char* field, bool dashed) {
  Series series{name, color, dashed, {}};
  for (const auto& [block, run] : lines) {
    if (!run->at(field).is_null()) series.points.emplace_back(block, run->at(field));
  }
  return series;
}

const char* mark(const Json& report) { return report["emulated"] ? ", emulated" : ""; }

std::string svg(const Json& report, Chart chart) {
  chart.title += mark(report);
  std::erase_if(chart.series, [](const Series& series) { return series.points.empty(); });
  return chart.series.empty() ? "" : svg_of(chart);
}

/// The table's columns as lines of a chart.
Chart chart_of(const Json& table) {
  Chart chart{table["title"], "GiB/s", false, {}};
  for (size_t i = 0; i < table["columns"].size(); i++) {
    Series series{table["columns"][i], color_of(i), false, {}};
    for (const Json& row : table["rows"]) {
      if (!row["gib_per_s"][i].is_null()) series.points.emplace_back(row["block_bytes"], row["gib_per_s"][i]);
    }
    chart.series.push_back(series);
  }
  return chart;
}

std::string html_of_table(const Json& table) {
  std::string out = "<div class=\"wide\"><table><tr><th>block";
  for (const std::string name : table["columns"]) out += "<th>" + escape_html(name);
  out += "</tr>\n";
  for (const Json& row : table["rows"]) {
    out += "<tr><td>" + base::format_bytes(row["block_bytes"]);
    for (const Json& rate : row["gib_per_s"])
      out += rate.is_null() ? "<td>–" : fmt::format("<td>{:.3f} GiB/s", rate.get<double>());
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string tables(const Json& report) {
  std::string out;
  for (const Json& table : report["tables"])
    out += fmt::format("<h2>{}{}</h2>", escape_html(table["title"]), mark(report)) + html_of_table(table) +
           svg(report, chart_of(table));
  return out;
}

/// Adds everything that was run over a single way.
void add_whole(const Json& report, const std::string& way, Chart& written, Chart& read, Chart& latency) {
  const uint32_t batch = report["settings"]["max_batch_size"];
  const std::string b = fmt::format("batch {}", batch);
  const auto lines = [&](const char* op, const char* keys, uint32_t of) { return lines_of(report, way, op, keys, of); };
  const Lines writes = lines("write", "distinct", batch), writes_one = lines("write", "one", batch);
  const Lines reads = lines("read", "one", batch), reads_distinct = lines("read", "distinct", batch);
  const Lines single = lines("read", "one", 1);
  written.series = {series_of(writes, b + ", distinct keys", kOrange, kRate, false),
                    series_of(writes_one, b + ", one key", kBlue, kRate, false),
                    series_of(writes, "our client, same operations", kOrange, "client_gib_per_s", true)};
  read.series = {series_of(reads, b + " of one block, logical", kBlue, kRate, false),
                 series_of(reads, b + " of one block, wire", kBlue, "wire_gib_per_s", true),
                 series_of(reads_distinct, b + ", distinct keys", kOrange, kRate, false),
                 series_of(single, "batch 1", kGreen, kRate, false)};
  latency.series = {series_of(single, "batch 1", kGreen, kTime, false),
                    series_of(reads, b + " of one block", kBlue, kTime, false),
                    series_of(reads_distinct, b + ", distinct keys", kOrange, kTime, false),
                    series_of(single, "bare round trip", kGreen, "bare_us_p50", true)};
}

/// With several ways: adds only what tells this way from the others.
void add_way(const Json& report, const std::string& way, size_t index, Chart& read, Chart& latency) {
  const uint32_t batch = report["settings"]["max_batch_size"];
  const std::string b = fmt::format("{}, batch {} of one block", way, batch);
  const Lines reads = lines_of(report, way, "read", "one", batch), single = lines_of(report, way, "read", "one", 1);
  const char* color = color_of(index);
  latency.series.push_back(series_of(single, way + ", batch 1", color, kTime, false));
  if (batch > 1) {
    read.series.push_back(series_of(reads, b + ", logical", color, kRate, false));
    read.series.push_back(series_of(reads, b + ", wire", color, "wire_gib_per_s", true));
    latency.series.push_back(series_of(reads, b, color, kTime, true));
  }
}

std::string charts(const Json& report) {
  Chart written{"Batched writes by block size", "GiB/s", false, {}};
  Chart read{"Reads by block size: logical and wire", "GiB/s", false, {}};
  Chart latency{"Read latency per descriptor by batch size", "µs", true, {}};
  const std::vector<std::string> ways = ways_in(report);
  for (size_t i = 0; i < ways.size(); i++) {
    if (ways.size() == 1)
      add_whole(report, ways[i], written, read, latency);
    else
      add_way(report, ways[i], i, read, latency);
  }
  return svg(report, written) + svg(report, read) + svg(report, latency);
}

std::string notes(const Json& report) {
  std::string out;
  for (const std::string note : report["notes"]) out += fmt::format("<p class=\"bad\">{}</p>\n", escape_html(note));
  return out;
}

std::string html_table(const Json& runs) {
  std::string out =
      "<div class=\"wide\"><table><tr><th>block<th>asked<th>via<th>op<th>keys<th>batch<th>logical GiB/s<th>wire "
      "GiB/s<th>µs a descriptor<th>p99<th>wire ops<th>copies<th>of our client<th>verified<th>wrong</tr>\n";
  for (const Json& run : runs) {
    const bool client = !run["client_gib_per_s"].is_null();
    out += fmt::format(
        "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{:.3f}<td>{:.3f}<td>{:.1f}<td>{:.1f}<td>{:.1f}<td>{:.1f}<td>{}<td>"
        "{}<td>{}</tr>\n",
        base::format_bytes(run["block_bytes"]), run["asked"].get<std::string>(),
        via_of(run) + (run["emulated"] ? ", emulated" : ""), run["op"].get<std::string>(),
        run["keys"].get<std::string>(), run["batch"].get<uint32_t>(), run["logical_gib_per_s"].get<double>(),
        run["wire_gib_per_s"].get<double>(), run["descriptor_us_p50"].get<double>(),
        run["descriptor_us_p99"].get<double>(), run["wire_ops_per_request"].get<double>(),
        run["copies_per_request"].get<double>(),
        client ? fmt::format("{:.2f}", run[kRate].get<double>() / run["client_gib_per_s"].get<double>()) : "–",
        run["verified_blocks"].get<uint64_t>(), run["mismatches"].get<uint64_t>());
  }
  return out + "</table></div>\n";
}

}  // namespace

std::string nixl_html(const Json& report) {
  return page_of(
      report, "MemKV through NIXL",
      cards_of(report["runs"], kRate, "peak logical read") + notes(report) + tables(report) +
          "<h2>Logical and wire, and latency</h2>" + charts(report) +
          "<p class=\"soft\">GiB/s are 2<sup>30</sup> bytes. <b>Logical</b> counts every descriptor whole, as "
          "nixlbench does; <b>wire</b> is what crossed the network. Where several descriptors of a request read the "
          "same block it is fetched once and copied in memory, so that logical is above wire. <b>Via</b> is what "
          "carried the bytes, with the number of rails, as the servers counted them.</p>\n<h2>All lines</h2>" +
          html_table(report["runs"]));
}

}  // namespace memkv::bench
