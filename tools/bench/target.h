#pragma once
/// The servers under load: those that were named, or an own one.

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

/// Says what is wrong on stderr; the exit code.
int complain(const Message& message);

/// A plan whose keys and shares are still to be filled, from what was typed.
Result<LoadPlan, Message> plan_of(const LoadOptions& options);
/// Empty list: 4 KiB to 16 MiB, doubling.
Result<std::vector<uint64_t>, Message> sizes_of(const std::vector<std::string>& texts);

struct Target {
  ClientOptions client;
  std::unique_ptr<WorkDir> dir;
  std::optional<OwnServer> own;  ///< ends before `dir` goes
  std::vector<std::string> names;
  Json statuses = Json::array();  ///< of each server: name, io, congestion control, storage, drives
};
/// Starts the own server where none is named, and asks every server for its status: one that does not answer is an
/// error.
Result<Target, Message> open_target(const TargetOptions& options, uint64_t own_bytes);

/// For key prefixes: no two runs share keys.
uint64_t random_tag();

/// Removes the blocks of a key space.
void remove_all(const ClientOptions& client, const KeySpace& keys);

}  // namespace memkv::bench
