#pragma once

#include <nlohmann/json.hpp>

namespace memkv::bench {

/// Of reports: fields stand in the order in which they were written.
using Json = nlohmann::ordered_json;

}  // namespace memkv::bench
