#pragma once

#include <nlohmann/json.hpp>

namespace memkv::bench {

/// Reports as JSON. Fields stand in the order in which they were added.
using Json = nlohmann::ordered_json;

}  // namespace memkv::bench
