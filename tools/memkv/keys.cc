/// exists and rm: lists of keys, one batch.

#include <fmt/core.h>

#include <map>

#include "tools/memkv/session.h"

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

/// Runs the batch that `add` fills and hands each key's outcome to `tell`, which returns an exit code. The worst wins;
/// a server that is away turns its keys' misses into exit code 3.
template <typename Add, typename Tell>
int for_each_key(const KeysOptions& options, std::string_view doing, Add add, Tell tell) {
  auto keys = parse_keys(options);
  if (!keys) return fail(keys.error());
  auto connected = connect(options.common);
  if (!connected) return fail(connected.error());
  Batch batch;
  for (const std::string& key : *keys) add(batch, key);
  const auto outcomes = connected->client.run(batch, connected->timeout);
  std::map<size_t, bool> away;  // server -> does not answer
  int worst = kExitDone;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const std::string& key = (*keys)[i];
    int code = tell(key, outcomes[i]);
    if (code != kExitDone) {
      const size_t server = connected->client.server_of(key);
      auto [known, first] = away.try_emplace(server, false);
      if (first) {
        const auto trouble = server_trouble(*connected, server);
        known->second = trouble.has_value();
        if (trouble) code = fail(exit_code(trouble->status), describe_trouble(*connected, server, *trouble));
      }
      if (!known->second && outcomes[i].status != Status::kMiss && !outcomes[i].hit()) {
        code = explain(*connected, doing, key, outcomes[i].status);
      }
    }
    worst = std::max(worst, code);
  }
  return worst;
}

}  // namespace

int run_exists(const KeysOptions& options) {
  return for_each_key(
      options, "exists", [](Batch& batch, const std::string& key) { batch.exists(key); },
      [&](const std::string& key, const Outcome& outcome) {
        const bool there = outcome.hit() && outcome.exists;
        if (!options.quiet) fmt::print("{} {}\n", there ? "yes" : "no ", show_key(key));
        return there ? kExitDone : kExitMiss;
      });
}

int run_remove(const KeysOptions& options) {
  return for_each_key(
      options, "rm", [](Batch& batch, const std::string& key) { batch.remove(key); },
      [&](const std::string& key, const Outcome& outcome) {
        if (outcome.hit()) return kExitDone;
        if (outcome.status == Status::kMiss && !options.quiet)
          fmt::print(stderr, "memkv: rm {}: miss\n", show_key(key));
        return exit_code(outcome.status);
      });
}

}  // namespace memkv::cli
