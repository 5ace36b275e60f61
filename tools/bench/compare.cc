/// memkv-bench compare: MemKV, the bare ceilings, memcached and redis by turns, with the same blocks, depths and
/// connections.

#include <fmt/core.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "base/text.h"
#include "base/units.h"
#include "client/settings.h"
#include "tools/bench/busy.h"
#include "tools/bench/ceiling.h"
#include "tools/bench/options.h"
#include "tools/bench/report.h"
#include "tools/bench/rounds.h"
#include "tools/bench/target.h"

namespace memkv::bench {
namespace {

constexpr uint64_t kWindow = 128 << 20;
constexpr uint64_t kKeyBytes = 256 << 20;  // all keys of a size together hold this much: cold on both sides
constexpr double kSeconds = 0.4;

/// One thing that is measured. It is measured several times, and the median counts.
struct Contender {
  std::string name;
  std::function<Result<Best, Message>()> measure;
  std::vector<Best> results;
  Best median() const {
    std::vector<Best> sorted = results;
    std::sort(sorted.begin(), sorted.end(), [](const Best& a, const Best& b) { return a.gib_per_s < b.gib_per_s; });
    return sorted.empty() ? Best{} : sorted[sorted.size() / 2];
  }
};

/// Peers have no option for congestion control. So it is set by the route of loopback, in a network namespace of our
/// own.
bool own_network(const std::string& congestion) {
  const bool plain_word = congestion.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos;
  const bool can = std::system("ip -V > /dev/null 2>&1") == 0;  // look now: later there is no way back
  if (!plain_word || !can || unshare(CLONE_NEWNET) != 0) return false;
  std::string commands = "ip link set lo up";
  for (const char* route : {"127.0.0.0/8", "127.0.0.1"}) {
    commands +=
        fmt::format(" && ip route replace local {} dev lo table local proto kernel scope host src 127.0.0.1 congctl {}",
                    route, congestion);
  }
  return std::system(commands.c_str()) == 0;
}

class Compare {
 public:
  explicit Compare(const CompareOptions& options) : options_(options) {}

  Result<void, Message> run(const std::vector<uint64_t>& sizes) {
    if (auto started = start(); !started) return started;
    report["machine"] = describe_machine();
    report["congestion_control"] = options_.congestion;
    report["repeat"] = options_.repeat;
    report["busy"] = options_.busy;
    report["rows"] = Json::array();
    for (const uint64_t size : sizes) {
      if (auto r = run_size(size); !r) return r;
    }
    return options_.drive.empty() ? latency() : Result<void, Message>();
  }

  Json report;

 private:
  Result<void, Message> start() {
    if (auto named = name_transports(); !named) return named;
    if (auto started = start_own(false, dir_, own_); !started) return started;
    if (lends()) {
      if (auto started = start_own(true, lending_dir_, lending_); !started) return started;
    }
    auto bare = start_bare_servers(options_.congestion);
    if (!bare) return bare.error();
    bare_ = std::move(*bare);
    if (options_.no_peers || !options_.drive.empty()) return {};
    auto memcached = start_memcached(dir_->path()), redis = start_redis(dir_->path());
    if (!memcached || !redis) return Message{Status::kUnavailable, "memcached or redis did not start"};
    memcached_ = std::move(*memcached);
    redis_ = std::move(*redis);
    return {};
  }

  Result<void, Message> start_own(bool one_copy, std::unique_ptr<WorkDir>& dir, OwnServer& server) {
    auto made = WorkDir::make(options_.dir);
    if (!made) return made.error();
    dir = std::move(*made);
    auto own = start_own_server({.memory = options_.drive.empty(),
                                 .size_bytes = 2ull << 30,
                                 .workers = options_.workers,
                                 .congestion = options_.congestion,
                                 .one_copy = one_copy,
                                 .drive = options_.drive},
                                dir->path());
    if (!own) return own.error();
    server = std::move(*own);
    return {};
  }
  /// A second server of ours, which lends what it sends, stands beside the first.
  bool lends() const { return options_.drive.empty() && transports_.front() == Transport::kTcp; }

