#include <fmt/core.h>

#include "tools/build_info.h"
#include "tools/memkv/options.h"
#include "tools/memkv/session.h"

namespace memkv::cli {

std::string version_text() { return fmt::format("memkv {} ({})", tools::kVersion, tools::kCommit); }

int run_version() {
  fmt::print("{}\n", version_text());
  return kExitDone;
}

}  // namespace memkv::cli
