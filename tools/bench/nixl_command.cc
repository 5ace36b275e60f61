/// memkv-bench nixl: the plugin as nixlbench drives it, through the agent of an installed NIXL wheel.

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>

#include "base/units.h"
#include "tools/bench/ceiling.h"
#include "tools/bench/nixl_load.h"
#include "tools/bench/nixl_report.h"
#include "tools/bench/options.h"
#include "tools/bench/rounds.h"
#include "tools/bench/target.h"

namespace memkv::bench {
namespace {

constexpr uint64_t kBlockMax = 1ull << 30;
constexpr uint64_t kBuffersMax = 1ull << 40;
constexpr int kTurns = 4;

class NixlSweep {
 public:
  NixlSweep(const NixlOptions& options, NixlPlan plan, Target& target, const Peer* bare)
      : options_(options), plan_(std::move(plan)), target_(target), bare_(bare) {
    for (uint32_t batch = options.start_batch_size; batch <= options.max_batch_size; batch *= 16)
      batches_.push_back(batch);
    if (batches_.back() != options.max_batch_size) batches_.push_back(options.max_batch_size);
  }

  int run(uint64_t block, uint64_t last) {
    describe();
    fmt::print("{}", nixl_table_head());
    for (; block <= last; block *= 2) {
      if (auto done = run_block(block); !done) return complain(done.error());
    }
    fmt::print("{}", nixl_summary(report_));
    return finish();
  }

 private:
  void describe() {
    report_["machine"] = describe_machine();
    report_["settings"] = {{"servers", target_.names},
                           {"transport", options_.target.transport.empty() ? "auto" : options_.target.transport},
                           {"congestion_control", options_.target.congestion},
                           {"threads", options_.num_threads},
                           {"recreate_xfer", options_.recreate_xfer},
                           {"max_batch_size", options_.max_batch_size},
                           {"bytes_per_line", plan_.bytes}};
    report_["servers"] = target_.statuses;
    report_["runs"] = Json::array();
    fmt::print("MemKV through NIXL: {} server{}, {} agent{}, {}; GiB/s of all of them together\n", target_.names.size(),
               target_.names.size() == 1 ? "" : "s", plan_.threads, plan_.threads == 1 ? "" : "s",
               plan_.recreate ? "a fresh request each iteration" : "requests posted again");
  }

  Result<void, Message> run_block(uint64_t block) {
    plan_.block_bytes = block;
    bare_us_ = bare_round_trip(block);
    single_gib_per_s_ = 0;
    for (const bool write : {true, false}) {
      if (options_.op_type != "both" && (options_.op_type == "WRITE") != write) continue;
      for (const uint32_t batch : batches_) {
        for (const bool distinct : {false, true}) {
          const bool asked = options_.keys == "both" || (options_.keys == "distinct") == distinct;
          if (!asked || (batch == 1 && distinct && options_.keys == "both")) continue;
          if (auto done = run_point(write, batch, distinct); !done) return done;
        }
      }
    }
    if (!options_.check_consistency) return {};
    auto wrong = sentinel_check(plan_);
    if (!wrong) return wrong.error();
    sentinel_blocks_++;
    sentinel_wrong_ += *wrong;
    return {};
  }

  Result<void, Message> run_point(bool write, uint32_t batch, bool distinct) {
    NixlPlan plan = plan_;
    plan.write = write, plan.batch = batch, plan.distinct = distinct;
    const bool beside = distinct && plan.threads == 1 && !options_.no_client;
    NixlResult result;
    double client = 0;
    if (auto run = beside ? run_beside_client(plan, result, client) : run_nixl(plan, result); !run) return run;
    if (!write && batch == 1) single_gib_per_s_ = result.gib_per_s();
    const Json run = json_of(plan, result, client);
    fmt::print("{}", nixl_table_line(run));
    fflush(stdout);
    wrong_ += result.mismatches, failures_ += result.failures, verified_ += result.verified;
    report_["runs"].push_back(run);
    return {};
  }

  /// Plugin and client by turns, so that what else goes on in the machine touches both. `client`: its GiB/s.
  Result<void, Message> run_beside_client(NixlPlan plan, NixlResult& result, double& client) {
    plan.bytes /= kTurns, plan.seconds_max /= kTurns;
    NixlResult by_client;
    for (int turn = 0; turn < 2 * kTurns; turn++) {
      plan.by_client = turn % 2 == 1;
      if (auto run = run_nixl(plan, plan.by_client ? by_client : result); !run) return run;
    }
    client = by_client.gib_per_s();
    wrong_ += by_client.mismatches, failures_ += by_client.failures, verified_ += by_client.verified;
    return {};
  }

