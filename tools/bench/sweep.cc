/// memkv-bench sweep: one block size after the other is written, then read, and every byte is verified.

#include <fmt/core.h>

#include <algorithm>

#include "base/random.h"
#include "base/units.h"
#include "tools/bench/bare_ring.h"
#include "tools/bench/carried.h"
#include "tools/bench/ceiling.h"
#include "tools/bench/options.h"
#include "tools/bench/report.h"
#include "tools/bench/rounds.h"
#include "tools/bench/target.h"
#include "tools/bench/ways.h"

namespace memkv::bench {
namespace {

constexpr uint64_t kKeysMax = 1 << 20;

class Sweep {
 public:
  Sweep(const SweepOptions& options, const LoadPlan& plan, Target target, std::vector<Way> ways)
      : options_(options), plan_(plan), target_(std::move(target)), ways_(std::move(ways)) {}

  int run(const std::vector<uint64_t>& sizes) {
    if (!options_.no_ceiling) {
      auto bare = start_bare({.congestion = options_.target.congestion});
      if (!bare) return complain(bare.error());
      bare_ = std::move(*bare);
      auto lending = start_bare({.lend = true, .congestion = options_.target.congestion});
      if (!lending) return complain(lending.error());
      lending_ = std::move(*lending);
      auto rings = RingPeers::start();
      if (!rings) return complain(rings.error());
      rings_ = std::move(*rings);
    }
    auto meter = CarriedMeter::connect(target_.client);
    if (!meter) return complain(meter.error());
    meter_ = std::move(*meter);
    say_head();
    for (const uint64_t size : sizes) {
      for (const Way& way : ways_) {
        if (auto done = run_size(size, way); !done) return complain(done.error());
      }
    }
    say_end();
    return write_reports();
  }

 private:
  void say_head() {
    describe();
    fmt::print("MemKV sweep: {}, {} thread{}, depth {}, batch {}, {} a size, verify {}, {} order\n", servers_text(),
               plan_.threads, plan_.threads == 1 ? "" : "s", plan_.depth, plan_.batch, base::format_bytes(plan_.bytes),
               options_.load.verify, options_.load.order);
    fmt::print("{}", table_head());
    fflush(stdout);
  }

  std::string servers_text() const {
    return target_.names.size() == 1 ? "server " + target_.names[0] : fmt::format("{} servers", target_.names.size());
  }

  void describe() {
    report_["machine"] = describe_machine();
    report_["settings"] = {{"servers", target_.names},
                           {"own_server", target_.own.has_value()},
                           {"transports", way_words()},
                           {"congestion_control", options_.target.congestion},
                           {"put_checksum", options_.target.put_checksum},
                           {"threads", plan_.threads},
                           {"depth", plan_.depth},
                           {"batch", plan_.batch},
                           {"bytes_per_size", plan_.bytes},
                           {"window_bytes", plan_.window_bytes},
                           {"order", options_.load.order},
                           {"verify", options_.load.verify},
                           {"cache_state",
                            "client buffers cold: each round goes through the whole window; each key is "
                            "read once before any is read again; drives by direct I/O"}};
    report_["emulated"] = std::any_of(ways_.begin(), ways_.end(), [](const Way& way) { return way.emulated; });
    report_["servers"] = target_.statuses;
    report_["runs"] = Json::array();
  }

  std::vector<std::string> way_words() const {
    std::vector<std::string> words;
    for (const Way& way : ways_) words.push_back(way.word());
    return words;
  }

  Result<void, Message> run_size(uint64_t size, const Way& way) {
    way.choose_in(target_.client);
    way_ = &way;
    KeySpace keys;
    keys.prefix = fmt::format("bench/{:016x}/{}/", random_tag(), size);
    keys.block_bytes = size;
    const uint64_t least = uint64_t{plan_.threads} * plan_.batch;
    keys.generations.resize(std::clamp<uint64_t>(plan_.bytes / size, least, std::max(least, kKeysMax)));
    plan_.keys = &keys;
    if (auto run = run_op("write", true, 0, measure(size, true)); !run) return run.error();
    if (auto run = run_op("read", false, 1, measure(size, false)); !run) return run.error();
    if (options_.load.mix > 0) {
      if (auto run = run_op("mixed", false, options_.load.mix, {}); !run) return run.error();
    }
    if (!options_.keep) remove_all(target_.client, keys);
    return {};
  }

  /// What the machine can do at most, by the usual way and over TCP with one copy. 0: not measured.
  struct Ceilings {
    double usual = 0, one_copy = 0;
  };
  Ceilings measure(uint64_t size, bool put) {
    if (options_.no_ceiling) return {};
    if (target_.client.transport == Transport::kShm) {
      auto best = rings_.best({.put = put,
                               .hash = true,
                               .block_bytes = size,
                               .window_bytes = plan_.window_bytes / 2,
                               .depth = plan_.depth,
                               .seconds = 0.25});
      return {.usual = best ? best->gib_per_s : 0};
    }
    return {.usual = measure_tcp(bare_, size, put, false),
            .one_copy = measure_tcp(put ? bare_ : lending_, size, put, true)};
  }
  double measure_tcp(const Peer& peer, uint64_t size, bool put, bool lend) {
    auto best = best_of_peer({.peer = &peer,
                              .put = put,
                              .lend = lend,
                              .block_bytes = size,
                              .window_bytes = plan_.window_bytes / 2,
                              .seconds = 0.25,
                              .congestion = options_.target.congestion});
    return best ? best->gib_per_s : 0;
  }

