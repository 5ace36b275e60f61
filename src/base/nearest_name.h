#pragma once
/// What somebody meant who wrote a name that is not known: for "did you mean …?".

#include <cstddef>
#include <span>
#include <string_view>

namespace memkv::base {

/// Letters to change, to add or to leave out until `a` is `b`.
size_t edit_distance(std::string_view a, std::string_view b);

/// The one of `names` at the smallest edit distance, the first of several. Empty only if there are none.
std::string_view nearest_name(std::string_view word, std::span<const std::string_view> names);

/// The nearest name if it is likely to be meant: at most two letters are wrong, or a third of the word. Else empty.
std::string_view likely_name(std::string_view word, std::span<const std::string_view> names);

}  // namespace memkv::base
