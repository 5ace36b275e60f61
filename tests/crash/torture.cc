/// Kills a real server with SIGKILL under write load, again and again, and checks after each reopen: every acknowledged
/// block is there byte-exact, nothing half-written is served, removed blocks stay removed. Last line: the verdict in
/// figures. `memkv-torture [--kills N] [--seed S] [--drives D]`.

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "memkv/client.h"
#include "tests/support/pattern.h"
#include "tests/support/server_process.h"

namespace memkv::test {
namespace {

using Bytes = std::vector<unsigned char>;
constexpr int kWriters = 4;
constexpr int kKeysPerWriter = 24;
constexpr uint64_t kAbsent = 0;
constexpr int kKillsPerStore =
    20;  // then a fresh store, so that the log never wraps: nothing is evicted, so nothing may be missing
constexpr uint64_t kDriveBytes = 1ull << 30;
const size_t kSizes[] = {1, 100, 4096, 40'000, 65'536, 65'537, 562'176, 1'048'576, 2'097'152, 2'097'153, 5'000'000};

size_t size_of(uint64_t version) { return kSizes[mix(version) % std::size(kSizes)]; }

/// What a key may hold: exactly the last acknowledged version, or one of those whose reply never came.
struct KeyState {
  std::set<uint64_t> may_be{kAbsent};
};

struct Totals {
  std::atomic<int64_t> budget{0};  ///< bytes that may still be written in this round
  std::atomic<uint64_t> acknowledged{0}, unknown{0}, checked{0}, removed_checked{0}, refused{0}, lost{0}, wrong{0},
      revived{0};
};

ClientOptions options_for(const std::string& address, const std::string& credential) {
  ClientOptions options;
  options.servers = {address};
  options.namespace_key = credential;
  options.put_timeout = options.get_timeout = std::chrono::seconds(10);
  return options;
}

class Writer {
 public:
  explicit Writer(int id) : id_(id), random_(mix(static_cast<uint64_t>(id) + 77)) {}

  void run(const std::string& address, const std::string& credential, const std::atomic<bool>& stop, Totals& totals) {
    auto session = Session::connect(options_for(address, credential));
    if (!session) return;
    while (!stop) one_change(*session, totals);
  }

  void check(Client& client, Totals& totals) {
    for (int k = 0; k < kKeysPerWriter; ++k) check_key(client, k, totals);
  }

 private:
  std::string key(int k) const { return "w" + std::to_string(id_) + "/k" + std::to_string(k); }

  void one_change(Session& session, Totals& totals) {
    random_ = mix(random_);
    const int k = static_cast<int>(random_ % kKeysPerWriter);
    const bool removes = random_ / 64 % 5 == 0;
    KeyState& state = keys_[k];
    const uint64_t version = removes ? kAbsent : next_version(totals);
    const Bytes bytes = removes ? Bytes() : pattern(key(k), version, size_of(version));
    Batch batch;
    removes ? batch.remove(key(k)) : batch.put(key(k), bytes);
    const Status status = session.run(batch)[0].status;
    if (status == Status::kOk || (removes && status == Status::kMiss)) {
      state.may_be = {version};
      ++totals.acknowledged;
    } else if (status == Status::kRefused) {
      ++totals.refused;
    } else {
      state.may_be.insert(version);
      ++totals.unknown;
    }
  }

  /// Once the round's bytes are spent only small blocks follow, slowly.
  uint64_t next_version(Totals& totals) {
    const bool spent = totals.budget <= 0;
    if (spent) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    do ++version_;
    while (spent && size_of(version_) > 4096);
    totals.budget -= static_cast<int64_t>(size_of(version_));
    return version_;
  }

  void check_key(Client& client, int k, Totals& totals) {
    KeyState& state = keys_[k];
    Bytes buffer(6'000'000);
    const Outcome got = client.get(key(k), buffer);
    uint64_t found = kAbsent;
    if (got.status == Status::kOk) {
      found = ~uint64_t{0};
      for (const uint64_t version : state.may_be) {
        if (version != kAbsent && got.bytes == size_of(version) &&
            first_mismatch(buffer.data(), got.bytes, pattern_seed(key(k), version)) == -1) {
          found = version;
        }
      }
    } else if (got.status != Status::kMiss) {
      std::printf("%s: %s instead of a hit or a miss\n", key(k).c_str(), std::string(to_string(got.status)).c_str());
      ++totals.lost;
      return;
    }
    report(k, found, got.bytes, state, totals);
    state.may_be = {found};
  }

