#include "tools/bench/nixl_load.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "io/huge_memory.h"
#include "tools/bench/child.h"
#include "tools/bench/nixl_mover.h"
#include "tools/bench/pattern.h"
#include "tools/bench/rounds.h"
#include "tools/bench/target.h"

namespace memkv::bench {
namespace {

constexpr int kPoison = 0xA5;
constexpr uint64_t kRoundBytes = 64 << 20;
constexpr uint64_t kRequestsPerRoundMax = 64;

std::string object_key(const std::string& tag, uint64_t number) { return fmt::format("{}{:06}", tag, number); }

/// Sums of the plugins' counters, by name without the prefix.
class PluginCounters {
 public:
  void add_file(const std::string& path) {
    std::istringstream lines(read_file(path));
    constexpr std::string_view kPrefix = "memkv_nixl_";
    for (std::string line; std::getline(lines, line);) {
      const size_t name_end = line.find('{'), value = line.rfind(' ');
      if (!line.starts_with(kPrefix) || name_end == std::string::npos || value == std::string::npos) continue;
      sums_[line.substr(kPrefix.size(), name_end - kPrefix.size())] += std::stod(line.substr(value));
    }
  }
  double value(const std::string& name) const {
    const auto found = sums_.find(name);
    return found == sums_.end() ? 0 : found->second;
  }
  double ratio(const std::string& name, const std::string& to, double otherwise) const {
    return value(to) > 0 ? value(name) / value(to) : otherwise;
  }

 private:
  std::map<std::string, double> sums_;
};

/// A thread with an agent (or session) of its own. It has an object and a buffer for each descriptor of a batch (or one
/// object for all).
class NixlThread final : public Worker {
 public:
  NixlThread(const NixlPlan& plan, std::string tag, uint32_t index, std::span<std::byte> memory)
      : plan_(plan), tag_(std::move(tag)), index_(index), memory_(memory) {
    for (uint32_t i = 0; i < plan.batch; i++) {
      const uint64_t device = plan.distinct ? i : 0;
      descs_.push_back({memory.data() + i * plan.block_bytes, device});
      back_.push_back({memory.data() + (plan.batch + i) * plan.block_bytes, device});
      if (plan.distinct || i == 0) objects_.push_back({device, object_key(tag_, first_number() + i), plan.block_bytes});
    }
    const uint64_t request_bytes = plan.batch * plan.block_bytes;
    const uint64_t by_bytes = std::max<uint64_t>(1, plan.bytes / plan.threads / request_bytes);
    left_ = plan.iterations > 0 ? plan.iterations : by_bytes;
    per_round_ = std::clamp<uint64_t>(kRoundBytes / request_bytes, 1, kRequestsPerRoundMax);
  }

  std::string metrics_file() const { return fmt::format("{}/plugin-{}.prom", plan_.dir, index_); }

  Result<void, Message> open() {
    auto mover = make_mover();
    if (!mover) return mover.error();
    mover_ = std::move(*mover);
    if (!plan_.write) {
      fill();
      if (!mover_->transfer(true, distinct_descs(), plan_.block_bytes)->run())
        return Message{Status::kIo, "the objects that are to be read cannot be written"};
    }
    for (uint64_t i = 0; i < plan_.warmup; i++) {
      if (plan_.write) fill();
      if (!fresh()->run()) return Message{Status::kIo, "the first request through the plugin failed"};
    }
    if (!plan_.recreate) reposted_ = fresh();
    return {};
  }

  bool prepare() override {
    now_ = std::min(left_, per_round_);
    left_ -= now_;
    if (now_ == 0) return false;
    generation_ += plan_.write ? 1 : 0;
    plan_.write ? fill() : static_cast<void>(std::memset(memory_.data(), kPoison, memory_.size()));
    return true;
  }