  Result<void, Message> name_transports() {
    const std::string list = !options_.transport.empty() ? options_.transport : options_.busy > 0 ? "tcp,shm" : "tcp";
    for (const std::string& name : base::split_list(list)) {
      auto transport = client::parse_transport(name, "--transport");
      if (!transport) return transport.error();
      transports_.push_back(*transport);
    }
    return {};
  }

  /// Over the first transport it has no name of its own: it is what the others are compared with.
  std::string memkv_name(Transport transport) const {
    return transport == transports_.front() ? "MemKV" : fmt::format("MemKV, {}", to_string(transport));
  }

  Result<Best, Message> measure_peer(const Peer& peer, uint64_t size, bool put, bool hash, bool lend = false) {
    return best_of_peer({.peer = &peer,
                         .put = put,
                         .hash = hash,
                         .lend = lend,
                         .block_bytes = size,
                         .keys = keys_of(size),
                         .window_bytes = kWindow,
                         .seconds = kSeconds,
                         .depths = depths_,
                         .connections = connections_,
                         .congestion = options_.congestion});
  }

  uint64_t keys_of(uint64_t size) const { return std::min<uint64_t>(kKeyBytes / size, 1 << 15); }

  LoadPlan plan_for(const OwnServer& server, KeySpace& keys, Transport transport) const {
    LoadPlan plan;
    plan.client.servers = {server.address};
    plan.client.namespace_key = server.auth_key;
    plan.client.congestion = options_.congestion.empty() ? "system" : options_.congestion;
    plan.client.transport = transport;
    plan.keys = &keys;
    plan.server_cpu = [pid = server.child->pid()] { return cpu_seconds_of(pid); };
    return plan;
  }

  /// MemKV's best over all numbers of connections and depths, as the peers are measured too. A wrong or failed op ends
  /// the comparison.
  Result<Best, Message> measure_memkv(const OwnServer& server, KeySpace& keys, Transport transport, bool put,
                                      PutChecksum checksum) {
    Best best;
    for (const uint32_t threads : connections_) {
      for (const uint32_t depth : depths_) {
        LoadPlan plan = plan_for(server, keys, transport);
        plan.client.put_checksum = checksum;
        plan.threads = threads;
        plan.depth = depth;
        plan.read_share = put ? 0 : 1;
        plan.bytes = uint64_t{1} << 50;
        plan.window_bytes = std::max(kWindow, threads * depth * keys.block_bytes);
        plan.seconds_max = kSeconds;
        LoadResult result;
        if (auto run = run_load(plan, result); !run) return run.error();
        if (result.mismatches + result.failures > 0)
          return Message{Status::kCorrupt, fmt::format("MemKV: {} wrong, {} failed ({})", result.mismatches,
                                                       result.failures, result.first_failure)};
        if (result.gib_per_s() > best.gib_per_s) {
          best = {result.gib_per_s(),
                  result.ops_per_s(),
                  threads,
                  depth,
                  static_cast<double>(result.latency.percentile_ns(50)) / 1e3,
                  result.cpu_s_per_gib()};
        }
      }
    }
    return best;
  }

  Result<void, Message> fill(const OwnServer& server, KeySpace& keys) {
    LoadPlan plan = plan_for(server, keys, transports_.front());
    plan.first_fill = true;
    plan.window_bytes = std::max(kWindow, 8 * keys.block_bytes);
    LoadResult result;
    if (auto run = run_load(plan, result); !run) return run;
    if (result.failures > 0) return Message{Status::kIo, "filling failed: " + result.first_failure};
    return {};
  }

  Result<void, Message> fill_peer(const Peer& peer, uint64_t size) {
    PeerPlan plan;
    plan.peer = &peer;
    plan.put = true;
    plan.block_bytes = size;
    plan.keys = keys_of(size);
    plan.bytes = plan.keys * size;
    plan.window_bytes = kWindow;
    PeerResult result;
    return run_peer(plan, result);
  }

