#pragma once
/// The torture that resets the machine instead of killing the server: one boot of a guest (tools/guest_resets.sh).

#include <string>
#include <vector>

namespace memkv::test {

/// Arguments: "memkv-torture reset FOLDER BOOT SEED CHANGES LAST". FOLDER outlives the machine; it holds store.yaml,
/// store.key and the journals of the boots before. The program checks all blocks by those journals, then loads the
/// server and resets the machine. If LAST is 1 it stops the server instead. It returns only then, or when a check
/// fails.
int run_until_reset(const std::vector<std::string>& arguments);

}  // namespace memkv::test
