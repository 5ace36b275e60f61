#include "tools/bench/load.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "base/random.h"
#include "io/huge_memory.h"
#include "tools/bench/pattern.h"
#include "tools/bench/rounds.h"

namespace memkv::bench {
namespace {

constexpr int kPoison = 0xA5;
constexpr uint64_t kSampleEvery = 16;
constexpr uint64_t kSlotsMax = 1 << 16;  // for each thread and round: with small blocks a run has many short rounds

/// The numbers 0..n-1 in an order that looks random. Each comes once before any comes again.
class Shuffle {
 public:
  Shuffle(uint64_t n, uint64_t seed) : n_(n), at_(n == 0 ? 0 : seed % n) {
    step_ = std::max<uint64_t>(1, static_cast<uint64_t>(static_cast<double>(n) * 0.6180339887));
    while (std::gcd(step_, n_) != 1) step_++;
  }
  uint64_t next() { return at_ = (at_ + step_) % n_; }

 private:
  uint64_t n_, at_, step_;
};

/// Zipf with theta 0.99, drawn as YCSB does (Gray et al., SIGMOD 1994). Rank 0 is the most frequent.
class Zipf {
 public:
  explicit Zipf(uint64_t n) : n_(n) {
    for (uint64_t i = 1; i <= n; i++) zeta_ += 1 / std::pow(static_cast<double>(i), kTheta);
    const double zeta2 = 1 + 1 / std::pow(2.0, kTheta);
    eta_ = (1 - std::pow(2.0 / static_cast<double>(n), 1 - kTheta)) / (1 - zeta2 / zeta_);
  }
  uint64_t next(base::Random& random) const {
    const double u = random.next_double(), uz = u * zeta_;
    if (uz < 1) return 0;
    if (uz < 1 + std::pow(0.5, kTheta)) return std::min<uint64_t>(1, n_ - 1);
    const double rank = static_cast<double>(n_) * std::pow(eta_ * u - eta_ + 1, 1 / (1 - kTheta));
    return std::min(n_ - 1, static_cast<uint64_t>(rank));
  }

 private:
  static constexpr double kTheta = 0.99;
  uint64_t n_;
  double zeta_ = 0, eta_ = 0;
};

class LoadThread final : public Worker {
 public:
  LoadThread(const LoadPlan& plan, uint32_t index, std::span<std::byte> memory, Session session)
      : plan_(plan),
        index_(index),
        memory_(memory),
        session_(std::move(session)),
        size_(plan.keys->block_bytes),
        random_(0x5EED + index),
        first_(plan.keys->generations.size() * index / plan.threads),
        count_(plan.keys->generations.size() * (index + 1) / plan.threads - first_),
        shuffle_(std::max<uint64_t>(1, count_), 7919 * (index + 1)) {
    if (plan.order == Order::kZipf && count_ > 0) zipf_.emplace_back(count_);
    left_ = plan.first_fill ? count_ : plan.bytes / plan.threads / size_;
    if (count_ == 0) left_ = 0;
    slots_.resize(std::min<uint64_t>({std::max<uint64_t>(1, left_), memory.size() / size_, kSlotsMax}));
    flights_.resize(plan.depth);
    if (auto region = session_->register_memory(memory.data(), memory.size())) region_ = std::move(*region);
  }

  bool prepare() override {
    if (!warm_) warm_up();
    used_ = std::min<uint64_t>(slots_.size(), left_);
    left_ -= used_;
    for (uint64_t i = 0; i < used_; i++) choose(slots_[i], i);
    return used_ > 0;
  }

  /// Waits until half of the ops under way are done, then starts as many new ones. Requests then leave together, as
  /// with the peers' driver.
  void go() override {
    uint64_t next = 0, under_way = 0;
    while (next < used_ || under_way > 0) {
      for (Flight& flight : flights_) {
        if (next >= used_) break;
        if (flight.count != 0) continue;
        launch(flight, next);
        next += flight.count;
        under_way++;
      }
      const uint64_t enough = next < used_ ? flights_.size() / 2 : 0;
      while (under_way > enough) under_way -= land_all();
    }
  }

  void check() override {
    for (uint64_t i = 0; i < used_; i++) {
      Slot& slot = slots_[i];
      if (slot.write || !slot.hit || plan_.verify == Verify::kOff) continue;
      if (plan_.verify == Verify::kSampled && i % kSampleEvery != 0) continue;
      result.verified++;
      const std::byte* data = memory_.data() + i * size_;
      const uint32_t generation = plan_.keys->generations[slot.number];
      // In a mixed round a key may be replaced while it is read; the version before is right then, too.
      const bool right =
          matches_pattern(data, size_, pattern_seed(slot.number, generation)) ||
          (generation != slot.generation && matches_pattern(data, size_, pattern_seed(slot.number, slot.generation)));
      if (!right) result.mismatches++;
    }
  }

  void leave() override {
    region_ = {};
    session_.reset();
  }
  uint64_t bytes_done() const override { return result.bytes; }

  LoadResult result;

 private:
  struct Slot {
    uint64_t number = 0;
    uint32_t generation = 0;  // the one that a write brings; for a read the one that it expects, or one less
    bool write = false, hit = false;
    std::string key;
  };
  struct Flight {
    Batch batch;
    Session::Ticket ticket = 0;
    uint64_t first = 0, count = 0;
    double started = 0;
  };

  /// Makes connections now, and not while time is taken.
  void warm_up() {
    warm_ = true;
    Batch batch;
    for (int i = 0; i < 64; i++) batch.exists("warm-up/" + std::to_string(i));
    session_->run(batch);
  }

