#include "tools/bench/report.h"

#include <fmt/chrono.h>
#include <fmt/core.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <sstream>

#include "base/hash.h"
#include "base/standard_streams.h"
#include "base/units.h"
#include "tools/bench/child.h"
#include "tools/bench/rounds.h"
#include "tools/build_info.h"

namespace memkv::bench {
namespace {

constexpr double kGiB = 1 << 30;
constexpr double kLineEverySeconds = 3;

/// Reads the value of the first line of `path` that starts with `name`: what stands behind the colon.
std::string field_of(const char* path, std::string_view name) {
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name)) continue;
    const size_t at = line.find_first_not_of(" \t:", line.find(':'));
    return at == std::string::npos ? "" : line.substr(at);
  }
  return "";
}

/// Shows progress. If nobody reads it, it is dropped: it must not hold up what is measured.
void show(const std::string& text) { (void)base::write_stderr(text); }

double us(uint64_t ns) { return static_cast<double>(ns) / 1e3; }

double per_gib(double seconds, uint64_t bytes) {
  return bytes == 0 ? 0 : seconds / (static_cast<double>(bytes) / kGiB);
}

}  // namespace

Json describe_machine() {
  utsname name{};
  uname(&name);
  const std::string memory = field_of("/proc/meminfo", "MemTotal");
  return {{"cpu", field_of("/proc/cpuinfo", "model name")},
          {"cpus", sysconf(_SC_NPROCESSORS_ONLN)},
          {"memory", base::format_bytes(memory.empty() ? 0 : std::stoull(memory) * 1024)},
          {"kernel", fmt::format("{} {}", name.sysname, name.release)},
          {"hash_isa", base::hash_isa()},
          {"program", fmt::format("memkv-bench {}", tools::kVersion)},
          {"commit", tools::kCommit},
          {"date", fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(std::time(nullptr)))}};
}

Json json_of(const Run& run, const std::vector<std::string>& servers) {
  const LoadResult& r = run.result;
  Json json;
  json["asked"] = run.way;
  run.carried.tell(json, servers);
  json["emulated"] = run.emulated;
  json["op"] = run.op;
  json["block_bytes"] = run.block_bytes;
  json["threads"] = run.threads;
  json["batch"] = run.batch;
  json["depth"] = run.depth;
  json["keys"] = run.keys;
  json["gib_per_s"] = r.gib_per_s();
  json["ops_per_s"] = r.ops_per_s();
  json["ceiling_gib_per_s"] = run.ceiling_gib_per_s > 0 ? Json(run.ceiling_gib_per_s) : Json(nullptr);
  json["one_copy_ceiling_gib_per_s"] = run.one_copy_gib_per_s > 0 ? Json(run.one_copy_gib_per_s) : Json(nullptr);
  json["latency_us"] = {{"p50", us(r.latency.percentile_ns(50))},
                        {"p90", us(r.latency.percentile_ns(90))},
                        {"p99", us(r.latency.percentile_ns(99))},
                        {"p99.9", us(r.latency.percentile_ns(99.9))},
                        {"max", us(r.latency.max_ns())}};
  json["client_cpu_s_per_gib"] = per_gib(r.client_cpu, r.bytes);
  json["server_cpu_s_per_gib"] = run.server_cpu_known ? Json(per_gib(r.server_cpu, r.bytes)) : Json(nullptr);
  json["bytes"] = r.bytes;
  json["seconds"] = r.seconds;
  json["misses"] = r.misses;
  json["failures"] = r.failures;
  json["verified_blocks"] = r.verified;
  json["mismatches"] = r.mismatches;
  return json;
}

std::string table_head() {
  return fmt::format(
      "{:>8} {:>7} {:>8} {:>6} {:>9} {:>10} {:>9} {:>6} {:>9} {:>10} {:>10} {:>10} {:>8} {:>8} {:>10} {:>6}\n", "block",
      "asked", "via", "op", "GiB/s", "ops/s", "ceiling", "share", "one copy", "p50 us", "p99 us", "p99.9 us", "CPU cl.",
      "CPU srv.", "verified", "wrong");
}

std::string table_line(const Json& run) {
  const double rate = run["gib_per_s"];
  const bool ceiling = !run["ceiling_gib_per_s"].is_null();
  const double most = ceiling ? run["ceiling_gib_per_s"].get<double>() : 0;
  const Json& latency = run["latency_us"];
  const auto maybe = [](const Json& value, const char* format) {
    return value.is_null() ? std::string("-") : fmt::format(fmt::runtime(format), value.get<double>());
  };
  return fmt::format(
      "{:>8} {:>7} {:>8} {:>6} {:>9.3f} {:>10.0f} {:>9} {:>6} {:>9} {:>10.1f} {:>10.1f} {:>10.1f} {:>8.3f} {:>8} "
      "{:>10} "
      "{:>6}{}\n",
      base::format_bytes(run["block_bytes"]), run["asked"].get<std::string>(), via_of(run),
      run["op"].get<std::string>(), rate, run["ops_per_s"].get<double>(), maybe(run["ceiling_gib_per_s"], "{:.3f}"),
      ceiling ? fmt::format("{:.0f} %", 100 * rate / most) : "-", maybe(run["one_copy_ceiling_gib_per_s"], "{:.3f}"),
      latency["p50"].get<double>(), latency["p99"].get<double>(), latency["p99.9"].get<double>(),
      run["client_cpu_s_per_gib"].get<double>(), maybe(run["server_cpu_s_per_gib"], "{:.3f}"),
      run["verified_blocks"].get<uint64_t>(), run["mismatches"].get<uint64_t>(), run["emulated"] ? " emulated" : "");
}

Result<void, Message> write_text(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::trunc);
  out << text;
  out.close();
  if (!out) return Message{Status::kIo, fmt::format("cannot write {}: {}", path, strerror(errno))};
  return {};
}

Result<void, Message> write_json(const std::string& path, const Json& report) {
  return path.empty() ? Result<void, Message>() : write_text(path, report.dump(2) + "\n");
}

Progress::Progress(std::string what, uint64_t total_bytes)
    : what_(std::move(what)),
      total_(total_bytes),
      terminal_(isatty(STDERR_FILENO) != 0),
      started_(monotonic_seconds()) {
  shown_ = started_;
}

void Progress::update(uint64_t bytes) {
  const double now = monotonic_seconds();
  if (now - shown_ < (terminal_ ? 0.1 : kLineEverySeconds)) return;
  shown_ = now;
  any_ = true;
  const double share = total_ == 0 ? 0 : std::min(1.0, static_cast<double>(bytes) / static_cast<double>(total_));
  if (!terminal_) {
    show(fmt::format("{}: {:.0f} % of {} after {:.0f} s\n", what_, 100 * share, base::format_bytes(total_),
                     now - started_));
    return;
  }
  const auto filled = static_cast<size_t>(share * 30);
  show(fmt::format("\r{:<24} [{}{}] {:3.0f} %", what_, std::string(filled, '#'), std::string(30 - filled, '.'),
                   100 * share));
}

Progress::~Progress() {
  if (terminal_ && any_) show(fmt::format("\r{:<70}\r", ""));
}

}  // namespace memkv::bench
