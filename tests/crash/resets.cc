#include "tests/crash/resets.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "base/unique_fd.h"
#include "tests/crash/fleet.h"
#include "tests/crash/store.h"
#include "tests/support/server_process.h"

namespace memkv::test {
namespace {

constexpr uint64_t kBytesPerBoot = uint64_t{24} << 20;
constexpr uint64_t kAcknowledgedMin = 20;  ///< how many changes at least before the reset
constexpr int kLoadSecondsMax = 90;
constexpr int kReadySeconds = 200;  ///< long enough for an emulated machine

/// Resets the machine at once. Journals are written through to the folder (9p without a cache); what is under way to
/// the drives is lost.
[[noreturn]] void reset_machine() {
  const base::UniqueFd trigger(open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC));
  if (write(trigger.get(), "b", 1) == 1) sleep(60);
  std::printf("the machine could not be reset\n");
  std::exit(1);
}

std::string journals_of(const std::string& folder, int boot) {
  return folder + "/boot" + std::to_string(boot) + "-client";
}

}  // namespace

int run_until_reset(const std::vector<std::string>& arguments) {
  if (arguments.size() != 7) return 2;
  const std::string& folder = arguments[2];
  const auto number = [&](size_t i) { return std::strtoull(arguments[i].c_str(), nullptr, 10); };
  const int boot = static_cast<int>(number(3));
  const TempDir dir;
  Totals totals;
  Fleet fleet({.ordered = Features().has(Feature::kOrder), .may_miss = false}, totals);
  for (int earlier = 0; earlier < boot; ++earlier) fleet.load_journals(journals_of(folder, earlier));
  const auto server =
      ServerProcess::start({.args = {"--config", folder + "/store.yaml", "--shm-dir", dir.path(), "--memory", "96MiB"},
                            .dir = dir.path(),
                            .ready_timeout_s = kReadySeconds});
  const Access access{server->address(), dir.path(), {"@" + folder + "/store.key", kSecondCredential}};
  fleet.check(access);
  std::printf("reset: boot %d: %s: %s\n", boot, totals.good() ? "good" : "BAD", totals.figures().c_str());
  std::fflush(stdout);
  if (!totals.good()) return 1;
  if (number(6) != 0) return server->stop() == 0 ? 0 : 1;
  fleet.start(access, {.seed = number(4), .run = boot, .budget = kBytesPerBoot, .journals = journals_of(folder, boot)});
  const uint64_t wanted = kAcknowledgedMin + number(5);
  for (int waited = 0; totals.changes.acknowledged < wanted && waited < kLoadSecondsMax * 100; ++waited) usleep(10'000);
  std::printf("reset: boot %d: %lu changes acknowledged, now the reset\n", boot,
              static_cast<unsigned long>(totals.changes.acknowledged));
  std::fflush(stdout);
  tcdrain(STDOUT_FILENO);  // a console is slow
  reset_machine();
}

}  // namespace memkv::test