  /// One line of the sweep: runs one kind of op over all keys of a size. The carriers' counters are read before and
  /// after it, and the result is kept beside its ceiling.
  Result<void, Message> run_op(const std::string& op, bool fill, double read_share, Ceilings ceilings) {
    const uint64_t size = plan_.keys->block_bytes;
    LoadPlan plan = plan_;
    plan.client = target_.client;
    plan.first_fill = fill;
    plan.read_share = read_share;
    plan.bytes = plan.keys->generations.size() * size;
    plan.window_bytes =
        std::max(plan.window_bytes, uint64_t{plan.threads} * std::min<uint64_t>(plan.depth * plan.batch, 2) * size);
    Progress progress(fmt::format("{} {}", op, base::format_bytes(size)), plan.bytes);
    plan.progress = [&](uint64_t bytes) { progress.update(bytes); };
    if (target_.own) plan.server_cpu = [pid = target_.own->child->pid()] { return cpu_seconds_of(pid); };
    auto run = std::make_unique<Run>();
    run->way = way_->word();
    run->op = op;
    run->block_bytes = size;
    run->threads = plan.threads, run->batch = plan.batch, run->depth = plan.depth;
    run->keys = plan.keys->generations.size();
    run->ceiling_gib_per_s = ceilings.usual;
    run->one_copy_gib_per_s = ceilings.one_copy;
    run->server_cpu_known = target_.own.has_value();
    const Carried before = meter_->now();
    if (auto done = run_load(plan, run->result); !done) return done.error();
    run->carried = meter_->now();
    run->carried.take_off(before);
    run->emulated = way_->emulated || run->carried.emulated();
    keep(*run);
    return {};
  }

  void keep(const Run& run) {
    const LoadResult& r = run.result;
    wrong_ += r.mismatches, failures_ += r.failures, misses_ += r.misses, verified_ += r.verified;
    report_["runs"].push_back(json_of(run, target_.names));
    if (run.emulated) report_["emulated"] = true;
    fmt::print("{}", table_line(report_["runs"].back()));
    if (r.misses > 0)
      fmt::print("         {} of {} reads missed: the store had evicted those blocks\n", r.misses, r.ops);
    if (r.failures > 0) fmt::print("         {} of {} ops failed; the first: {}\n", r.failures, r.ops, r.first_failure);
    fflush(stdout);
  }

  void say_end() {
    fmt::print("\n{} blocks verified, {} wrong, {} missed, {} failed.\n", verified_, wrong_, misses_, failures_);
    if (report_["emulated"]) fmt::print("Emulated: soft-RoCE devices were used. The rates are no performance.\n");
    if (plan_.verify == Verify::kOff) fmt::print("Nothing was verified (--verify off).\n");
  }

  int write_reports() {
    if (auto written = write_json(options_.json, report_); !written) return complain(written.error());
    if (!options_.html.empty()) {
      if (auto written = write_text(options_.html, html_of(report_)); !written) return complain(written.error());
    }
    return wrong_ > 0 || failures_ > 0 ? 1 : 0;
  }

  const SweepOptions& options_;
  LoadPlan plan_;
  Target target_;
  const std::vector<Way> ways_;
  const Way* way_ = nullptr;  ///< the way that runs now
  std::unique_ptr<CarriedMeter> meter_;
  Peer bare_, lending_;
  RingPeers rings_;
  Json report_;
  uint64_t wrong_ = 0, failures_ = 0, misses_ = 0, verified_ = 0;
};

/// The transports of the benchmark's own server when none are named: all that reach it.
std::vector<Transport> usual_transports(bool own) {
  return own ? std::vector<Transport>{Transport::kTcp, Transport::kShm} : std::vector<Transport>{Transport::kAuto};
}

}  // namespace

int run_sweep(const SweepOptions& options) {
  auto plan = plan_of(options.load);
  if (!plan) return complain(plan.error());
  auto sizes = sizes_of(options.load.sizes);
  if (!sizes) return complain(sizes.error());
  if (auto typed = ways_of(options.target, {}); !typed) return complain(typed.error());
  TargetOptions asked = options.target;
  asked.transport.clear();  // each transport is tried in its turn
  auto target = open_target(asked, 3 * plan->bytes);
  if (!target) return complain(target.error());
  auto ways = ways_of(options.target, usual_transports(target->own.has_value()));
  if (auto found = find_devices(*ways, target->client); !found) return complain(found.error());
  return Sweep(options, *plan, std::move(*target), std::move(*ways)).run(*sizes);
}

}  // namespace memkv::bench
