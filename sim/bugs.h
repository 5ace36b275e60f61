#pragma once
/// Bugs planted on purpose, to show that the checker finds what it is for.

#include <cstdint>
#include <string>
#include <string_view>

namespace memkv::sim {

/// False: there is no such bug.
bool plant(std::string_view name);
std::string bug_names();
/// Plants each in turn, or the one of this name, and runs seeds until one fails. True: all were found.
bool find_bugs(uint64_t from, uint32_t jobs, const std::string& junit_path, std::string_view only = {});

}  // namespace memkv::sim
