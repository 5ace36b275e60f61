/// memkv-sim: runs seeds, replays one, shrinks one (docs/simulator.md).

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string>

#include "base/log.h"
#include "sim/bugs.h"
#include "sim/fork.h"
#include "sim/junit.h"
#include "sim/shrink.h"

namespace {

using namespace memkv;

struct Arguments {
  uint64_t seeds = 1000, from = 1, jobs = 1, seconds = 0, seeds_min = 0;
  uint64_t seed = 0, shrink = 0;
  bool log = false, bugs = false, only_wrong_bytes = false, several = false, shm = false, rdma = false;
  std::string keep, bug, junit;
};

double seconds_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::vector<size_t> parse_keep(const std::string& text) {
  std::vector<size_t> places;
  for (size_t at = 0; at < text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, comma - at);
    const size_t dash = part.find('-');
    const size_t first = std::stoul(part);
    const size_t last = dash == std::string::npos ? first : std::stoul(part.substr(dash + 1));
    for (size_t place = first; place <= last; place++) places.push_back(place);
    at = comma + 1;
  }
  return places;
}

int replay(const Arguments& arguments, sim::Run::Options options) {
  if (!arguments.log) base::set_log_level(base::LogLevel::kOff);
  const std::vector<size_t> keep = parse_keep(arguments.keep);
  options.log = arguments.log;
  const sim::RunResult result = sim::run_seed(arguments.seed, options, arguments.keep.empty() ? nullptr : &keep);
  fmt::print(
      "seed {}: {} servers{}, {} ops, {} reads checked, {:.1f} simulated seconds, trace {:016x} of {} lines: {}\n",
      arguments.seed, result.servers, result.shm ? ", shm" : "", result.ops, result.reads,
      static_cast<double>(result.simulated_ns) * 1e-9, result.trace_hash, result.trace_lines,
      result.violation.empty() ? "all was well" : result.violation);
  return result.violation.empty() ? 0 : 1;
}

/// The worst that a store can do: return bytes that nobody wrote there, or change a caller's memory after its op
/// completed.
bool is_wrong_bytes(const std::string& violation) {
  return violation.find("wrong bytes") != std::string::npos || violation.find("memory of") != std::string::npos;
}

bool is_left_out(const Arguments& arguments, const sim::Setup& setup) {
  return (arguments.several && setup.servers() == 1) || (arguments.shm && !setup.has_shm()) ||
         (arguments.rdma && setup.rails == 0);
}

