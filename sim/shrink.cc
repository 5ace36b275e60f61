#include "sim/shrink.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <numeric>
#include <string>
#include <vector>

#include "sim/fork.h"
#include "sim/plan.h"

namespace memkv::sim {
namespace {

/// A violation without its figures: two of one kind then have the same text.
std::string kind_of(const std::string& violation) {
  std::string kind;
  for (const char c : violation.substr(0, violation.find('('))) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) kind += c;
  }
  return kind;
}

std::string join(const std::vector<size_t>& places) {
  std::string text;
  for (size_t i = 0; i < places.size();) {
    size_t last = i;
    while (last + 1 < places.size() && places[last + 1] == places[last] + 1) last++;
    if (!text.empty()) text += ",";
    text += last == i ? fmt::format("{}", places[i]) : fmt::format("{}-{}", places[i], places[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace

bool shrink_seed(uint64_t seed, const Run::Options& options) {
  const Plan plan = make_plan(seed, options.may_have());
  std::vector<size_t> keep(plan.actions.size());
  std::iota(keep.begin(), keep.end(), 0);
  const SeedReport whole = run_forked(seed, options, &keep);
  if (whole.result.violation.empty()) {
    fmt::print("seed {} does not fail\n", seed);
    return false;
  }
  const std::string kind = kind_of(whole.result.violation);
  for (size_t piece = keep.size() / 2; piece > 0; piece /= 2) {
    for (size_t at = 0; at < keep.size();) {
      std::vector<size_t> less = keep;
      const auto from = less.begin() + static_cast<ptrdiff_t>(at);
      less.erase(from, from + static_cast<ptrdiff_t>(std::min(piece, less.size() - at)));
      if (!less.empty() && kind_of(run_forked(seed, options, &less).result.violation) == kind)
        keep = less;
      else
        at += piece;
    }
  }
  for (const size_t place : keep) fmt::print("  {}: {}\n", place, describe(plan.actions[place]));
  fmt::print("{} of {} actions are left: {}\n  replay: ./dev sim --seed {} --log --keep {}\n", keep.size(),
             plan.actions.size(), run_forked(seed, options, &keep).result.violation, seed, join(keep));
  return true;
}

}  // namespace memkv::sim
