#pragma once
/// What a program says when the first word is not one of its commands.

#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/nearest_name.h"

namespace memkv::tools {

/// The message; empty if `word` is an option or one of `known`.
inline std::string unknown_command(std::string_view program, std::string_view word,
                                   const std::vector<std::string_view>& known) {
  if (word.starts_with('-') || std::find(known.begin(), known.end(), word) != known.end()) return {};
  const std::string_view near = base::likely_name(word, known);
  return fmt::format(
      "no command '{}'; {}", word,
      near.empty() ? fmt::format("`{} --help` lists them", program) : fmt::format("did you mean {}?", near));
}

}  // namespace memkv::tools
