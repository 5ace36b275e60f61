#pragma once
/// The servers under load: those that were named, or one of the benchmark's own.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "memkv/client.h"
#include "tools/bench/child.h"
#include "tools/bench/load.h"
#include "tools/bench/options.h"
#include "tools/bench/report.h"

namespace memkv::bench {

/// Says on stderr what is wrong. Returns the exit code.
int complain(const Message& message);

/// Makes a plan from what was typed. The caller fills in keys and shares.
Result<LoadPlan, Message> plan_of(const LoadOptions& options);
/// An empty list means 4 KiB to 16 MiB, doubling.
Result<std::vector<uint64_t>, Message> sizes_of(const std::vector<std::string>& texts);

struct Target {
  ClientOptions client;
  std::unique_ptr<WorkDir> dir;
  std::optional<OwnServer> own;  ///< ends before `dir` is removed
  std::vector<std::string> names;
  Json statuses = Json::array();  ///< of each server: name, io, congestion control, storage, drives
};
/// Starts the own server if none is named. Then asks every server for its status; it is an error if one does not
/// answer.
Result<Target, Message> open_target(const TargetOptions& options, uint64_t own_bytes);

/// For key prefixes, so that no two runs share keys.
uint64_t random_tag();

/// Removes all blocks of a key space.
void remove_all(const ClientOptions& client, const KeySpace& keys);

}  // namespace memkv::bench
