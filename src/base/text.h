#pragma once
/// Helpers for text that people write.

#include <string>
#include <string_view>
#include <vector>

namespace memkv::base {

/// The text without white space at its ends.
std::string_view trim(std::string_view text);
/// The items of a comma-separated list, trimmed. Empty items are left out.
std::vector<std::string> split_list(std::string_view text);

}  // namespace memkv::base