  Result<void, Message> run_size(uint64_t size) {
    KeySpace keys;
    keys.prefix = fmt::format("bench/{:08x}/{}/", random_tag(), size);
    keys.block_bytes = size;
    keys.generations.resize(keys_of(size));
    if (auto filled = fill(own_, keys); !filled) return filled;
    KeySpace lent = keys;  // the same blocks, of other generations in time
    if (lends()) {
      if (auto filled = fill(lending_, lent); !filled) return filled;
    }
    Peer pipeline;
    if (!options_.drive.empty()) {
      const std::string file = dir_->path() + "/pipeline";
      if (auto made = prepare_pipeline(file, size, pipeline); !made) return made;
    } else if (!options_.no_peers) {
      for (const Peer* peer : {&memcached_, &redis_}) {
        if (auto filled = fill_peer(*peer, size); !filled) return filled;
      }
    }
    for (const bool put : {false, true}) {
      if (auto r = run_op(keys, lent, put, pipeline); !r) return r;
    }
    return {};
  }

  Result<void, Message> prepare_pipeline(const std::string& file, uint64_t size, Peer& pipeline) {
    if (!std::filesystem::exists(file)) {
      if (auto made = make_drive_file(file, kKeyBytes); !made) return made;
    }
    auto started =
        start_bare({.drive = file, .drive_bytes = kKeyBytes, .block_bytes = size, .congestion = options_.congestion});
    if (!started) return started.error();
    pipeline = std::move(*started);
    return {};
  }

  /// All contenders for one block size and direction: MemKV, and what may be compared with it.
  Result<void, Message> run_op(KeySpace& keys, KeySpace& lent, bool put, const Peer& pipeline) {
    const uint64_t size = keys.block_bytes;
    std::vector<Contender> all;
    const auto add = [&](std::string name, std::function<Result<Best, Message>()> measure) {
      all.push_back({std::move(name), std::move(measure), {}});
    };
    const Transport first = transports_.front();
    const auto memkv = [this, put](const OwnServer& server, KeySpace& of, Transport transport, PutChecksum checksum) {
      return [&, transport, checksum, put] { return measure_memkv(server, of, transport, put, checksum); };
    };
    add("MemKV", memkv(own_, keys, first, PutChecksum::kClient));
    if (put) add("MemKV, put_checksum server", memkv(own_, keys, first, PutChecksum::kServer));
    if (lends() && !put) add("MemKV, one copy", memkv(lending_, lent, first, PutChecksum::kClient));
    for (const Transport other : others()) add(memkv_name(other), memkv(own_, keys, other, PutChecksum::kClient));
    if (!options_.drive.empty()) {
      add(put ? "bare TCP to drive" : "bare drive to TCP",
          [&, put] { return measure_peer(pipeline, size, put, false); });
    } else {
      add("bare", [&, put] { return measure_peer(bare_.plain, size, put, false); });
      if (!put) add("bare, client hashes", [&] { return measure_peer(bare_.plain, size, false, true); });
      if (put) add("bare, both hash", [&] { return measure_peer(bare_.hashing, size, true, true); });
      if (put) add("bare, server hashes", [&] { return measure_peer(bare_.hashing, size, true, false); });
      add("bare, one copy",
          [&, put] { return measure_peer(put ? bare_.plain : bare_.lending, size, put, false, true); });
      add(put ? "bare, one copy, both hash" : "bare, one copy, client hashes",
          [&, put] { return measure_peer(put ? bare_.hashing : bare_.lending, size, put, true, true); });
      if (!options_.no_peers) {
        add("memcached -t 2", [&, put] { return measure_peer(memcached_, size, put, false); });
        add("redis", [&, put] { return measure_peer(redis_, size, put, false); });
      }
    }
    if (auto measured = measure_all(all); !measured) return measured;
    print(size, put ? "put" : "get", all);
    return {};
  }

  /// Measures the contenders by turns, so that other load on the machine slows all of them alike.
  Result<void, Message> measure_all(std::vector<Contender>& all) {
    for (uint32_t round = 0; round < options_.repeat; round++) {
      for (Contender& one : all) {
        auto best = one.measure();
        if (!best) return best.error();
        one.results.push_back(*best);
      }
    }
    return {};
  }

