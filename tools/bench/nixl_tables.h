#pragma once
/// Views of the runs of `memkv-bench nixl`: by block size, a column for each way to the servers.

#include <map>
#include <string>
#include <vector>

#include "tools/bench/report.h"

namespace memkv::bench {

/// Runs of one kind, by block size.
using Lines = std::map<uint64_t, const Json*>;
/// `keys` does not matter for batch 1.
Lines lines_of(const Json& report, const std::string& way, const std::string& op, const std::string& keys,
               uint32_t batch);
/// Names of the ways, as they were run.
std::vector<std::string> ways_in(const Json& report);
/// 0: not measured.
double number_of(const Lines& lines, uint64_t block, const char* field);

/// Writes of the largest batch and reads of one block at a time, in GiB/s; what was not run is left out. Each: `title`,
/// `columns`, `rows` with `block_bytes` and `gib_per_s` of each column (null: not run).
Json nixl_tables(const Json& report);
/// What differs from what was asked for, a sentence each: transports that were left, rails that carried nothing.
Json nixl_notes(const Json& report);

}  // namespace memkv::bench
