#include "sim/bugs.h"

#include <fmt/format.h>

#include <utility>

#include "base/test_rules.h"
#include "sim/fork.h"
#include "sim/junit.h"

namespace memkv::sim {
namespace {

using base::TestRules;

struct Bug {
  const char* name;
  bool TestRules::*rule;
  const char* what;
  enum class Of : uint8_t { kAny, kList, kShm, kRdma } of = Of::kAny;  ///< only these can show it
};

Run::Options options_for(const Bug& bug) {
  return {
      .one_server = bug.of != Bug::Of::kList, .no_shm = bug.of != Bug::Of::kShm, .no_rdma = bug.of != Bug::Of::kRdma};
}

constexpr uint64_t kSeedsMax = 5000;  // a bug that no seed up to this number shows counts as not found

constexpr Bug kBugs[] = {
    {"extents", &TestRules::acknowledged_in_order, "rule 1: extents are acknowledged in any order"},
    {"place", &TestRules::own_place, "rule 2: headers are not held to their place and chain"},
    {"mark", &TestRules::complete_up_to, "rule 3: payloads behind the mark are not verified"},
    {"tombstones", &TestRules::dies_where_it_lies, "rule 4: no tombstone in the old record's log"},
    {"freed", &TestRules::freed_waits, "rule 5: a freed segment waits for nothing"},
    {"sequences", &TestRules::sequences_reserved, "rule 6: sequences begin again behind what recovery saw"},
    {"membership", &TestRules::membership, "rule 7: a drive that comes back keeps what it had"},
    {"flush", &TestRules::flushes_everywhere, "rule 8: a flush is a record in one log only"},
    {"durable", &TestRules::durable, "rule 10: writes to a volatile cache count as durable"},
    {"order", &TestRules::clients_in_order, "case A1: a given-up change is applied after a newer acknowledged one"},
    {"rollback", &TestRules::losses_noticed, "case A2: what cannot be read is taken for the end of the log"},
    {"index", &TestRules::dropped_for_good, "case A3: what the index has no room for comes back"},
    {"reply", &TestRules::answered_late, "a change is answered while its write is under way"},
    {"quiet", &TestRules::quiet_memory, "a reply is still received into the memory of a completed get"},
    {"credit", &TestRules::credit_returned, "credit is lost with each frame"},
    {"twice", &TestRules::slot_freed_once, "a slot is freed twice"},
    {"held", &TestRules::tier_held, "memory of the RAM tier is used again while it is being sent"},
    {"timer", &TestRules::slot_by_completion, "a timer frees the slot of a late op"},
    {"owner", &TestRules::reads_ask_owner, "what belongs to the last server of a list is read from the first",
     Bug::Of::kList},
    {"beside", &TestRules::refused_alone, "a server that is gone has an op of another one refused beside its own",
     Bug::Of::kList},
    {"shm-order", &TestRules::shm_in_order, "over shm a given-up change is applied after a newer acknowledged one",
     Bug::Of::kShm},
    {"windows", &TestRules::windows_counted, "memory that a client keeps when it leaves does not count any more",
     Bug::Of::kShm},
    {"placed", &TestRules::slot_until_placed, "a slot is used again while a NIC sends it", Bug::Of::kRdma},
    {"probe", &TestRules::rdma_probed_again,
     "when all of RDMA is lost, a server whose tcp is open is never probed again", Bug::Of::kRdma},
};

}  // namespace

bool plant(std::string_view name, Run::Options& options) {
  for (const Bug& bug : kBugs) {
    if (bug.name != name) continue;
    base::test_rules().*bug.rule = false;
    options = options_for(bug);
    return true;
  }
  return false;
}

std::string bug_names() {
  std::string names;
  for (const Bug& bug : kBugs) names += (names.empty() ? "" : " ") + std::string(bug.name);
  return names;
}

/// A seed that fails without the bug as well proves nothing.
static bool passes_without_bug(uint64_t seed, const Run::Options& options) {
  const TestRules planted = std::exchange(base::test_rules(), TestRules{});
  const bool passes = run_forked(seed, options).result.violation.empty();
  base::test_rules() = planted;
  return passes;
}

bool find_bugs(uint64_t from, uint32_t jobs, const std::string& junit_path, std::string_view only) {
  Junit junit("sim-bugs", junit_path);
  size_t found = 0, planted = 0;
  for (const Bug& bug : kBugs) {
    if (!only.empty() && only != bug.name) continue;
    planted++;
    base::test_rules() = {};
    base::test_rules().*bug.rule = false;
    const Run::Options options = options_for(bug);
    uint64_t next_seed = from, seeds = 0;
    SeedReport first;
    run_many(
        jobs, options,
        [&](uint64_t& seed) {
          while (bug.of == Bug::Of::kShm && !make_plan(next_seed, options.may_have()).setup.has_shm()) next_seed++;
          if (!first.result.violation.empty() || next_seed >= from + kSeedsMax) return false;
          seed = next_seed++;
          return true;
        },
        [&](const SeedReport& report) {
          seeds++;
          const bool found_it = !report.result.violation.empty() && first.result.violation.empty();
          if (found_it && passes_without_bug(report.seed, options)) first = report;
        });
    const bool good = !first.result.violation.empty();
    found += good ? 1 : 0;
    junit.add(bug.name, good ? "" : "not found");
    fmt::print("{:<12} {}: {}\n", bug.name, bug.what,
               good ? fmt::format("found by seed {} after {} seeds: {}", first.seed, seeds, first.result.violation)
                    : fmt::format("NOT found in {} seeds", seeds));
    std::fflush(stdout);
  }
  base::test_rules() = {};
  fmt::print("{} of {} found\n", found, planted);
  return junit.write() && found == planted;
}

}  // namespace memkv::sim
