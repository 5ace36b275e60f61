#include "tools/bench/nixl_sweep.h"

#include <fmt/core.h>

#include <algorithm>

#include "tools/bench/ceiling.h"
#include "tools/bench/nixl_report.h"
#include "tools/bench/nixl_tables.h"

namespace memkv::bench {
namespace {

constexpr uint64_t kTurns = 4;

/// How often each is measured. Things that are compared are measured by turns, so that other load slows all alike.
uint64_t turns_of(const NixlPlan& plan, bool several) {
  if (!several) return 1;
  return plan.iterations > 0 ? std::min(kTurns, plan.iterations) : kTurns;
}

NixlPlan part_of(NixlPlan plan, uint64_t turn, uint64_t turns) {
  plan.bytes /= turns, plan.seconds_max /= static_cast<double>(turns);
  plan.iterations = plan.iterations / turns + (turn < plan.iterations % turns ? 1 : 0);
  return plan;
}

}  // namespace

NixlSweep::NixlSweep(const NixlOptions& options, NixlPlan plan, const Target& target, std::vector<Way> ways,
                     const Peer& bare)
    : options_(options), plan_(std::move(plan)), target_(target), ways_(std::move(ways)), bare_(bare) {
  for (uint32_t batch = options.start_batch_size; batch <= options.max_batch_size; batch *= 16)
    batches_.push_back(batch);
  if (batches_.back() != options.max_batch_size) batches_.push_back(options.max_batch_size);
}

int NixlSweep::run(uint64_t block, uint64_t last) {
  describe();
  fmt::print("{}", nixl_table_head());
  for (; block <= last; block *= 2) {
    if (auto done = run_block(block); !done) return complain(done.error());
  }
  report_["tables"] = nixl_tables(report_);
  report_["notes"] = nixl_notes(report_);
  fmt::print("{}", nixl_summary(report_));
  return finish();
}

void NixlSweep::describe() {
  report_["machine"] = describe_machine();
  Json ways = Json::array(), devices = Json::array();
  for (const Way& way : ways_) {
    ways.push_back(way.word());
    if (way.devices.size() > devices.size()) devices = way.devices;
  }
  report_["settings"] = {{"servers", target_.names},
                         {"transports", ways},
                         {"rdma_devices", devices},
                         {"congestion_control", options_.target.congestion},
                         {"threads", options_.num_threads},
                         {"recreate_xfer", options_.recreate_xfer},
                         {"max_batch_size", options_.max_batch_size},
                         {"bytes_per_line", plan_.bytes}};
  report_["emulated"] = std::any_of(ways_.begin(), ways_.end(), [](const Way& way) { return way.emulated; });
  report_["servers"] = target_.statuses;
  report_["runs"] = Json::array();
  fmt::print("MemKV through NIXL: {} server{}, {} agent{}, {}; GiB/s of all of them together\n", target_.names.size(),
             target_.names.size() == 1 ? "" : "s", plan_.threads, plan_.threads == 1 ? "" : "s",
             plan_.recreate ? "a fresh request each iteration" : "requests posted again");
}

Result<void, Message> NixlSweep::run_block(uint64_t block) {
  plan_.block_bytes = block;
  bare_us_ = bare_round_trip(block);
  single_gib_per_s_.assign(ways_.size(), 0);
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
  return options_.check_consistency ? check_sentinel() : Result<void, Message>();
}

Result<void, Message> NixlSweep::run_point(bool write, uint32_t batch, bool distinct) {
  NixlPlan plan = plan_;
  plan.write = write, plan.batch = batch, plan.distinct = distinct;
  const bool beside = distinct && plan.threads == 1 && !options_.no_client;
  const uint64_t turns = turns_of(plan, beside || ways_.size() > 1);
  std::vector<Measured> measured(ways_.size());
  for (uint64_t turn = 0; turn < turns; turn++) {
    const NixlPlan part = part_of(plan, turn, turns);
    for (size_t i = 0; i < ways_.size(); i++) {
      const size_t way = (turn + i) % ways_.size();  // the order changes, so that none is always first
      if (auto run = run_turn(part, ways_[way], beside, measured[way]); !run) return run;
    }
  }
  for (size_t way = 0; way < ways_.size(); way++) keep(plan, way, measured[way]);
  return {};
}

Result<void, Message> NixlSweep::run_turn(const NixlPlan& plan, const Way& way, bool beside, Measured& measured) {
  NixlPlan mine = plan_of(plan, way);
  for (const bool by_client : {false, true}) {
    if (by_client && !beside) break;
    mine.by_client = by_client;
    if (auto run = run_nixl(mine, by_client ? measured.client : measured.plugin); !run)
      return Message{run.error().status, fmt::format("{}: {}", way.name(), run.error().text)};
  }
  return {};
}

/// The plan with what the plugin and our client must know of the way.
NixlPlan NixlSweep::plan_of(NixlPlan plan, const Way& way) const {
  way.choose_in(plan.client);
  plan.params["transport"] = to_string(way.transport);
  for (const std::string& device : way.devices) {
    std::string& list = plan.params["rdma_devices"];
    list += (list.empty() ? "" : ",") + device;
  }
  return plan;
}

void NixlSweep::keep(const NixlPlan& plan, size_t way, const Measured& measured) {
  const NixlResult& result = measured.plugin;
  if (!plan.write && plan.batch == 1) single_gib_per_s_[way] = result.gib_per_s();
  report_["runs"].push_back(json_of(plan, way, measured));
  const Json& run = report_["runs"].back();
  if (run["emulated"]) report_["emulated"] = true;
  fmt::print("{}", nixl_table_line(run));
  fflush(stdout);
  for (const NixlResult* part : {&measured.plugin, &measured.client})
    wrong_ += part->mismatches, failures_ += part->failures, verified_ += part->verified;
}

/// One run of the report: what was asked, what carried the bytes, and the plugin beside the client alone.
Json NixlSweep::json_of(const NixlPlan& plan, size_t way, const Measured& measured) const {
  const NixlResult& result = measured.plugin;
  const auto maybe = [](double value) { return value > 0 ? Json(value) : Json(nullptr); };
  const double seconds = result.requests == 0 ? 0 : result.seconds / static_cast<double>(result.requests);
  Json run = {{"way", ways_[way].name()},
              {"asked", ways_[way].word()},
              {"rails_asked", ways_[way].rails > 0 ? Json(ways_[way].rails) : Json(nullptr)}};
  result.carried.tell(run, target_.names);
  run["emulated"] = ways_[way].emulated || result.carried.emulated();
  run.update({{"op", plan.write ? "write" : "read"},
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
              {"client_gib_per_s", maybe(measured.client.gib_per_s())},
              {"expected_gib_per_s", maybe(plan.write || plan.distinct ? 0 : expected(plan, way))},
              {"bare_us_p50", maybe(plan.batch == 1 && !plan.write ? bare_us_ : 0)},
              {"verified_blocks", result.verified},
              {"mismatches", result.mismatches},
              {"failures", result.failures}});
  return run;
}

/// What to expect of a batch that reads one block: once over the wire, the rest copied at this machine's fan-out rate.
double NixlSweep::expected(const NixlPlan& plan, size_t way) const {
  if (plan.batch < 2 || single_gib_per_s_[way] == 0) return 0;
  const double copies = plan.batch - 1;
  return plan.batch / (1 / single_gib_per_s_[way] + copies / fan_out_gib_per_s(plan.block_bytes));
}

double NixlSweep::bare_round_trip(uint64_t block) const {
  if (options_.no_client || block > (16u << 20)) return 0;
  auto best = best_of_peer({.peer = &bare_,
                            .block_bytes = block,
                            .keys = 64,
                            .window_bytes = 64u << 20,
                            .seconds = 0.1,
                            .depths = {1},
                            .connections = {1},
                            .congestion = options_.target.congestion});
  return best ? best->p50_us : 0;
}

Result<void, Message> NixlSweep::check_sentinel() {
  for (const Way& way : ways_) {
    auto wrong = sentinel_check(plan_of(plan_, way));
    if (!wrong) return Message{wrong.error().status, fmt::format("{}: {}", way.name(), wrong.error().text)};
    sentinel_wrong_ += *wrong;
  }
  sentinel_blocks_++;
  return {};
}

int NixlSweep::finish() {
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

}  // namespace memkv::bench
