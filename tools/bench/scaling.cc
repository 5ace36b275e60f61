/// memkv-bench scaling: the same load for each server, on the first 1, 2, ... N servers. Shows what each one adds.

#include <fmt/core.h>

#include <algorithm>

#include "base/units.h"
#include "tools/bench/options.h"
#include "tools/bench/report.h"
#include "tools/bench/target.h"

namespace memkv::bench {
namespace {

struct Peak {
  double write = 0, read = 0;
  uint64_t wrong = 0, failures = 0;
};

/// Puts key `n` on server `n` modulo their number. So a short run ends on all servers at once, and behaves like a long
/// one.
void place_in_turn(KeySpace& keys, const Client& client) {
  keys.salts.assign(keys.generations.size(), 0);
  for (uint64_t n = 0; n < keys.salts.size(); n++) {
    while (client.server_of(keys.key(n)) != n % client.server_count()) keys.salts[n]++;
  }
}

/// The best rates of writing and reading over the block sizes. Keys are dealt to the servers in turn, so that each
/// server has the same load.
Result<Peak, Message> peak_of(LoadPlan plan, const std::vector<uint64_t>& sizes, size_t servers) {
  Peak peak;
  auto client = Client::connect(plan.client);
  if (!client) return client.error();
  plan.depth *= static_cast<uint32_t>(servers);
  plan.order = Order::kSequential;
  for (const uint64_t size : sizes) {
    KeySpace keys;
    keys.prefix = fmt::format("bench/{:016x}/{}/", random_tag(), size);
    keys.block_bytes = size;
    keys.generations.resize(std::max<uint64_t>(plan.bytes * servers / size, plan.threads));
    place_in_turn(keys, *client);
    plan.keys = &keys;
    for (const bool write : {true, false}) {
      LoadPlan one = plan;
      one.bytes = keys.generations.size() * size;
      one.first_fill = write;
      one.read_share = write ? 0 : 1;
      LoadResult result;
      if (auto run = run_load(one, result); !run) return run.error();
      double& best = write ? peak.write : peak.read;
      best = std::max(best, result.gib_per_s());
      peak.wrong += result.mismatches;
      peak.failures += result.failures;
    }
    remove_all(plan.client, keys);
  }
  return peak;
}

}  // namespace

/// `memkv-bench scaling`: the same load on one server, on two, and so on, each beside N times the first.
int run_scaling(const ScalingOptions& options) {
  auto plan = plan_of(options.load);
  if (!plan) return complain(plan.error());
  auto sizes = sizes_of(options.load.sizes.empty() ? std::vector<std::string>{"1MiB", "4MiB"} : options.load.sizes);
  if (!sizes) return complain(sizes.error());
  auto target = open_target(options.target, 3 * plan->bytes);
  if (!target) return complain(target.error());
  std::vector<std::string> all = options.target.servers;
  if (all.empty()) all = target->names;
  Json report;
  report["machine"] = describe_machine();
  report["servers"] = target->statuses;
  report["scaling"] = Json::array();
  fmt::print("{:>8} {:>12} {:>12} {:>13} {:>13}\n", "servers", "write GiB/s", "read GiB/s", "write ratio",
             "read ratio");
  Peak one;
  uint64_t wrong = 0;
  for (size_t n = 1; n <= all.size(); n++) {
    plan->client = target->client;
    if (!options.target.servers.empty()) plan->client.servers = {all.begin(), all.begin() + static_cast<ptrdiff_t>(n)};
    auto peak = peak_of(*plan, *sizes, n);
    if (!peak) return complain(peak.error());
    if (n == 1) one = *peak;
    wrong += peak->wrong + peak->failures;
    const double linear = static_cast<double>(n);
    const double write_ratio = one.write > 0 ? peak->write / one.write / linear : 0;
    const double read_ratio = one.read > 0 ? peak->read / one.read / linear : 0;
    report["scaling"].push_back({{"servers", n},
                                 {"write_gib_per_s", peak->write},
                                 {"read_gib_per_s", peak->read},
                                 {"write_ratio", write_ratio},
                                 {"read_ratio", read_ratio},
                                 {"mismatches", peak->wrong},
                                 {"failures", peak->failures}});
    fmt::print("{:>8} {:>12.3f} {:>12.3f} {:>13.3f} {:>13.3f}\n", n, peak->write, peak->read, write_ratio, read_ratio);
    fflush(stdout);
  }
  fmt::print("\nRatio: throughput of N servers over N times that of one. {} wrong or failed.\n", wrong);
  if (auto written = write_json(options.json, report); !written) return complain(written.error());
  return wrong > 0 ? 1 : 0;
}

}  // namespace memkv::bench
