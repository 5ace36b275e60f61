/// flush: removes every block of the credential's namespace.

#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>

#include "tools/memkv/session.h"
#include "tools/output.h"

namespace memkv::cli {
namespace {

bool confirmed(const Client& client) {
  tools::say("This removes every block of this credential's namespace on {} server(s). Type yes to go on: ",
             client.server_count());
  char answer[16] = {};
  if (std::fgets(answer, sizeof answer, stdin) == nullptr) return false;
  return std::string_view(answer) == "yes\n";
}

}  // namespace

int run_flush(const FlushOptions& options) {
  if (!options.yes && isatty(STDIN_FILENO) == 0) return fail(kExitUsage, "flush removes everything: say --yes");
  auto connected = connect(options.common);
  if (!connected) return fail(connected.error());
  if (!options.yes && !confirmed(connected->client)) return fail(kExitUsage, "flush: not confirmed, nothing was done");
  const Outcome outcome = connected->client.flush(connected->timeout);
  if (outcome.hit()) return kExitDone;
  for (size_t i = 0; i < connected->client.server_count(); ++i) {
    if (const auto trouble = server_trouble(*connected, i)) {
      return fail(exit_code(trouble->status), "flush: " + describe_trouble(*connected, i, *trouble));
    }
  }
  return fail(exit_code(outcome.status), fmt::format("flush: {}", to_string(outcome.status)));
}

}  // namespace memkv::cli
