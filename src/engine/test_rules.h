#pragma once
/// The switches of base/test_rules.h, for the engine: `if (rules().own_place) ...`.

#include "base/test_rules.h"

namespace memkv::engine {

using base::rules;

}  // namespace memkv::engine
