/// Loads before stores: gets beside a flood of puts, on a drive and links of fixed rates, in simulated time. CPUs take
/// next to nothing here, so what a get waits for is a queue.

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <optional>

#include "client/ops/call.h"
#include "format/layout.h"
#include "sim/calls.h"
#include "sim/client.h"
#include "sim/server.h"

namespace memkv::sim {
namespace {

constexpr uint64_t kMi = 1 << 20;
constexpr uint64_t kDriveRate = 2048 * kMi, kLinkRate = 3 * 1024 * kMi;
constexpr size_t kBlocks = 64;  // that are read
constexpr size_t kGetBytes = 64 * 1024, kPutBytes = kMi, kPutsAtOnce = 32;

/// A server with one drive, and its clients.
class System {
 public:
  System() : world_(1), network_(world_) {
    network_.plan() = {.latency_ns_min = 20 * kUs, .latency_ns_max = 20 * kUs, .bytes_per_s = kLinkRate};
    network_.plan().window_bytes = kMi;
    const auto layout = format::choose_layout(1024 * kMi, 2);
    drive_ = std::make_unique<Drive>(
        world_, 0,
        Drive::Options{
            .bytes = 1024 * kMi, .latency_ns_min = 80 * kUs, .latency_ns_max = 80 * kUs, .bytes_per_s = kDriveRate},
        1);
    drive_->set_slices({format::kSlicesOffset, layout->slice_bytes});
    auto file = drive_->open();
    std::vector<io::DriveFile*> files{file.get()};
    EXPECT_TRUE(volume::Volume::format(files, {.shards = 2}).ok());
    file.reset();
    tenant_.name = "t";
    tenant_.secret.fill(7);
    use_host(1);
    auto started = ServerProcess::start(world_, network_, {.pool_scale = 16, .tenants = {tenant_}, .accept_loss = {}},
                                        {drive_.get()});
    EXPECT_TRUE(started.ok()) << started.error().text;
    server_ = std::move(*started);
    EXPECT_TRUE(world_.run_until(world_.now_ns() + kSecond, [&] { return server_->ready(); }));
  }
  ~System() { leave(); }

  std::unique_ptr<ClientProcess> client(uint32_t number) {
    return std::make_unique<ClientProcess>(world_, network_,
                                           ClientSpec{.host = 100 + number,
                                                      .name = "c" + std::to_string(number),
                                                      .secret = tenant_.secret,
                                                      .servers = {"s0=10.0.0.1:9900"},
                                                      .contexts = 1});
  }
  World& world() { return world_; }

 private:
  void leave() {
    server_->stop();
    world_.run_until(world_.now_ns() + 10 * kSecond, [&] { return server_->stopped(); });
  }
  World world_;
  Network network_;
  std::unique_ptr<Drive> drive_;
  Tenant tenant_;
  std::unique_ptr<ServerProcess> server_;
};

/// Keeps so many ops of one kind under way, and notes how long each took.
class Stream {
 public:
  Stream(System& system, uint32_t number, size_t depth, size_t bytes, bool puts)
      : system_(system), client_(system.client(number)), puts_(puts) {
    for (size_t i = 0; i < depth; i++) {
      Flight& flight = flights_.emplace_back();
      flight.stream = this;
      flight.data.resize(bytes);
    }
  }
  ~Stream() { end(); }

  /// Returns when so many ops have ended since.
  void run(size_t ops) {
    const size_t end = took_ns.size() + ops;
    start();
    EXPECT_TRUE(
        system_.world().run_until(system_.world().now_ns() + 60 * kSecond, [&] { return took_ns.size() >= end; }));
  }
  void start() {
    if (std::exchange(running_, true)) return;
    for (Flight& flight : flights_) begin(flight);
  }
  void end() {
    running_ = false;
    system_.world().run_until(system_.world().now_ns() + 60 * kSecond, [&] { return client_->calls() == 0; });
    client_->shut_down();
    system_.world().run_for(100 * kMs);
  }
  /// Bytes a second since then.
  double rate(size_t ops_before, uint64_t since_ns) const {
    const double bytes = static_cast<double>((took_ns.size() - ops_before) * flights_.front().data.size());
    return bytes / static_cast<double>(system_.world().now_ns() - since_ns) * 1e9;
  }
  uint64_t percentile(double part) const {
    std::vector<uint64_t> sorted = took_ns;
    std::sort(sorted.begin(), sorted.end());
    return sorted[std::min(sorted.size() - 1, static_cast<size_t>(part * static_cast<double>(sorted.size())))];
  }

  std::vector<uint64_t> took_ns;
  uint64_t pause_ns = 0;  ///< behind each op

 private:
  struct Flight {
    Stream* stream = nullptr;
    Batch batch;
    std::unique_ptr<client::Call> call;
    std::vector<Outcome> outcomes;
    std::vector<std::byte> data;
    uint64_t began_ns = 0;
  };

