/// memkv-honest: a tenant that keeps to the rules, with the public client. For each line of its input it works for some
/// seconds. Then it says for each kind of op how many there were, how many failed, and how long they took.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "memkv/client.h"
#include "tests/support/pattern.h"

namespace memkv::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kRound = std::chrono::milliseconds(8);
constexpr int kSmallBlocks = 2000, kLargeBlocks = 16;
constexpr size_t kSmall = 4096, kLarge = kChunkBytesMax, kTwoChunks = kChunkBytesMax + 65536;
constexpr int kConnectEvery = 2;  ///< in rounds
/// Rounds between two puts of two chunks. So little is written that no log wraps, which would drop what nobody read.
constexpr int kPutEvery = 8;

std::string small_key(uint64_t i) { return "small " + std::to_string(i % kSmallBlocks); }
std::string large_key(uint64_t i) { return "large " + std::to_string(i % kLargeBlocks); }

/// Older clients do not say that a server was away.
std::string failure_of(const auto& outcome) {
  std::string text(to_string(outcome.status));
  if constexpr (requires { outcome.unreachable; }) text += outcome.unreachable ? " (unreachable)" : "";
  return text;
}

/// All ops of one kind in one measurement.
struct Kind {
  std::vector<double> us;
  uint64_t failures = 0;
  std::map<std::string, int> reasons;

  void count(double took_us, const std::string& failure) {
    us.push_back(took_us);
    if (failure.empty()) return;
    failures++;
    reasons[failure]++;
  }
  double percentile(double part) const { return us[static_cast<size_t>(part * static_cast<double>(us.size() - 1))]; }
};

/// Owns a Session and drives it. Thread: one.
class Tenant {
 public:
  explicit Tenant(ClientOptions options) : options_(std::move(options)), session_(connected()), buffer_(kTwoChunks) {}

  /// Stores the blocks that are read later. Empty: all is well.
  std::string prepare() {
    std::vector<std::vector<unsigned char>> blocks;
    Batch batch;
    for (int i = 0; i < kSmallBlocks + kLargeBlocks; ++i) {
      const std::string key = i < kSmallBlocks ? small_key(i) : large_key(i - kSmallBlocks);
      blocks.push_back(pattern(key, 1, i < kSmallBlocks ? kSmall : kLarge));
      batch.put(key, blocks.back());
    }
    for (const Outcome& outcome : session_.run(batch)) {
      if (outcome.status != Status::kOk) return failure_of(outcome);
    }
    return {};
  }

  void measure(std::chrono::seconds length) {
    kinds_.clear();
    const auto end = Clock::now() + length;
    for (auto next = Clock::now(); Clock::now() < end; next = std::max(next + kRound, Clock::now() - kRound)) {
      std::this_thread::sleep_until(next);
      round();
    }
  }

  void report() {
    for (auto& [name, kind] : kinds_) {
      std::sort(kind.us.begin(), kind.us.end());
      std::string reasons;
      for (const auto& [reason, times] : kind.reasons) reasons += " " + reason + " x" + std::to_string(times);
      std::printf("%s\t%zu\t%lu\t%.1f\t%.1f\t%.1f\t%s\n", name.c_str(), kind.us.size(), kind.failures,
                  kind.percentile(0.5), kind.percentile(0.99), kind.us.back(), reasons.c_str());
    }
    std::printf("end\n");
    std::fflush(stdout);
  }

 private:
  Session connected() const { return std::move(Session::connect(options_)).value(); }

  void round() {
    const uint64_t n = rounds_++;
    for (uint64_t i = 0; i < 4; ++i) {
      timed("get 4 KiB", [&] { return get(session_, small_key(mix(4 * n + i)), kSmall); });
    }
    timed("put 4 KiB", [&] { return put("own " + std::to_string(n % 500), kSmall); });
    timed("get 2 MiB", [&] { return get(session_, large_key(n), kLarge); });
    if (n % kConnectEvery == 0) {
      timed("connect", [&] {
        Session fresh = connected();
        return get(fresh, small_key(n), kSmall);
      });
    }
    if (n % kPutEvery != 0) return;
    timed("put 2+ MiB", [&] { return put("two chunks " + std::to_string(n / kPutEvery % 4), kTwoChunks); });
  }

  template <typename Work>
  void timed(const char* name, Work&& work) {
    const auto begin = Clock::now();
    const std::string failure = work();
    kinds_[name].count(std::chrono::duration<double, std::micro>(Clock::now() - begin).count(), failure);
  }

  /// Empty: the block was there, and it was right.
  std::string get(Session& session, const std::string& key, size_t bytes) {
    Batch batch;
    batch.get(key, Scatter(buffer_.data(), bytes));
    const Outcome outcome = session.run(batch).front();
    if (!outcome.hit()) return failure_of(outcome);
    const bool right = outcome.bytes == bytes && first_mismatch(buffer_.data(), 64, pattern_seed(key, 1)) < 0;
    return right ? "" : "wrong bytes";
  }

  std::string put(const std::string& key, size_t bytes) {
    fill_pattern(buffer_.data(), 64, pattern_seed(key, 1));
    Batch batch;
    batch.put(key, Gather(buffer_.data(), bytes));
    const Outcome outcome = session_.run(batch).front();
    return outcome.status == Status::kOk ? "" : failure_of(outcome);
  }

  ClientOptions options_;
  Session session_;
  std::vector<char> buffer_;
  uint64_t rounds_ = 0;
  std::map<std::string, Kind> kinds_;
};

/// False: the input has ended.
bool wait_for_line() {
  char c = 0;
  while (read(STDIN_FILENO, &c, 1) == 1) {
    if (c == '\n') return true;
  }
  return false;
}

int run(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: memkv-honest HOST:PORT CREDENTIAL SECONDS\n");
    return 2;
  }
  Tenant tenant({.servers = {argv[1]}, .namespace_key = argv[2], .transport = Transport::kTcp});
  if (const std::string failure = tenant.prepare(); !failure.empty()) {
    std::fprintf(stderr, "memkv-honest: cannot store its blocks: %s\n", failure.c_str());
    return 1;
  }
  std::printf("ready\n");
  std::fflush(stdout);
  while (wait_for_line()) {
    tenant.measure(std::chrono::seconds(std::atoi(argv[3])));
    tenant.report();
  }
  return 0;
}

}  // namespace
}  // namespace memkv::test

int main(int argc, char** argv) { return memkv::test::run(argc, argv); }