  void go() override {
    for (uint64_t i = 0; i < now_; i++) {
      const double started = monotonic_seconds();
      const bool done = plan_.recreate ? fresh()->run() : reposted_->run();
      result.latency.record(static_cast<uint64_t>((monotonic_seconds() - started) * 1e9));
      result.requests++;
      if (!done) result.failures++;
    }
    result.descriptors = result.requests * plan_.batch;
    result.bytes = result.descriptors * plan_.block_bytes;
  }

  void check() override {
    if (!plan_.write) return compare(descs_);
    for (const NixlAgent::Desc& desc : back_) std::memset(desc.address, kPoison, plan_.block_bytes);
    if (!mover_->transfer(false, back_, plan_.block_bytes)->run()) result.failures++;
    compare(back_);
  }

  void leave() override {
    reposted_.reset();
    mover_.reset();  // the plugin writes its last counters now
  }
  uint64_t bytes_done() const override { return result.bytes; }

  NixlResult result;

 private:
  uint64_t first_number() const { return uint64_t{index_} * plan_.batch; }
  Result<std::unique_ptr<Mover>, Message> make_mover() const {
    if (plan_.by_client) return make_client_mover(plan_.client, objects_);
    NixlAgent::Params params = plan_.params;
    params["metrics_file"] = metrics_file();
    return make_nixl_mover(*plan_.api, fmt::format("memkv-bench-{}", index_), params, memory_, objects_);
  }
  std::unique_ptr<Transfer> fresh() { return mover_->transfer(plan_.write, descs_, plan_.block_bytes); }
  /// One source for each object.
  std::vector<NixlAgent::Desc> distinct_descs() const {
    return plan_.distinct ? descs_ : std::vector<NixlAgent::Desc>{descs_[0]};
  }
  uint64_t seed_of(uint64_t desc) const { return pattern_seed(first_number() + desc, generation_); }
  void fill() {
    for (uint32_t i = 0; i < plan_.batch; i++) fill_pattern(descs_[i].address, plan_.block_bytes, seed_of(i));
  }
  /// Checks several writes of one object at once: it must end as one of them, whole. When read, an object holds the
  /// first buffer's content.
  void compare(const std::vector<NixlAgent::Desc>& descs) {
    for (uint32_t i = 0; i < plan_.batch; i++) {
      const uint32_t first = plan_.distinct ? i : 0;
      const uint32_t last = plan_.distinct ? i : plan_.write ? plan_.batch - 1 : 0;
      bool right = false;
      for (uint32_t from = first; from <= last && !right; from++)
        right = matches_pattern(descs[i].address, plan_.block_bytes, seed_of(from));
      result.verified++;
      if (!right) result.mismatches++;
    }
  }

  const NixlPlan& plan_;
  const std::string tag_;
  const uint32_t index_;
  const std::span<std::byte> memory_;
  std::vector<NixlAgent::Desc> descs_, back_;
  std::vector<NixlAgent::Object> objects_;
  std::unique_ptr<Mover> mover_;
  std::unique_ptr<Transfer> reposted_;
  uint64_t left_ = 0, per_round_ = 1, now_ = 0;
  uint64_t generation_ = 1;
};

void add_counters(const NixlPlan& plan, const PluginCounters& counters, NixlResult& result) {
  const std::string op = plan.write ? "write" : "read";
  const std::string requests = op + "_requests_total";
  result.wire_share = counters.ratio(op + "_wire_bytes_total", op + "_bytes_total", 1);
  result.wire_ops_per_request = counters.ratio(op + "_wire_operations_total", requests, 0);
  // Here what was written is read back, with copies and without taking the time.
  if (!plan.write) result.copies_per_request = counters.ratio("copies_total", "read_requests_total", 0);
  // Where all requests are planned once and are of one kind the ratio is known. What is written is read back by other
  // requests.
  const bool known = plan.recreate && !plan.write;
  result.plan_seconds_per_request = known ? counters.ratio("plan_nanoseconds_total", requests, 0) / 1e9 : 0;
}

/// The objects of one measurement. They are removed from the servers when it ends, however that happens.
class Objects {
 public:
  Objects(const ClientOptions& client, uint64_t count)
      : tag(fmt::format("nixlbench/{:016x}/", random_tag())), client_(client), count_(count) {}
  ~Objects() {
    auto client = Client::connect(client_);
    if (!client) return;
    Batch batch;
    for (uint64_t i = 0; i < count_; i++) batch.remove(object_key(tag, i));
    client->run(batch);
  }
  Objects(const Objects&) = delete;
  Objects& operator=(const Objects&) = delete;