  void report(int k, uint64_t found, uint64_t bytes, const KeyState& state, Totals& totals) {
    state.may_be.count(kAbsent) != 0 && state.may_be.size() == 1 ? ++totals.removed_checked : ++totals.checked;
    if (state.may_be.count(found) != 0) return;
    if (found == kAbsent) {
      std::printf("%s: an acknowledged block is gone\n", key(k).c_str());
      ++totals.lost;
    } else if (state.may_be.count(kAbsent) != 0 && state.may_be.size() == 1) {
      std::printf("%s: a removed block is back (%lu bytes)\n", key(k).c_str(), static_cast<unsigned long>(bytes));
      ++totals.revived;
    } else {
      std::printf("%s: wrong bytes (%lu of them)\n", key(k).c_str(), static_cast<unsigned long>(bytes));
      ++totals.wrong;
    }
  }

  int id_;
  uint64_t random_;
  uint64_t version_ = 0;
  std::map<int, KeyState> keys_;
};

void run_writers(std::vector<Writer>& writers, ServerProcess& server, const std::string& credential, int load_ms,
                 Totals& totals) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (Writer& w : writers) threads.emplace_back([&] { w.run(server.address(), credential, stop, totals); });
  std::this_thread::sleep_for(std::chrono::milliseconds(load_ms));
  server.kill_now();
  stop = true;
  for (auto& t : threads) t.join();
}

uint64_t bad(const Totals& totals) { return totals.lost + totals.wrong + totals.revived; }

/// One store: `kills` rounds of load, kill, reopen, check.
void torture_store(int kills, uint64_t seed, int drives, Totals& totals) {
  const TempDir dir;
  const std::string config = setup_file_drives(dir, drives, std::to_string(kDriveBytes >> 20) + "MiB", 2);
  const std::string credential = credential_of(dir);
  std::vector<Writer> writers;
  for (int w = 0; w < kWriters; ++w) writers.emplace_back(w + static_cast<int>(seed % 1000) * kWriters);
  uint64_t random = mix(seed);
  for (int round = 0; round <= kills && bad(totals) == 0; ++round) {
    auto server = ServerProcess::start({.args = {"--config", config}, .dir = dir.path()});
    {
      Client client = Client::connect(options_for(server->address(), credential)).value();
      for (Writer& w : writers) w.check(client, totals);
    }
    if (bad(totals) > 0) break;
    if (round == kills) {
      if (server->stop() != 0) ++totals.lost;
      break;
    }
    random = mix(random);
    totals.budget = static_cast<int64_t>(kDriveBytes * static_cast<uint64_t>(drives) / kKillsPerStore / 2);
    run_writers(writers, *server, credential, 100 + static_cast<int>(random % 500), totals);
    std::printf("kill %d: %lu changes acknowledged, %lu unknown so far\n", round + 1,
                static_cast<unsigned long>(totals.acknowledged), static_cast<unsigned long>(totals.unknown));
    std::fflush(stdout);
  }
}

int torture(int kills, uint64_t seed, int drives) {
  Totals totals;
  for (int done = 0; done < kills && bad(totals) == 0; done += kKillsPerStore) {
    torture_store(std::min(kKillsPerStore, kills - done), mix(seed + static_cast<uint64_t>(done)), drives, totals);
  }
  const bool passed = bad(totals) == 0 && totals.acknowledged > 0;
  std::printf(
      "torture: %s: %d kills, %lu changes acknowledged, %lu unknown, %lu blocks and %lu removals checked, %lu lost, "
      "%lu wrong, %lu revived\n",
      passed ? "passed" : "FAILED", kills, static_cast<unsigned long>(totals.acknowledged),
      static_cast<unsigned long>(totals.unknown), static_cast<unsigned long>(totals.checked),
      static_cast<unsigned long>(totals.removed_checked), static_cast<unsigned long>(totals.lost),
      static_cast<unsigned long>(totals.wrong), static_cast<unsigned long>(totals.revived));
  return passed ? 0 : 1;
}

}  // namespace
}  // namespace memkv::test

int main(int argc, char** argv) {
  int kills = 20, drives = 3;
  uint64_t seed = std::random_device{}();
  for (int i = 1; i < argc; i += 2) {
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (value != nullptr && std::strcmp(argv[i], "--kills") == 0) {
      kills = std::atoi(value);
    } else if (value != nullptr && std::strcmp(argv[i], "--seed") == 0) {
      seed = std::strtoull(value, nullptr, 10);
    } else if (value != nullptr && std::strcmp(argv[i], "--drives") == 0) {
      drives = std::atoi(value);
    } else {
      std::fprintf(stderr,
                   "usage: memkv-torture [--kills N] [--seed S] [--drives D]\n  kills a server N times (20) under "
                   "write load and checks it after each restart\n");
      return 2;
    }
  }
  std::printf("torture: seed %lu\n", static_cast<unsigned long>(seed));
  return memkv::test::torture(kills, seed, drives);
}
