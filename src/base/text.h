#pragma once
/// Small things of text that people write.

#include <string>
#include <string_view>
#include <vector>

namespace memkv::base {

/// Without white space at either end.
std::string_view trim(std::string_view text);
/// The items of a comma list, trimmed; empty ones are left out.
std::vector<std::string> split_list(std::string_view text);

}  // namespace memkv::base