  const std::string tag;

 private:
  const ClientOptions& client_;
  const uint64_t count_;
};

Result<io::HugeMemory, Message> buffers(uint64_t bytes) {
  auto memory = io::HugeMemory::make(bytes, /*prefault=*/true);
  if (!memory) return Message{memory.error().status, "no memory for the buffers"};
  return std::move(*memory);
}

}  // namespace

Result<void, Message> run_nixl(const NixlPlan& plan, NixlResult& result) {
  const uint64_t share = 2 * plan.batch * plan.block_bytes;  // bytes to move and to read back
  auto memory = buffers(share * plan.threads);
  if (!memory) return memory.error();
  const Objects objects(plan.client, uint64_t{plan.threads} * plan.batch);
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<std::string> metrics_files;
  for (uint32_t i = 0; i < plan.threads; i++) {
    auto thread = std::make_unique<NixlThread>(plan, objects.tag, i, memory->bytes().subspan(i * share, share));
    if (auto opened = thread->open(); !opened) return opened.error();
    metrics_files.push_back(thread->metrics_file());
    workers.push_back(std::move(thread));
  }
  RoundOptions options;
  options.seconds_max = plan.seconds_max;
  const Carried before = plan.meter != nullptr && !plan.by_client ? plan.meter->now() : Carried{};
  result.seconds += run_rounds(workers, options).seconds;
  for (const auto& worker : workers) {
    const NixlResult& part = static_cast<NixlThread&>(*worker).result;
    result.requests += part.requests, result.descriptors += part.descriptors, result.bytes += part.bytes;
    result.failures += part.failures, result.verified += part.verified, result.mismatches += part.mismatches;
    result.latency.merge(part.latency);
  }
  if (plan.by_client) return {};
  if (plan.meter != nullptr) {
    Carried carried = plan.meter->now();
    carried.take_off(before);
    result.carried.add(carried);
  }
  PluginCounters counters;
  for (const std::string& file : metrics_files) counters.add_file(file);
  add_counters(plan, counters, result);
  return {};
}

Result<uint64_t, Message> sentinel_check(const NixlPlan& plan) {
  auto memory = buffers(plan.block_bytes);
  if (!memory) return memory.error();
  const Objects objects(plan.client, 1);
  auto agent = NixlAgent::make(*plan.api, "memkv-bench-sentinel", plan.params, memory->data(), plan.block_bytes,
                               {{0, object_key(objects.tag, 0), plan.block_bytes}});
  if (!agent) return agent.error();
  std::memset(memory->data(), 0xaa, plan.block_bytes);
  const std::vector<NixlAgent::Desc> desc{{memory->data(), 0}};
  if (!NixlAgent::Request(**agent, true, desc, plan.block_bytes).run())
    return Message{Status::kIo, "the sentinel cannot be written"};
  std::memset(memory->data(), 0, plan.block_bytes);
  if (!NixlAgent::Request(**agent, false, desc, plan.block_bytes).run())
    return Message{Status::kIo, "the sentinel cannot be read back"};
  const auto right = std::count(memory->data(), memory->data() + plan.block_bytes, std::byte{0xaa});
  return plan.block_bytes - static_cast<uint64_t>(right);
}

}  // namespace memkv::bench
