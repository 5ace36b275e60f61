/// The report as one HTML file, which needs no network.

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "base/units.h"
#include "tools/bench/chart.h"
#include "tools/bench/report.h"

namespace memkv::bench {
namespace {

constexpr const char* kStyle = R"(<style>
:root{--ink:#1b2330;--soft:#5d6b7e;--line:#dde3ea;--paper:#fff;--back:#f4f6f9;--good:#137a4b;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf2;--soft:#93a1b5;--line:#2c3747;--paper:#161d28;--back:#0e131b;--good:#4fc38a;--bad:#ff8a80}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 12px}
.soft{color:var(--soft)}.cards{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}
.card{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:12px 18px;min-width:150px}
.card b{display:block;font-size:24px}.good{color:var(--good)}.bad{color:var(--bad)}
figure{background:var(--paper);border:1px solid var(--line);border-radius:10px;margin:16px 0;padding:16px}
figcaption{font-weight:600}.unit{color:var(--soft);font-weight:400}.legend{display:flex;flex-wrap:wrap;gap:16px;margin:6px 0;font-size:13px;color:var(--soft)}
.legend svg{width:26px;margin-right:6px;vertical-align:middle}figure>svg{width:100%;height:auto;display:block}
.grid{stroke:var(--line)}.tick{fill:var(--soft);font-size:11px}
.banner{border:2px solid var(--bad);border-radius:10px;padding:8px 14px;font-weight:600}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;background:var(--paper);font-size:13px}
th,td{padding:6px 8px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}th{color:var(--soft);font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 18px;font-size:13px}dt{color:var(--soft)}dd{margin:0}
</style>)";

/// Each op has a hue, each way has a shade.
const char* color_of(const std::string& way, const std::string& op) {
  const bool rails = way.starts_with("rdma:") && way != "rdma:1";
  const size_t shade = rails ? 3 : way == "shm" ? 1 : way.starts_with("rdma") ? 2 : way == "auto" ? 4 : 0;
  constexpr const char* kRead[] = {"#2f6fed", "#12a4a4", "#6a3fd8", "#1f2f8f", "#137a4b"};
  constexpr const char* kWrite[] = {"#e2703a", "#c9a200", "#c2255c", "#7d1128", "#9c5b1a"};
  constexpr const char* kMixed[] = {"#8a4fd3", "#5f7a2e", "#7a4b2e", "#4d4d4d", "#b39ddb"};
  return op == "read" ? kRead[shade] : op == "write" ? kWrite[shade] : kMixed[shade];
}

/// Lists become text such as one would write.
std::string text_of(const Json& value) {
  const auto is_text = [](const Json& item) { return item.is_string(); };
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array() || !std::all_of(value.begin(), value.end(), is_text)) return value.dump();
  std::string text;
  for (const std::string item : value) text += (text.empty() ? "" : ", ") + item;
  return text;
}

std::string charts(const Json& runs) {
  Chart rate{"Throughput by block size", "GiB/s", false, {}}, latency{"Latency by block size", "µs", true, {}};
  std::map<std::string, std::vector<const Json*>> by_op;
  for (const Json& run : runs)
    by_op[run["asked"].get<std::string>() + " " + run["op"].get<std::string>()].push_back(&run);
  for (const auto& [name, list] : by_op) {
    const std::string color = color_of(list.front()->at("asked"), list.front()->at("op"));
    Series speed{name, color, false, {}}, ceiling{name + ", ceiling", color, true, {}};
    Series p50{name + " p50", color, false, {}}, p99{name + " p99", color, true, {}};
    for (const Json* run : list) {
      const double x = (*run)["block_bytes"];
      speed.points.emplace_back(x, (*run)["gib_per_s"]);
      if (!(*run)["ceiling_gib_per_s"].is_null()) ceiling.points.emplace_back(x, (*run)["ceiling_gib_per_s"]);
      p50.points.emplace_back(x, (*run)["latency_us"]["p50"]);
      p99.points.emplace_back(x, (*run)["latency_us"]["p99"]);
    }
    rate.series.push_back(speed);
    if (!ceiling.points.empty()) rate.series.push_back(ceiling);
    latency.series.push_back(p50);
    latency.series.push_back(p99);
  }
  return svg_of(rate) + svg_of(latency);
}