/// Seeds from `from` on, in children. The last line is the verdict.
int run_all(const Arguments& arguments, const sim::Run::Options& options) {
  const std::string bug = arguments.bug.empty() ? "" : " --bug " + arguments.bug;
  const double start = seconds_now();
  uint64_t next_seed = arguments.from, begun = 0, ended = 0, several = 0, shm = 0, rdma = 0, failed = 0, forgiven = 0;
  sim::RunResult sum;
  sim::Junit junit("sim", arguments.junit);
  const auto more = [&](uint64_t& seed) {
    const bool late = arguments.seconds != 0 && seconds_now() - start >= static_cast<double>(arguments.seconds) &&
                      begun >= arguments.seeds_min;
    if (begun >= arguments.seeds || late) return false;
    while (is_left_out(arguments, sim::make_plan(next_seed, options.may_have()).setup)) next_seed++;
    seed = next_seed++;
    begun++;
    return true;
  };
  sim::run_many(static_cast<uint32_t>(arguments.jobs), options, more, [&](const sim::SeedReport& report) {
    ended++;
    const sim::RunResult& r = report.result;
    several += r.servers > 1 ? 1 : 0;
    shm += r.shm ? 1 : 0;
    sum.windows += r.windows, sum.switches += r.switches;
    rdma += r.rails > 0 ? 1 : 0;
    sum.ops += r.ops, sum.reads += r.reads, sum.changes += r.changes, sum.given_up += r.given_up;
    sum.kills += r.kills, sum.faults += r.faults, sum.simulated_ns += r.simulated_ns;
    sum.rdma_bytes += r.rdma_bytes;
    sum.misses_excused += r.misses_excused, sum.stale_excused += r.stale_excused;
    if (!r.violation.empty()) {
      failed++;
      const bool forgives = arguments.only_wrong_bytes && !is_wrong_bytes(r.violation);
      forgiven += forgives ? 1 : 0;
      if (!forgives) junit.add(fmt::format("seed {}", report.seed), r.violation);
      fmt::print("seed {} FAILED: {}\n  replay: ./dev sim --seed {} --log{}\n", report.seed, r.violation, report.seed,
                 bug);
      std::fflush(stdout);
    }
    if (isatty(STDOUT_FILENO) != 0) {
      fmt::print("\r{} seeds, {} failed ", ended, failed);
      std::fflush(stdout);
    }
  });
  if (isatty(STDOUT_FILENO) != 0) fmt::print("\r");
  const double took = seconds_now() - start;
  if (failed == forgiven) junit.add(fmt::format("seeds {} to {}", arguments.from, next_seed - 1), "");
  fmt::print(
      "sim: {} seeds ({} to {}; {} with several servers, {} with shm, {} with rdma), {} failed; {} ops, {} given up, "
      "{} reads checked ({} misses and {} stale ones excused), {} faults, {} kills, {} windows, {} switches of "
      "transport, "
      "{} MB over rdma, {:.0f} simulated seconds in {:.1f} s\n",
      ended, arguments.from, next_seed - 1, several, shm, rdma, failed, sum.ops, sum.given_up, sum.reads,
      sum.misses_excused, sum.stale_excused, sum.faults, sum.kills, sum.windows, sum.switches,
      sum.rdma_bytes / 1'000'000, static_cast<double>(sum.simulated_ns) * 1e-9, took);
  if (forgiven > 0) fmt::print("{} of the failed are told and not counted: no wrong bytes\n", forgiven);
  return junit.write() && failed == forgiven ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Runs whole servers and clients in a simulated world, from seeds (docs/simulator.md)", "memkv-sim");
  Arguments arguments;
  app.add_option("--seeds", arguments.seeds, "how many seeds to run");
  app.add_option("--from", arguments.from, "the first of them");
  app.add_option("--jobs", arguments.jobs, "so many at once")->check(CLI::Range(1, 256));
  app.add_option("--seconds", arguments.seconds, "begin no seed after so many seconds; 0: no limit");
  app.add_option("--seeds-min", arguments.seeds_min, "run so many however long it takes");
  app.add_flag("--several", arguments.several, "leave out the seeds that have one server");
  app.add_flag("--shm", arguments.shm, "leave out the seeds that have no shm");
  app.add_flag("--rdma", arguments.rdma, "leave out the seeds that have no RDMA");
  app.add_flag("--only-wrong-bytes", arguments.only_wrong_bytes,
               "other failures are printed, but the exit status does not tell of them");
  app.add_option("--junit", arguments.junit, "write a <testsuite> with the verdict to this file");
  auto* seed = app.add_option("--seed", arguments.seed, "run only this one, in this process");
  app.add_flag("--log", arguments.log, "with --seed: print what happens, and what the product logs");
  app.add_option("--keep", arguments.keep, "with --seed: only these of its actions (0-5,9), as --shrink prints them");
  auto* shrink = app.add_option("--shrink", arguments.shrink, "find the fewest actions of this seed that still fail");
  app.add_option("--bug", arguments.bug, "with a planted bug (--bugs lists them)");
  app.add_flag("--bugs", arguments.bugs,
               "show that each planted bug, or that of --bug, is found; the last line counts");
  CLI11_PARSE(app, argc, argv);
  sim::Run::Options options;
  if (!arguments.bug.empty() && !sim::plant(arguments.bug, options)) {
    fmt::print(stderr, "memkv-sim: no planted bug '{}'; there are: {}\n", arguments.bug, sim::bug_names());
    return 2;
  }
  if (arguments.bugs) {
    const auto jobs = static_cast<uint32_t>(arguments.jobs);
    return sim::find_bugs(arguments.from, jobs, arguments.junit, arguments.bug) ? 0 : 1;
  }
  if (shrink->count() > 0) return sim::shrink_seed(arguments.shrink, options) ? 0 : 1;
  return seed->count() > 0 ? replay(arguments, options) : run_all(arguments, options);
}