  Json json_of(const NixlPlan& plan, const NixlResult& result, double client) const {
    const auto maybe = [](double value) { return value > 0 ? Json(value) : Json(nullptr); };
    const double seconds = result.requests == 0 ? 0 : result.seconds / static_cast<double>(result.requests);
    return {{"transport", options_.target.transport.empty() ? "auto" : options_.target.transport},
            {"op", plan.write ? "write" : "read"},
            {"keys", plan.distinct ? "distinct" : "one"},
            {"batch", plan.batch},
            {"block_bytes", plan.block_bytes},
            {"threads", plan.threads},
            {"requests", result.requests},
            {"logical_gib_per_s", result.gib_per_s()},
            {"wire_gib_per_s", result.wire_gib_per_s()},
            {"descriptor_us_p50", result.descriptor_us(50, plan.batch)},
            {"descriptor_us_p99", result.descriptor_us(99, plan.batch)},
            {"wire_ops_per_request", result.wire_ops_per_request},
            {"copies_per_request", result.copies_per_request},
            {"planning_share", seconds > 0 ? maybe(result.plan_seconds_per_request / seconds) : Json(nullptr)},
            {"client_gib_per_s", maybe(client)},
            {"expected_gib_per_s", maybe(plan.write || plan.distinct ? 0 : expected(plan))},
            {"bare_us_p50", maybe(plan.batch == 1 && !plan.write ? bare_us_ : 0)},
            {"verified_blocks", result.verified},
            {"mismatches", result.mismatches},
            {"failures", result.failures}};
  }

  /// A batch that reads one block: once over the wire, the rest copied at this machine's fan-out rate.
  double expected(const NixlPlan& plan) const {
    if (plan.batch < 2 || single_gib_per_s_ == 0) return 0;
    const double copies = plan.batch - 1;
    return plan.batch / (1 / single_gib_per_s_ + copies / fan_out_gib_per_s(plan.block_bytes));
  }

  double bare_round_trip(uint64_t block) const {
    if (bare_ == nullptr || block > (16u << 20)) return 0;
    auto best = best_of_peer({.peer = bare_,
                              .block_bytes = block,
                              .keys = 64,
                              .window_bytes = 64u << 20,
                              .seconds = 0.1,
                              .depths = {1},
                              .connections = {1},
                              .congestion = options_.target.congestion});
    return best ? best->p50_us : 0;
  }

  int finish() {
    fmt::print("\n{} blocks verified, {} wrong, {} requests failed.\n", verified_, wrong_, failures_);
    if (options_.check_consistency)
      fmt::print("Written as 0xaa, buffer set to 0x00, read back: {} sizes, {} wrong bytes.\n", sentinel_blocks_,
                 sentinel_wrong_);
    report_["sentinel"] = {{"sizes", sentinel_blocks_}, {"wrong_bytes", sentinel_wrong_}};
    if (auto written = write_json(options_.json, report_); !written) return complain(written.error());
    if (!options_.html.empty()) {
      if (auto written = write_text(options_.html, nixl_html(report_)); !written) return complain(written.error());
    }
    return wrong_ + failures_ + sentinel_wrong_ == 0 ? 0 : 1;
  }

