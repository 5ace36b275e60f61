#pragma once
/// What `memkv-bench nixl` prints, and its page with charts. All from the report's JSON.

#include <string>

#include "tools/bench/report.h"

namespace memkv::bench {

std::string nixl_table_head();
std::string nixl_table_line(const Json& run);
/// The tables by way, how reads of one block stand to what can be expected, and the notes.
std::string nixl_summary(const Json& report);
std::string nixl_html(const Json& report);

}  // namespace memkv::bench
