/// A whole server against a map: tens of thousands of random ops in batches through the client, with kill -9 in the
/// middle of batches, restarts, and a drain. The seed is printed on failure; MEMKV_TEST_SEED names another one.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
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

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kOps = 30'000;  // enough for three lives and more
#else
constexpr int kOps = 100'000;
#endif
constexpr int kKeys = 300;
constexpr int kOpsPerLife = 9'000;

using Content = std::optional<std::string>;  ///< nothing: the key is not there

/// One op of a batch, and what the key holds when it is done.
struct Step {
  enum class Kind { kGet, kPut, kPutIfAbsent, kWrite, kRemove, kExists, kStat } kind;
  std::string key;
  std::string bytes;  // what is put or written; for a get the room for its result
  uint64_t offset = 0;
};

class Model {
 public:
  Model(uint64_t seed, std::string credential) : random_(seed), credential_(std::move(credential)) {}

  void connect(const std::string& address) {
    ClientOptions options;
    options.servers = {"model=" + address};
    options.namespace_key = credential_;
    options.get_timeout = options.put_timeout = std::chrono::seconds(20);
    client_.emplace(Client::connect(options).value());
    for (int i = 0; i < 200 && !client_->server_status(0, std::chrono::seconds(1)); i++)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  void disconnect() { client_.reset(); }

  /// Random steps on different keys, so that their order does not matter.
  std::vector<Step> plan() {
    std::vector<Step> steps;
    std::set<std::string> used;
    for (uint64_t n = 1 + below(32); steps.size() < n;) {
      Step step;
      step.key = "key" + std::to_string(below(kKeys));
      if (used.insert(step.key).second) steps.push_back(fill(std::move(step)));
    }
    return steps;
  }

  Client::Pending submit(std::vector<Step>& steps) {
    Batch batch;
    for (Step& step : steps) add(batch, step);
    return client_->submit(std::move(batch));
  }

  /// `killed`: the server may have been killed at any moment of the batch.
  void check(std::vector<Step>& steps, const std::vector<Outcome>& outcomes, bool killed) {
    ASSERT_EQ(outcomes.size(), steps.size());
    for (size_t i = 0; i < steps.size(); i++) {
      check_step(steps[i], outcomes[i], killed);
      if (testing::Test::HasFatalFailure()) return;
    }
  }

  void check_all() {
    for (auto& [key, may_be] : keys_) {
      Step step{Step::Kind::kGet, key, std::string(kRoom, '\xEE'), 0};
      Batch batch;
      add(batch, step);
      check_step(step, client_->run(batch)[0], false);
      if (testing::Test::HasFatalFailure()) return;
    }
    // Keys are read from the drive one after another, so on a busy machine a page may take long.
    const auto listed = client_->list(0, 0, std::chrono::seconds(60));
    ASSERT_TRUE(listed.ok());
    size_t present = 0;
    for (const auto& [key, may_be] : keys_) present += may_be[0].has_value() ? 1 : 0;
    ASSERT_EQ(listed->size(), present);
  }

  uint64_t below(uint64_t n) { return random_() % n; }

 private:
  static constexpr size_t kRoom = 6'000'000;

  std::vector<Content>& contents(const std::string& key) {
    auto& may_be = keys_[key];
    if (may_be.empty()) may_be.emplace_back();
    return may_be;
  }

  std::string random_bytes() {
    const uint64_t which = below(1000);
    const size_t size = which < 700   ? below(5000)
                        : which < 985 ? below(100'000)
                        : which < 997 ? below(2'200'000)
                                      : below(5'000'000);
    std::string bytes(size, 0);
    fill_pattern(bytes.data(), size, random_());
    return bytes;
  }

  Step fill(Step step) {
    const auto& may_be = contents(step.key);
    const bool known = may_be.size() == 1 && may_be[0].has_value();
    switch (below(10)) {
      case 0:
        step.kind = Step::Kind::kRemove;
        break;
      case 1:
        step.kind = Step::Kind::kPutIfAbsent, step.bytes = random_bytes();
        break;
      case 2:
        step.kind = below(2) == 0 ? Step::Kind::kExists : Step::Kind::kStat;
        break;
      case 3:
        step.kind = Step::Kind::kPut, step.bytes = random_bytes();
        if (!known || step.bytes.empty()) break;
        step.kind = Step::Kind::kWrite, step.offset = below(may_be[0]->size() + 1);  // without holes
        break;
      case 4:
      case 5:
      case 6:
        step.kind = Step::Kind::kPut, step.bytes = random_bytes();
        break;
      default:
        step.kind = Step::Kind::kGet;
        step.offset = known && below(2) == 0 ? below(may_be[0]->size() + 1) : 0;
        step.bytes.assign(below(4) == 0 ? below(10'000) : longest(may_be) + 10, '\xEE');
    }
    return step;
  }

  static size_t longest(const std::vector<Content>& may_be) {
    size_t most = 0;
    for (const Content& content : may_be) most = std::max(most, content ? content->size() : 0);
    return most;
  }

  static void add(Batch& batch, Step& step) {
    switch (step.kind) {
      case Step::Kind::kGet:
        batch.get(step.key, Scatter(step.bytes.data(), step.bytes.size()), step.offset);
        break;
      case Step::Kind::kPut:
        batch.put(step.key, step.bytes);
        break;
      case Step::Kind::kPutIfAbsent:
        batch.put_if_absent(step.key, step.bytes);
        break;
      case Step::Kind::kWrite:
        batch.write(step.key, step.bytes, step.offset);
        break;
      case Step::Kind::kRemove:
        batch.remove(step.key);
        break;
      case Step::Kind::kExists:
        batch.exists(step.key);
        break;
      case Step::Kind::kStat:
        batch.stat(step.key);
        break;
    }
  }

  /// What the key holds after the step, if it held `before`.
  static Content after(const Step& step, const Content& before) {
    switch (step.kind) {
      case Step::Kind::kPut:
        return step.bytes;
      case Step::Kind::kPutIfAbsent:
        return before ? before : Content(step.bytes);
      case Step::Kind::kWrite: {
        std::string bytes = before.value_or("");
        if (bytes.size() < step.offset + step.bytes.size()) bytes.resize(step.offset + step.bytes.size());
        return bytes.replace(step.offset, step.bytes.size(), step.bytes);
      }
      case Step::Kind::kRemove:
        return {};
      default:
        return before;
    }
  }

  static bool changes(const Step& step) {
    return step.kind == Step::Kind::kPut || step.kind == Step::Kind::kPutIfAbsent || step.kind == Step::Kind::kWrite ||
           step.kind == Step::Kind::kRemove;
  }

  void check_step(const Step& step, const Outcome& outcome, bool killed) {
    auto& may_be = contents(step.key);
    const std::string what = step.key + ": " + std::string(to_string(outcome.status));
    if (changes(step)) return check_change(step, outcome, killed, may_be, what);
    if (killed && outcome.status != Status::kOk) return;  // a server that is away answers misses
    if (step.kind == Step::Kind::kGet) return check_get(step, outcome, may_be, what);
    ASSERT_TRUE(outcome.ok()) << what;
    const bool there = outcome.exists;
    std::erase_if(may_be, [&](const Content& content) {
      return content.has_value() != there ||
             (there && step.kind == Step::Kind::kStat && content->size() != outcome.block_bytes);
    });
    ASSERT_FALSE(may_be.empty()) << what << (there ? ": it is there" : ": it is not there");
  }

  void check_change(const Step& step, const Outcome& outcome, bool killed, std::vector<Content>& may_be,
                    const std::string& what) {
    std::vector<Content> done;
    for (const Content& before : may_be) {
      if (outcome.status == Status::kExists && !before) continue;
      if (outcome.status == Status::kMiss && before) continue;  // the remove found nothing
      if (outcome.status == Status::kOk && step.kind == Step::Kind::kRemove && !before) continue;
      if (outcome.status == Status::kOk && step.kind == Step::Kind::kPutIfAbsent && before) continue;
      done.push_back(after(step, before));
    }
    if (outcome.ok() && outcome.status != Status::kRefused) {
      ASSERT_FALSE(done.empty()) << what;
      may_be = std::move(done);
      return;
    }
    ASSERT_TRUE(killed) << what;
    if (outcome.status == Status::kRefused) return;  // nothing happened
    may_be.insert(may_be.end(), done.begin(), done.end());
  }

  static void check_get(const Step& step, const Outcome& outcome, std::vector<Content>& may_be,
                        const std::string& what) {
    ASSERT_TRUE(outcome.status == Status::kOk || outcome.status == Status::kMiss) << what;
    const std::string got = step.bytes.substr(0, outcome.bytes);
    std::erase_if(may_be, [&](const Content& content) {
      if (outcome.status == Status::kMiss) return content.has_value();
      if (!content || outcome.block_bytes != content->size()) return true;
      const size_t offset = std::min<size_t>(step.offset, content->size());
      return got != content->substr(offset, step.bytes.size());
    });
    ASSERT_FALSE(may_be.empty()) << what << ": not what was put, offset " << step.offset << ", " << outcome.bytes
                                 << " bytes of " << outcome.block_bytes;
    const auto first = may_be.front();
    std::erase_if(may_be, [&](const Content& content) { return content == first; });  // it may have changed nothing
    may_be.insert(may_be.begin(), first);
  }

  std::mt19937_64 random_;
  const std::string credential_;
  std::optional<Client> client_;
  std::map<std::string, std::vector<Content>> keys_;
};

TEST(Model, AServerThatIsKilledAndRestartedIsAMap) {
  const char* wanted = std::getenv("MEMKV_TEST_SEED");
  const uint64_t seed = wanted != nullptr ? std::strtoull(wanted, nullptr, 0) : 20261125;
  SCOPED_TRACE("MEMKV_TEST_SEED=" + std::to_string(seed));
  const TempDir dir;
  const std::string config = setup_file_drives(dir, 3, "1GiB", 2);
  ServerProcess::Options options{.args = {"--config", config, "--workers", "2"}, .dir = dir.path()};
  auto server = ServerProcess::start(options);
  options.address = server->address();  // the same after every restart
  Model model(seed, credential_of(dir));
  model.connect(server->address());
  for (int ops = 0, life = 0; ops < kOps;) {
    const bool last_of_life = ops >= (life + 1) * kOpsPerLife;
    const bool kill = last_of_life && life % 3 != 2;
    auto steps = model.plan();
    auto pending = model.submit(steps);
    if (kill) {
      std::this_thread::sleep_for(std::chrono::microseconds(model.below(3000)));
      server->kill_now();
    }
    ASSERT_NO_FATAL_FAILURE(model.check(steps, pending.wait(), kill)) << "after " << ops << " ops";
    ops += static_cast<int>(steps.size());
    if (!last_of_life) continue;
    life++;
    model.disconnect();
    if (!kill) {
      ASSERT_EQ(server->stop(), 0) << server->log();
    }
    server = ServerProcess::start(options);
    model.connect(server->address());
    ASSERT_NO_FATAL_FAILURE(model.check_all()) << "after restart " << life << ", " << ops << " ops";
  }
  ASSERT_NO_FATAL_FAILURE(model.check_all());
  model.disconnect();
  ASSERT_EQ(server->stop(), 0) << server->log();
}

}  // namespace
}  // namespace memkv::test