  /// Draws the next op of a place: its key, read or write, and for a write the bytes that only this version of the
  /// block has.
  void choose(Slot& slot, uint64_t place) {
    slot.hit = false;
    slot.write = plan_.first_fill || (plan_.read_share < 1 && random_.next_double() >= plan_.read_share);
    if (plan_.first_fill || plan_.order == Order::kSequential) {
      slot.number = first_ + sequential_++ % count_;
    } else if (plan_.order == Order::kZipf) {
      slot.number = first_ + base::mix64(zipf_.front().next(random_)) % count_;
    } else {
      slot.number = first_ + shuffle_.next();
    }
    slot.key = plan_.keys->key(slot.number);
    std::byte* data = memory_.data() + place * size_;
    uint32_t& generation = plan_.keys->generations[slot.number];
    if (slot.write) {
      for (uint64_t i = 0; i < place && plan_.order == Order::kZipf; i++) {
        // Two writes of one key at once would leave open which one comes last.
        if (slots_[i].write && slots_[i].number == slot.number) slot.write = false;
      }
    }
    slot.generation = slot.write ? ++generation : generation;
    if (slot.write)
      fill_pattern(data, size_, pattern_seed(slot.number, slot.generation));
    else if (plan_.verify != Verify::kOff)
      std::memset(data, kPoison, size_);
  }

  void launch(Flight& flight, uint64_t next) {
    flight.batch.clear();
    flight.first = next;
    flight.count = std::min<uint64_t>(plan_.batch, used_ - next);
    for (uint64_t i = next; i < next + flight.count; i++) {
      const Slot& slot = slots_[i];
      std::byte* data = memory_.data() + i * size_;
      if (slot.write)
        flight.batch.put(slot.key, Gather(data, size_));
      else
        flight.batch.get(slot.key, Scatter(data, size_));
    }
    flight.started = monotonic_seconds();
    flight.ticket = session_->submit(flight.batch, plan_.deadline);
  }

  uint64_t land_all() {
    session_->poll(std::chrono::milliseconds(100));
    uint64_t landed = 0;
    for (Flight& flight : flights_) {
      if (flight.count == 0 || !session_->done(flight.ticket)) continue;
      land(flight);
      landed++;
    }
    return landed;
  }

  void land(Flight& flight) {
    session_->collect(flight.ticket, outcomes_);
    result.latency.record(static_cast<uint64_t>((monotonic_seconds() - flight.started) * 1e9));
    for (uint64_t i = 0; i < flight.count; i++) {
      Slot& slot = slots_[flight.first + i];
      const Outcome& outcome = outcomes_[i];
      result.ops++;
      slot.hit = outcome.status == Status::kOk && outcome.bytes == size_;
      if (slot.hit)
        result.bytes += size_;
      else if (outcome.status == Status::kMiss)
        result.misses++;
      else
        fail(slot, outcome.status);
    }
    flight.count = 0;
  }

  void fail(const Slot& slot, Status status) {
    result.failures++;
    if (result.first_failure.empty())
      result.first_failure = fmt::format("{} of {}: {}", slot.write ? "put" : "get", slot.key, to_string(status));
  }

  const LoadPlan& plan_;
  const uint32_t index_;
  const std::span<std::byte> memory_;
  std::optional<Session> session_;
  Region region_;  // covers memory_
  bool warm_ = false;
  const uint64_t size_;
  base::Random random_;
  const uint64_t first_, count_;  // the keys of this thread
  Shuffle shuffle_;
  std::vector<Zipf> zipf_;
  uint64_t sequential_ = 0;
  uint64_t left_ = 0, used_ = 0;
  std::vector<Slot> slots_;
  std::vector<Flight> flights_;
  std::vector<Outcome> outcomes_;
};

}  // namespace

std::string KeySpace::key(uint64_t number) const {
  return salts.empty() ? fmt::format("{}{:08x}", prefix, number)
                       : fmt::format("{}{:08x}/{}", prefix, number, salts[number]);
}

Result<void, Message> run_load(const LoadPlan& plan, LoadResult& result) {
  const uint64_t share = plan.window_bytes / plan.threads;
  auto memory = io::HugeMemory::make(share * plan.threads, /*prefault=*/true);
  if (!memory) {
    return Message{memory.error().status,
                   fmt::format("no memory for buffers of {} MiB: use fewer --threads or a smaller --window",
                               plan.window_bytes >> 20)};
  }
  std::vector<std::unique_ptr<Worker>> workers;
  for (uint32_t i = 0; i < plan.threads; i++) {
    auto session = Session::connect(plan.client);
    if (!session) return session.error();
    workers.push_back(
        std::make_unique<LoadThread>(plan, i, memory->bytes().subspan(i * share, share), std::move(*session)));
  }
  RoundOptions options;
  options.seconds_max = plan.seconds_max;
  options.extra_cpu = plan.server_cpu;
  options.progress = plan.progress;
  const RoundTimes times = run_rounds(workers, options);
  for (const auto& worker : workers) {
    const LoadResult& part = static_cast<LoadThread&>(*worker).result;
    result.ops += part.ops;
    result.bytes += part.bytes;
    result.misses += part.misses;
    result.failures += part.failures;
    result.verified += part.verified;
    result.mismatches += part.mismatches;
    if (result.first_failure.empty()) result.first_failure = part.first_failure;
    result.latency.merge(part.latency);
  }
  result.seconds += times.seconds;
  result.client_cpu += times.cpu_seconds;
  result.server_cpu += times.extra_seconds;
  return {};
}

}  // namespace memkv::bench
