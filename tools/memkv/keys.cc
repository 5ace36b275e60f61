/// exists and rm: run a list of keys as one batch.

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "tools/memkv/session.h"
#include "tools/output.h"

namespace memkv::cli {
namespace {

Result<std::vector<std::string>, Message> parse_keys(const KeysOptions& options) {
  std::vector<std::string> keys;
  for (const std::string& text : options.keys) {
    auto key = parse_key(text, options.common.hex);
    if (!key) return key.error();
    keys.push_back(std::move(key).value());
  }
  return keys;
}

/// Remembers which servers do not answer. It asks each one once, and reports each one once.
class Troubles {
 public:
  explicit Troubles(Connected& connected) : connected_(connected) {}
  /// The exit code for the server's trouble. 0: it answers.
  int of(size_t server) {
    auto [known, first] = codes_.try_emplace(server, kExitDone);
    if (!first) return known->second;
    const auto trouble = server_trouble(connected_, server);
    if (trouble) known->second = fail(exit_code(trouble->status), describe_trouble(connected_, server, *trouble));
    return known->second;
  }

 private:
  Connected& connected_;
  std::map<size_t, int> codes_;
};

/// Runs the batch that `add` fills. Calls `tell` with each key's outcome, and with whether its server is away, in which
/// case nothing is known of the key. Returns the worst exit code.
template <typename Add, typename Tell>
int for_each_key(const KeysOptions& options, std::string_view doing, Add add, Tell tell) {
  auto keys = parse_keys(options);
  if (!keys) return fail(keys.error());
  auto connected = connect(options.common);
  if (!connected) return fail(connected.error());
  Batch batch;
  for (const std::string& key : *keys) add(batch, key);
  const auto outcomes = connected->client.run(batch, connected->timeout);
  Troubles troubles(*connected);
  int worst = kExitDone;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const std::string& key = (*keys)[i];
    const int trouble = outcomes[i].hit() ? kExitDone : troubles.of(connected->client.server_of(key));
    int code = std::max<int>(trouble, tell(key, outcomes[i], trouble != kExitDone));
    if (trouble == kExitDone && is_failure(outcomes[i].status)) {
      code = explain(*connected, doing, key, outcomes[i].status);
    }
    worst = std::max(worst, code);
  }
  return worst;
}

}  // namespace

int run_exists(const KeysOptions& options) {
  return for_each_key(
      options, "exists", [](Batch& batch, const std::string& key) { batch.exists(key); },
      [&](const std::string& key, const Outcome& outcome, bool away) {
        const bool there = outcome.hit() && outcome.exists;
        if (!options.quiet) fmt::print("{} {}\n", there ? "yes" : away ? "?  " : "no ", show_key(key));
        return there ? kExitDone : kExitMiss;
      });
}

int run_remove(const KeysOptions& options) {
  return for_each_key(
      options, "rm", [](Batch& batch, const std::string& key) { batch.remove(key); },
      [&](const std::string& key, const Outcome& outcome, bool away) -> int {
        if (outcome.hit()) return kExitDone;
        if (outcome.status == Status::kMiss && !away && !options.quiet)
          tools::say("memkv: rm {}: miss\n", show_key(key));
        return exit_code(outcome.status);
      });
}

}  // namespace memkv::cli
