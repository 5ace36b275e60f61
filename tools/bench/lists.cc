/// memkv-bench lists: one long list of gets, against the same keys in short batches, and a get of one block beside
/// each.

#include <fmt/core.h>

#include <algorithm>
#include <chrono>

#include "base/clock.h"
#include "base/units.h"
#include "tools/bench/options.h"
#include "tools/bench/target.h"

namespace memkv::bench {
namespace {

constexpr std::chrono::seconds kDeadline{600};

struct ListRun {
  double ops_per_s = 0;
  uint64_t retries = 0, misses = 0;
  double single_us_p50 = 0, single_us_p99 = 0;  ///< of the get of one block beside it; 0: there is none
  uint64_t singles = 0;
};

class Lists {
 public:
  Lists(const ListsOptions& options, Session session, uint64_t block_bytes)
      : options_(options), session_(std::move(session)), block_bytes_(block_bytes) {
    keys_.reserve(options.keys);
    const uint64_t tag = random_tag();
    for (uint64_t i = 0; i < options.keys; i++) keys_.push_back(fmt::format("lists/{:016x}/{}", tag, i));
    memory_.resize(std::min<uint64_t>(options.keys, 4096) * block_bytes);
    single_.resize(block_bytes);
  }

  void fill() {
    for (uint64_t at = 0; at < keys_.size(); at += options_.batch) {
      Batch batch;
      for (uint64_t i = at; i < std::min<uint64_t>(at + options_.batch, keys_.size()); i++) {
        batch.put(keys_[i], Gather(place(i), block_bytes_));
      }
      session_.run(batch, kDeadline);
    }
  }
  void remove() {
    Batch batch;
    for (const std::string& key : keys_) batch.remove(key);
    session_.run(batch, kDeadline);
  }

  /// Runs all gets in batches of `step`, one after the other. `beside`: meanwhile one block is read over and over.
  ListRun run(uint64_t step, bool beside) {
    ListRun run;
    std::vector<double> single_us;
    const uint64_t retries = session_.counters().retries, started = base::SystemClock().now_ns();
    for (uint64_t at = 0; at < options_.count; at += step) {
      batch_.clear();
      for (uint64_t i = at; i < std::min(at + step, options_.count); i++) {
        batch_.get(keys_[i % keys_.size()], Scatter(place(i), block_bytes_));
      }
      const auto ticket = session_.submit(batch_, kDeadline);
      while (!session_.done(ticket)) beside ? get_one(single_us) : poll();
      session_.collect(ticket, outcomes_);
      run.misses += static_cast<uint64_t>(
          std::count_if(outcomes_.begin(), outcomes_.end(), [](const Outcome& outcome) { return !outcome.hit(); }));
    }
    run.ops_per_s =
        static_cast<double>(options_.count) * 1e9 / static_cast<double>(base::SystemClock().now_ns() - started);
    run.retries = session_.counters().retries - retries;
    run.singles = single_us.size();
    if (single_us.empty()) return run;
    std::sort(single_us.begin(), single_us.end());
    run.single_us_p50 = single_us[single_us.size() / 2];
    run.single_us_p99 = single_us[single_us.size() * 99 / 100];
    return run;
  }

 private:
  void poll() { (void)session_.poll(std::chrono::milliseconds(100)); }
  void get_one(std::vector<double>& single_us) {
    one_.clear();
    const uint64_t started = base::SystemClock().now_ns();
    const auto ticket = session_.submit(one_.get(keys_[0], Scatter(single_.data(), block_bytes_)), kDeadline);
    while (!session_.done(ticket)) poll();
    single_us.push_back(static_cast<double>(base::SystemClock().now_ns() - started) / 1e3);
    session_.collect(ticket, single_outcome_);
  }
  char* place(uint64_t i) { return memory_.data() + i % (memory_.size() / block_bytes_) * block_bytes_; }

  const ListsOptions& options_;
  Session session_;
  const uint64_t block_bytes_;
  std::vector<std::string> keys_;
  std::vector<char> memory_, single_;
  Batch batch_, one_;
  std::vector<Outcome> outcomes_, single_outcome_;
};

Json told(const ListRun& run) {
  return {{"ops_per_s", run.ops_per_s},
          {"retries", run.retries},
          {"misses", run.misses},
          {"singles", run.singles},
          {"single_us_p50", run.single_us_p50},
          {"single_us_p99", run.single_us_p99}};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

/// `memkv-bench lists`: one long list of keys, the same keys in batches, and how a single get fares meanwhile.
int run_lists(const ListsOptions& options) {
  const auto block = base::parse_size(options.block);
  if (!block || *block == 0 || *block > kChunkBytesMax || options.keys == 0 || options.batch == 0 ||
      options.count == 0 || options.repeat == 0) {
    return complain({Status::kInvalid, "--block is 1B to 2MiB; --keys, --batch, --count and --repeat are at least 1"});
  }
  auto target = open_target(options.target, options.keys * *block * 2);
  if (!target) return complain(target.error());
  auto session = Session::connect(target->client);
  if (!session) return complain(session.error());
  Lists lists(options, std::move(*session), *block);
  lists.fill();
  (void)lists.run(options.batch, false);  // opens connections and warms caches
  Json report = {
      {"count", options.count}, {"block_bytes", *block}, {"batch", options.batch}, {"rounds", Json::array()}};
  std::vector<double> rate, p50, retries;
  fmt::print("{:>8} {:>14} {:>14} {:>7} {:>10} {:>12} {:>12} {:>7}\n", "round", "batches op/s", "list op/s", "ratio",
             "retries", "one/batches", "one/list", "ratio");
  for (uint32_t i = 0; i < options.repeat; i++) {
    const ListRun batches = lists.run(options.batch, false), list = lists.run(options.count, false);
    const ListRun batches_beside = lists.run(options.batch, true), list_beside = lists.run(options.count, true);
    rate.push_back(list.ops_per_s / batches.ops_per_s);
    p50.push_back(list_beside.single_us_p50 / batches_beside.single_us_p50);
    retries.push_back(static_cast<double>(list.retries));
    fmt::print("{:>8} {:>14.0f} {:>14.0f} {:>7.2f} {:>10} {:>9.0f} us {:>9.0f} us {:>7.2f}\n", i + 1, batches.ops_per_s,
               list.ops_per_s, rate.back(), list.retries, batches_beside.single_us_p50, list_beside.single_us_p50,
               p50.back());
    std::fflush(stdout);
    report["rounds"].push_back({{"batches", told(batches)},
                                {"list", told(list)},
                                {"batches_beside", told(batches_beside)},
                                {"list_beside", told(list_beside)}});
  }
  const double per_thousand = median(retries) * 1000 / static_cast<double>(options.count);
  report["verdict"] = {
      {"rate_of_batches", median(rate)}, {"one_block_get", median(p50)}, {"retries_per_1000", per_thousand}};
  fmt::print(
      "median: a list of {} runs at {:.2f} of the rate of batches of {}, {:.2f} retries per 1,000 ops; a get of "
      "one block beside it takes {:.2f} times what it takes beside the batches\n",
      options.count, median(rate), options.batch, per_thousand, median(p50));
  lists.remove();
  if (options.json.empty()) return 0;
  if (auto written = write_json(options.json, report); !written) return complain(written.error());
  return 0;
}

}  // namespace memkv::bench