  /// A line for each contender, and a row of the report. The first is MemKV; a ratio is its rate over the other's.
  void print(uint64_t size, const std::string& op, const std::vector<Contender>& all) {
    fmt::print("\n{} {}, median of {}\n", base::format_bytes(size), op, options_.repeat);
    const bool both = op == "put";
    fmt::print("  {:<30} {:>9} {:>11} {:>8}  {:<22} {:>12}{}\n", "", "GiB/s", "ops/s", "CPU s/GiB", "best of",
               "MemKV ratio", both ? "   server sums" : "");
    for (const Contender& one : all) {
      const Best best = one.median();
      const double ratio = all[0].median().gib_per_s / best.gib_per_s;
      const double ratio2 = both ? all[1].median().gib_per_s / best.gib_per_s : 0;
      fmt::print("  {:<30} {:>9.3f} {:>11.0f} {:>9.2f}  {:<22} {:>12.2f}{}\n", one.name, best.gib_per_s, best.ops_per_s,
                 best.cpu_s_per_gib, fmt::format("{} conn., depth {}", best.connections, best.depth), ratio,
                 both ? fmt::format("{:>14.2f}", ratio2) : "");
      report["rows"].push_back({{"block_bytes", size},
                                {"op", op},
                                {"name", one.name},
                                {"gib_per_s", best.gib_per_s},
                                {"ops_per_s", best.ops_per_s},
                                {"p50_us", best.p50_us},
                                {"cpu_s_per_gib", best.cpu_s_per_gib},
                                {"connections", best.connections},
                                {"depth", best.depth},
                                {"memkv_ratio", ratio}});
    }
    fflush(stdout);
  }

  /// The round trip: one 4 KiB get at a time.
  Result<void, Message> latency() {
    depths_ = {1}, connections_ = {1};
    KeySpace keys;
    keys.prefix = fmt::format("bench/{:08x}/one/", random_tag());
    keys.block_bytes = 4096;
    keys.generations.resize(keys_of(4096));
    if (auto filled = fill(own_, keys); !filled) return filled;
    std::vector<Contender> all;
    for (const Transport transport : transports_) {
      all.push_back({memkv_name(transport),
                     [&, transport] { return measure_memkv(own_, keys, transport, false, PutChecksum::kClient); },
                     {}});
    }
    all.push_back({"bare", [&] { return measure_peer(bare_.plain, 4096, false, false); }, {}});
    if (!options_.no_peers) {
      for (const Peer* peer : {&memcached_, &redis_}) {
        if (auto filled = fill_peer(*peer, 4096); !filled) return filled;
        all.push_back({peer == &redis_ ? "redis" : "memcached -t 2",
                       [this, peer] { return measure_peer(*peer, 4096, false, false); },
                       {}});
      }
    }
    if (auto measured = measure_all(all); !measured) return measured;
    fmt::print("\n4 KiB get, one at a time: p50 of a round trip\n");
    for (const Contender& one : all) {
      const double ratio = all[0].median().p50_us / one.median().p50_us;
      fmt::print("  {:<28} {:>9.1f} us {:>34} {:>12.2f}\n", one.name, one.median().p50_us, "", ratio);
      report["rows"].push_back({{"block_bytes", 4096},
                                {"op", "latency"},
                                {"name", one.name},
                                {"p50_us", one.median().p50_us},
                                {"memkv_ratio", ratio}});
    }
    return {};
  }

  std::span<const Transport> others() const { return std::span(transports_).subspan(1); }

  const CompareOptions& options_;
  std::vector<Transport> transports_;
  std::unique_ptr<WorkDir> dir_, lending_dir_;
  OwnServer own_, lending_;
  BareServers bare_;
  Peer memcached_, redis_;
  std::vector<uint32_t> depths_ = {8, 32}, connections_ = {1, 2};
};

}  // namespace

int run_compare(const CompareOptions& options) {
  auto sizes = sizes_of(options.sizes);
  if (!sizes) return complain(sizes.error());
  if (!options.no_peers && !options.congestion.empty() && !own_network(options.congestion))
    fmt::print("memcached and redis use the system's congestion control: to give them {} takes root and iproute2.\n",
               options.congestion);
  const auto busy = start_busy(options.busy);
  if (!busy.empty()) fmt::print("{} processes compute beside the run.\n", busy.size());
  Compare compare(options);
  if (auto run = compare.run(*sizes); !run) return complain(run.error());
  if (auto written = write_json(options.json, compare.report); !written) return complain(written.error());
  return 0;
}

}  // namespace memkv::bench
