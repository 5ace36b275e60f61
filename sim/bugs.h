#pragma once
/// Plants bugs on purpose, to show that the checker finds the kind of fault it is for.

#include <cstdint>
#include <string>
#include <string_view>

#include "sim/run.h"

namespace memkv::sim {

/// Plants the bug of this name. False: there is none. Seeds have one server then, unless it takes several to show it.
bool plant(std::string_view name, Run::Options& options);
std::string bug_names();
/// Plants each bug in turn (or the one of this name only), and runs seeds until one fails. True: all bugs were found.
bool find_bugs(uint64_t from, uint32_t jobs, const std::string& junit_path, std::string_view only = {});

}  // namespace memkv::sim
