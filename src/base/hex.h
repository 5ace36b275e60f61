#pragma once
/// Bytes as hex digits: credentials, digests, ids.

#include <string>
#include <string_view>

#include "base/bytes.h"

namespace memkv::base {

/// Lower case, no separators.
std::string hex_encode(Bytes data);

/// Fills all of `out`. Returns false unless `text` has exactly 2 * out.size() hex digits, of either case; `out` is
/// unspecified then.
[[nodiscard]] bool hex_decode(std::string_view text, MutBytes out);

}  // namespace memkv::base