/// A row for each run, with what the machine could do at most beside its rate.
std::string table(const Json& runs) {
  std::string out =
      "<div class=\"wide\"><table><tr><th>block<th>asked<th>via<th>op<th>GiB/s<th>of ceiling<th>of one "
      "copy<th>ops/s<th>p50 "
      "µs<th>p90<th>p99<th>p99.9"
      "<th>max<th>CPU s/GiB client<th>server<th>verified<th>wrong</tr>\n";
  for (const Json& run : runs) {
    const Json& l = run["latency_us"];
    const auto share_of = [&run](const char* most) {
      return run[most].is_null()
                 ? "–"
                 : fmt::format("{:.0f} %", 100 * run["gib_per_s"].get<double>() / run[most].get<double>());
    };
    out += fmt::format(
        "<tr><td>{}<td>{}<td>{}<td>{}<td>{:.3f}<td>{}<td>{}<td>{:.0f}<td>{:.1f}<td>{:.1f}<td>{:.1f}<td>{:.1f}<td>{:.1f}"
        "<td>{:"
        ".3f}<td>{}<td>{}<td>{}</"
        "tr>\n",
        base::format_bytes(run["block_bytes"]), run["asked"].get<std::string>(),
        via_of(run) + (run["emulated"] ? ", emulated" : ""), run["op"].get<std::string>(),
        run["gib_per_s"].get<double>(), share_of("ceiling_gib_per_s"), share_of("one_copy_ceiling_gib_per_s"),
        run["ops_per_s"].get<double>(), l["p50"].get<double>(), l["p90"].get<double>(), l["p99"].get<double>(),
        l["p99.9"].get<double>(), l["max"].get<double>(), run["client_cpu_s_per_gib"].get<double>(),
        run["server_cpu_s_per_gib"].is_null() ? "–" : fmt::format("{:.3f}", run["server_cpu_s_per_gib"].get<double>()),
        run["verified_blocks"].get<uint64_t>(), run["mismatches"].get<uint64_t>());
  }
  return out + "</table></div>\n";
}

std::string card(const std::string& value, const std::string& what, const char* style = "") {
  return fmt::format("<div class=\"card\"><b class=\"{}\">{}</b>{}</div>", style, value, what);
}

std::string facts(const Json& object) {
  std::string out = "<dl>";
  for (const auto& [name, value] : object.items())
    out += fmt::format("<dt>{}<dd>{}", escape_html(name), escape_html(text_of(value)));
  return out + "</dl>\n";
}

}  // namespace

std::string page_of(const Json& report, const std::string& title, const std::string& body) {
  const Json& machine = report["machine"];
  std::string out =
      "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">"
      "<title>" +
      title + "</title>\n";
  out += kStyle;
  out += fmt::format("<main><h1>{}</h1><div class=\"soft\">{} · {} · commit {}</div>\n", title,
                     escape_html(text_of(machine["date"])), escape_html(text_of(machine["cpu"])),
                     escape_html(text_of(machine["commit"])));
  if (report.value("emulated", false))
    out += "<p class=\"banner\">Emulated: soft-RoCE devices carried these bytes. The rates are no performance.</p>\n";
  out += body;
  out += "<h2>Settings</h2>" + facts(report["settings"]);
  out += "<h2>Machine</h2>" + facts(machine);
  for (const Json& server : report["servers"]) out += "<h2>Server</h2>" + facts(server);
  return out + "</main></html>\n";
}

std::string cards_of(const Json& runs, const char* rate, const std::string& read_name) {
  double read = 0, write = 0;
  uint64_t verified = 0, wrong = 0;
  for (const Json& run : runs) {
    double& best = run["op"] == "read" ? read : write;
    best = std::max(best, run[rate].get<double>());
    verified += run["verified_blocks"].get<uint64_t>();
    wrong += run["mismatches"].get<uint64_t>();
  }
  return "<div class=\"cards\">" + card(fmt::format("{:.2f} GiB/s", read), read_name) +
         card(fmt::format("{:.2f} GiB/s", write), "peak write") + card(fmt::format("{}", verified), "blocks verified") +
         card(fmt::format("{}", wrong), "wrong blocks", wrong == 0 ? "good" : "bad") + "</div>\n";
}

std::string html_of(const Json& report) {
  const Json& runs = report["runs"];
  return page_of(
      report, "MemKV benchmark",
      cards_of(runs, "gib_per_s", "peak read") + charts(runs) +
          "<p class=\"soft\">GiB/s are 2<sup>30</sup> bytes. Dashed: what a bare request and response over "
          "TCP, or over a bare ring in shared memory, reaches on this machine, measured in the same run. <b>One "
          "copy</b>: the same over TCP, with blocks lent to the socket. "
          "Latency is of one batch, from submit to "
          "completion. <b>Via</b> is what carried the bytes, as the servers counted them.</p>\n<h2>All runs</h2>" +
          table(runs));
}

}  // namespace memkv::bench
