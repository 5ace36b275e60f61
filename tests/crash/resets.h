#pragma once
/// The torture where the machine is reset instead of the server killed: one boot of a guest (tools/guest_resets.sh).

#include <string>
#include <vector>

namespace memkv::test {

/// Arguments: "memkv-torture reset FOLDER BOOT SEED CHANGES LAST". FOLDER outlives the machine: store.yaml,
/// store.key and the journals of the boots before. Checks all blocks by those journals, then loads the server and
/// resets the machine; where LAST is 1 it stops the server instead. Returns only then, or when something is not as it
/// should be.
int run_until_reset(const std::vector<std::string>& arguments);

}  // namespace memkv::test
