#pragma once
/// What `memkv-bench nixl` prints, and its page with charts. All from the report's JSON.

#include <string>

#include "tools/bench/report.h"

namespace memkv::bench {

std::string nixl_table_head();
std::string nixl_table_line(const Json& run);
/// The seed's tables, and how the measured rates stand to what can be expected.
std::string nixl_summary(const Json& report);
std::string nixl_html(const Json& report);

}  // namespace memkv::bench
