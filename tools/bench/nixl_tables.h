#pragma once
/// Tables of the runs of `memkv-bench nixl`: rows are block sizes, columns are ways to the servers.

#include <map>
#include <string>
#include <vector>

#include "tools/bench/report.h"

namespace memkv::bench {

/// Runs of one kind, by block size.
using Lines = std::map<uint64_t, const Json*>;
/// With batch 1 `keys` does not matter.
Lines lines_of(const Json& report, const std::string& way, const std::string& op, const std::string& keys,
               uint32_t batch);
/// Names of the ways, in the order in which they ran.
std::vector<std::string> ways_in(const Json& report);
/// 0 if it was not measured.
double number_of(const Lines& lines, uint64_t block, const char* field);

/// Tables of writes of the largest batch and reads of one block at a time, in GiB/s. Tables without a run are left out.
/// Each has `title`, `columns`, and `rows` with `block_bytes` and the `gib_per_s` of each column (null: not run).
Json nixl_tables(const Json& report);
/// Where a run was not what was asked for, in a sentence each: a transport that was left, a rail that carried nothing.
Json nixl_notes(const Json& report);

}  // namespace memkv::bench
