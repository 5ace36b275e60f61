#include "base/nearest_name.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace memkv::base {

/// The row of the table of distances (Wagner and Fischer) for each letter of `a` in turn: row[j] is the distance of
/// what stands before it to the first j letters of `b`.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); j++) row[j] = j;
  for (size_t i = 1; i <= a.size(); i++) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); j++) {
      const size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::string_view nearest_name(std::string_view word, std::span<const std::string_view> names) {
  const auto nearer = [&](std::string_view a, std::string_view b) {
    return edit_distance(word, a) < edit_distance(word, b);
  };
  const auto nearest = std::min_element(names.begin(), names.end(), nearer);
  return nearest == names.end() ? std::string_view() : *nearest;
}

std::string_view likely_name(std::string_view word, std::span<const std::string_view> names) {
  const std::string_view nearest = nearest_name(word, names);
  return edit_distance(word, nearest) <= std::max<size_t>(2, word.size() / 3) ? nearest : std::string_view();
}

}  // namespace memkv::base
