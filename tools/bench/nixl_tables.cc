#include "tools/bench/nixl_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace memkv::bench {
namespace {

/// A column for each way, a row for each block size that at least one way ran. Null: none ran.
Json table_of(const Json& report, const std::string& title, const std::string& op, const std::string& keys,
              uint32_t batch) {
  const std::vector<std::string> ways = ways_in(report);
  std::vector<Lines> columns;
  std::set<uint64_t> blocks;
  for (const std::string& way : ways) {
    columns.push_back(lines_of(report, way, op, keys, batch));
    for (const auto& line : columns.back()) blocks.insert(line.first);
  }
  if (blocks.empty()) return nullptr;
  Json rows = Json::array();
  for (const uint64_t block : blocks) {
    Json rates = Json::array();
    for (const Lines& column : columns) {
      const bool run = column.contains(block);
      rates.push_back(run ? Json(number_of(column, block, "logical_gib_per_s")) : Json(nullptr));
    }
    rows.push_back({{"block_bytes", block}, {"gib_per_s", rates}});
  }
  return {{"title", title}, {"columns", ways}, {"rows", rows}};
}

std::string transport_of(const std::string& word) { return word.substr(0, word.find(':')); }

/// True if what carried the bytes fits what was asked for. Auto accepts any one transport.
bool as_asked(const std::string& asked, const std::string& carried) {
  return asked == "auto" ? carried.find_first_of("+?") == std::string::npos : carried == asked;
}

std::string note_of_transport(const std::string& way, const std::string& asked, const std::vector<const Json*>& runs) {
  std::map<std::string, size_t> others;
  for (const Json* run : runs) {
    const std::string carried = (*run)["transport"];
    if (!as_asked(asked, carried)) others[carried]++;
  }
  std::string text;
  for (const auto& [carried, count] : others)
    text += fmt::format("{}{} of {} lines went over {}", text.empty() ? way + ": " : ", ", count, runs.size(),
                        carried == "?" ? "what no server told" : carried);
  return text.empty() ? "" : text + ".";
}

std::string note_of_rails(const std::string& way, const std::vector<const Json*>& runs) {
  uint32_t asked = 0, most = 0;
  for (const Json* run : runs) {
    if (!(*run)["rails_asked"].is_null()) asked = (*run)["rails_asked"];
    if (!(*run)["rails"].is_null()) most = std::max(most, (*run)["rails"].get<uint32_t>());
  }
  return asked == most || asked == 0 ? "" : fmt::format("{}: the bytes went over {} at most.", way, most);
}

}  // namespace

Lines lines_of(const Json& report, const std::string& way, const std::string& op, const std::string& keys,
               uint32_t batch) {
  Lines lines;
  for (const Json& run : report["runs"]) {
    const bool right = run["way"] == way && run["op"] == op && run["batch"] == batch;
    if (right && (batch == 1 || run["keys"] == keys)) lines[run["block_bytes"]] = &run;
  }
  return lines;
}

std::vector<std::string> ways_in(const Json& report) {
  std::vector<std::string> ways;
  for (const Json& run : report["runs"]) {
    const std::string way = run["way"];
    if (std::find(ways.begin(), ways.end(), way) == ways.end()) ways.push_back(way);
  }
  return ways;
}

double number_of(const Lines& lines, uint64_t block, const char* field) {
  const auto found = lines.find(block);
  return found == lines.end() || found->second->at(field).is_null() ? 0 : found->second->at(field).get<double>();
}

Json nixl_tables(const Json& report) {
  const uint32_t batch = report["settings"]["max_batch_size"];
  const std::string written = fmt::format("{} throughput, batch {}", batch > 1 ? "Batched write" : "Write", batch);
  Json tables = Json::array();
  Json writes = table_of(report, written + (batch > 1 ? ", distinct keys" : ""), "write", "distinct", batch);
  if (writes.is_null()) writes = table_of(report, written + ", one key", "write", "one", batch);
  if (!writes.is_null()) tables.push_back(std::move(writes));
  Json reads = table_of(report, "Read throughput, batch 1", "read", "one", 1);
  if (!reads.is_null()) tables.push_back(std::move(reads));
  return tables;
}

Json nixl_notes(const Json& report) {
  Json notes = Json::array();
  for (const std::string& way : ways_in(report)) {
    std::vector<const Json*> runs;
    for (const Json& run : report["runs"]) {
      if (run["way"] == way) runs.push_back(&run);
    }
    const std::string asked = runs.front()->at("asked");
    for (std::string note : {note_of_transport(way, transport_of(asked), runs), note_of_rails(way, runs)}) {
      if (!note.empty()) notes.push_back(std::move(note));
    }
  }
  return notes;
}

}  // namespace memkv::bench