  void begin(Flight& flight) {
    flight.batch.clear();
    const std::string key = puts_ ? "put" + std::to_string(next_++ % keys_) : "get" + std::to_string(next_++ % kBlocks);
    if (puts_)
      flight.batch.put(key, flight.data);
    else
      flight.batch.get(key, flight.data);
    flight.began_ns = system_.world().now_ns();
    flight.call = std::make_unique<client::Call>();
    client::Call& call = *flight.call;
    call.batch = &flight.batch.impl();
    call.outcomes = &flight.outcomes;
    call.timeout_ns = 30 * kSecond;
    call.context = &flight;
    call.on_done = [](client::Call& ended) {
      auto& done = *static_cast<Flight*>(ended.context);
      done.stream->on_done(done);
    };
    client_->submit(0, call);
  }
  void on_done(Flight& flight) {
    EXPECT_EQ(flight.outcomes[0].status, Status::kOk) << (puts_ ? "put" : "get");
    took_ns.push_back(system_.world().now_ns() - flight.began_ns);
    if (!running_) return;
    system_.world().after(pause_ns, [this, &flight] { running_ ? begin(flight) : void(); });
  }

  System& system_;
  std::unique_ptr<ClientProcess> client_;
  const bool puts_;
  const size_t keys_ = 1'000'000;
  std::list<Flight> flights_;
  size_t next_ = 0;
  bool running_ = false;
};

void fill(System& system) {
  auto client = system.client(50);
  std::vector<std::byte> data(kGetBytes);
  Batch batch;
  for (size_t i = 0; i < kBlocks; i++) batch.put("get" + std::to_string(i), data);
  std::vector<Outcome> outcomes;
  client::Call call;
  bool done = false;
  call.batch = &batch.impl();
  call.outcomes = &outcomes;
  call.timeout_ns = 10 * kSecond;
  call.context = &done;
  call.on_done = [](client::Call& ended) { *static_cast<bool*>(ended.context) = true; };
  client->submit(0, call);
  EXPECT_TRUE(system.world().run_until(system.world().now_ns() + 10 * kSecond, [&] { return done; }));
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.status, Status::kOk);
  client->shut_down();
  system.world().run_for(100 * kMs);
}

/// The latency of gets, one at a time, and bytes a second of puts beside them.
struct Measured {
  uint64_t get_p99_ns = 0;
  double put_rate = 0;
};

/// `put_bytes` 0: no puts. `gets` 0: no gets, only so many puts.
Measured measure(System& system, uint32_t first_client, size_t put_bytes, size_t gets) {
  Measured measured;
  std::optional<Stream> puts;
  if (put_bytes > 0) {
    puts.emplace(system, first_client, kPutsAtOnce, put_bytes, true);
    puts->run(2 * kPutsAtOnce);
  }
  const size_t before = puts ? puts->took_ns.size() : 0;
  const uint64_t since_ns = system.world().now_ns();
  if (gets > 0) {
    Stream reader(system, first_client + 1, 1, kGetBytes, false);
    reader.pause_ns = kMs;
    reader.run(20);
    reader.took_ns.clear();
    reader.run(gets);
    measured.get_p99_ns = reader.percentile(0.99);
    if (puts) measured.put_rate = puts->rate(before, since_ns);
  } else {
    puts->run(100 * kMi / put_bytes);
    measured.put_rate = puts->rate(before, since_ns);
  }
  return measured;
}

class LoadsFirst : public testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(Puts, LoadsFirst, testing::Values(64 * 1024, kMi));

TEST_P(LoadsFirst, a_flood_of_puts_leaves_gets_their_latency) {
  System system;
  fill(system);
  const Measured quiet = measure(system, 1, 0, 100);
  const Measured alone = measure(system, 3, GetParam(), 0);
  const Measured both = measure(system, 5, GetParam(), 100);
  const double slower = static_cast<double>(both.get_p99_ns) / static_cast<double>(quiet.get_p99_ns);
  RecordProperty("get_p99_ratio", std::to_string(slower));
  RecordProperty("put_rate_ratio", std::to_string(both.put_rate / alone.put_rate));
  EXPECT_LE(slower, 1.5) << "p99 of a get alone: " << quiet.get_p99_ns << " ns";
  EXPECT_GE(both.put_rate, 0.9 * alone.put_rate);
}

TEST(LoadsFirstAlone, a_flood_of_gets_does_not_starve_puts) {
  System system;
  fill(system);
  Stream gets(system, 1, 64, kGetBytes, false);
  gets.run(128);
  Stream puts(system, 2, 1, kPutBytes, true);
  puts.run(20);
  EXPECT_LE(puts.percentile(0.99), 500 * kMs);
}

}  // namespace
}  // namespace memkv::sim