  const NixlOptions& options_;
  NixlPlan plan_;
  Target& target_;
  const Peer* bare_;
  std::vector<uint32_t> batches_;
  Json report_;
  double bare_us_ = 0, single_gib_per_s_ = 0;
  uint64_t wrong_ = 0, failures_ = 0, verified_ = 0, sentinel_blocks_ = 0, sentinel_wrong_ = 0;
};

Result<void, Message> check(const NixlOptions& options) {
  const auto one_of = [](const std::string& text, std::initializer_list<const char*> words) {
    return std::find(words.begin(), words.end(), text) != words.end();
  };
  if (!one_of(options.op_type, {"READ", "WRITE", "both"}))
    return Message{Status::kInvalid, fmt::format("--op_type {}: READ, WRITE or both", options.op_type)};
  if (!one_of(options.keys, {"one", "distinct", "both"}))
    return Message{Status::kInvalid, fmt::format("--keys {}: one, distinct or both", options.keys)};
  if (options.start_batch_size < 1 || options.max_batch_size < options.start_batch_size ||
      options.max_batch_size > 4096)
    return Message{Status::kInvalid, "--start_batch_size and --max_batch_size: 1 to 4096, in this order"};
  if (options.initiator_seg_type != "DRAM")
    return Message{Status::kInvalid,
                   fmt::format("--initiator_seg_type {}: only DRAM is measured", options.initiator_seg_type)};
  if (options.num_threads < 1 || options.num_threads > 256) return Message{Status::kInvalid, "--num_threads: 1 to 256"};
  return {};
}

Result<uint64_t, Message> size_of(const char* option, const std::string& text, uint64_t most = kBlockMax) {
  auto size = base::parse_size(text, base::BareNumber::kAllow);
  if (!size) return Message{Status::kInvalid, std::string(option) + ": " + size.error().text};
  if (*size == 0 || *size > most)
    return Message{Status::kInvalid, fmt::format("{} {}: 1 B to {}", option, text, base::format_bytes(most))};
  return *size;
}

/// As nixlbench counts: what a request of each thread takes.
Result<void, Message> check_buffers(const NixlOptions& options, uint64_t block_bytes) {
  auto most = size_of("--total_buffer_size", options.total_buffer_size, kBuffersMax);
  if (!most) return most.error();
  const uint64_t needed = block_bytes * options.max_batch_size * options.num_threads;
  if (needed <= *most) return {};
  return Message{Status::kInvalid, fmt::format("--max_block_size x --max_batch_size x --num_threads are {}, "
                                               "--total_buffer_size is {}",
                                               base::format_bytes(needed), base::format_bytes(*most))};
}

/// What the plugin is told; the rest it takes from the environment as any user of it would.
NixlAgent::Params params_of(const Target& target, const NixlOptions& options) {
  NixlAgent::Params params;
  std::string servers;
  for (const std::string& server : target.client.servers) servers += (servers.empty() ? "" : ",") + server;
  params["servers"] = servers;
  params["auth_key"] = target.client.namespace_key;
  params["transport"] = options.target.transport;
  params["congestion"] = target.client.congestion;
  params["summary"] = "off";
  return params;
}

/// A folder in which NIXL finds our plugin and no other.
Result<std::string, Message> plugin_folder(const NixlOptions& options, const std::string& dir) {
  namespace fs = std::filesystem;
  const std::string plugin = options.plugin.empty() ? find_plugin() : options.plugin;
  std::error_code error;
  if (plugin.empty() || !fs::exists(plugin, error))
    return Message{Status::kInvalid, "no libplugin_MEMKV.so beside this program: name it with --plugin"};
  const fs::path folder = fs::path(dir) / "plugins";
  fs::create_directory(folder, error);
  fs::create_symlink(fs::absolute(plugin), folder / "libplugin_MEMKV.so", error);
  if (error) return Message{Status::kIo, fmt::format("{}: {}", folder.string(), error.message())};
  return folder.string();
}

}  // namespace

int run_nixl_command(const NixlOptions& options) {
  if (auto checked = check(options); !checked) return complain(checked.error());
  auto first = size_of("--start_block_size", options.start_block_size);
  auto last = size_of("--max_block_size", options.max_block_size);
  auto bytes = size_of("--total_bytes", options.total_bytes);
  const std::string limit = !options.seconds.empty() ? options.seconds : options.num_iter > 0 ? "1h" : "1s";
  auto seconds = base::parse_duration_ns(limit);
  for (const auto* size : {&first, &last, &bytes}) {
    if (!*size) return complain(size->error());
  }
  if (auto fits = check_buffers(options, *last); !fits) return complain(fits.error());
  if (!seconds) return complain({Status::kInvalid, "--seconds: " + seconds.error().text});
  auto dir = WorkDir::make(options.target.dir);
  if (!dir) return complain(dir.error());
  auto folder = plugin_folder(options, (*dir)->path());
  if (!folder) return complain(folder.error());
  auto bare = start_bare({.congestion = options.target.congestion});  // a fork: before there are threads
  if (!bare) return complain(bare.error());
  auto api = load_nixl(options.wheel, *folder);
  if (!api) return complain(api.error());
  auto target = open_target(options.target, 6 * *last * options.max_batch_size * options.num_threads);
  if (!target) return complain(target.error());
  NixlPlan plan;
  plan.api = *api;
  plan.params = params_of(*target, options);
  plan.client = target->client;
  plan.dir = (*dir)->path();
  plan.recreate = options.recreate_xfer;
  plan.threads = options.num_threads;
  plan.iterations = options.num_iter;
  plan.warmup = options.warmup_iter;
  plan.bytes = *bytes;
  plan.seconds_max = static_cast<double>(*seconds) / 1e9;
  return NixlSweep(options, plan, *target, &*bare).run(*first, *last);
}

}  // namespace memkv::bench
