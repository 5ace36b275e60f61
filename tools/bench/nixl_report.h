#pragma once
/// What `memkv-bench nixl` prints, and its page with charts. Both are made from the report's JSON.

#include <string>

#include "tools/bench/report.h"

namespace memkv::bench {

std::string nixl_table_head();
std::string nixl_table_line(const Json& run);
/// The tables of each way, how reads of one block compare with what can be expected, and the notes.
std::string nixl_summary(const Json& report);
std::string nixl_html(const Json& report);

}  // namespace memkv::bench
