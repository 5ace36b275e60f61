#include "tests/crash/fleet.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>

#include "memkv/client.h"
#include "tests/support/pattern.h"

namespace memkv::test {
namespace {

constexpr size_t kBlocksPerCheck = 8;
constexpr auto kCheckDeadline = std::chrono::seconds(60);  ///< long enough for a busy machine or an emulated one

/// Runs gets at a server that was reached all the time. (If the client takes a server for away, every block is a miss.)
/// Nothing: it was not reached in time.
std::vector<Outcome> run_reached(Client& reader, Batch& batch) {
  const auto end = std::chrono::steady_clock::now() + kCheckDeadline;
  while (std::chrono::steady_clock::now() < end) {
    const bool reached = reader.server_status(0, kCheckDeadline).ok();
    const uint64_t before = reader.counters().breaker_opened;
    std::vector<Outcome> outcomes = reader.run(batch);
    if (reached && reader.counters().breaker_opened == before) return outcomes;
    usleep(10'000);
  }
  return {};
}

std::string journal_of(const std::string& journals, int client) { return journals + std::to_string(client); }

}  // namespace

bool Totals::good() const {
  uint64_t bad = broken + changes.wrong_reads;
  for (size_t i = 1; i < std::size(findings); ++i) bad += findings[i];
  return bad == 0;
}

std::string Totals::figures() const {
  const auto text = [](uint64_t count, const char* what) { return std::to_string(count) + " " + what; };
  return text(changes.acknowledged, "changes acknowledged, ") + text(changes.given_up, "given up, ") +
         text(hits, "blocks and ") + text(misses, "misses checked, ") + text(of(Finding::kLost), "lost, ") +
         text(of(Finding::kOld), "older, ") + text(of(Finding::kRevived), "revived, ") +
         text(of(Finding::kWrong), "wrong, ") + text(changes.wrong_reads, "misread, ") + text(broken, "broken");
}

Fleet::Fleet(const Rules& rules, Totals& totals) : rules_(rules), totals_(totals) {
  for (int client = 0; client < kClientCount; ++client) {
    blocks_.emplace_back();
    for (uint32_t key = 0; key < kBlocksPerClient; ++key) {
      blocks_.back().emplace_back(block_name(tenant_of(client), id_of(client), key));
    }
  }
}

ClientPlan Fleet::plan_of(int client, const Access& access, const FleetPlan& fleet) const {
  constexpr const char* kTransports[] = {"tcp", "shm", "auto"};
  const uint64_t random = mix(fleet.seed + static_cast<uint64_t>(client));
  ClientPlan plan;
  plan.address = access.address;
  plan.tenant = tenant_of(client);
  plan.credential = access.credentials[plan.tenant];
  plan.transport = kTransports[random % 3];
  plan.shm_dir = access.shm_dir;
  plan.journal = fleet.journals.empty() ? "" : journal_of(fleet.journals, client);
  plan.id = id_of(client);
  plan.session = random / 3 % 2 == 0;
  plan.verifies = !rules_.may_miss;
  plan.ordered = rules_.ordered;
  plan.seed = random;
  plan.version = static_cast<uint64_t>(fleet.run + 1) << 32;
  plan.budget = static_cast<int64_t>(fleet.budget / kClientCount);
  return plan;
}

void Fleet::start(const Access& access, const FleetPlan& plan) {
  for (int client = 0; client < kClientCount; ++client) {
    clients_.push_back(std::make_unique<ClientProcess>(plan_of(client, access, plan), rules_,
                                                       blocks_[static_cast<size_t>(client)], totals_.changes,
                                                       access.shm_dir + "/clients.log"));
  }
}

void Fleet::kill_first() {
  if (!clients_.empty()) clients_.front()->kill_now();
}

void Fleet::finish() {
  for (auto& client : clients_) client->ask_to_end();
  for (auto& client : clients_) client->finish();
  clients_.clear();
}

void Fleet::at_rest() {
  for (auto& blocks : blocks_) {
    for (BlockModel& block : blocks) block.at_rest();
  }
}

void Fleet::check(const Access& access) {
  for (int tenant = 0; tenant < kTenants; ++tenant) {
    ClientOptions options;
    options.servers = {access.address};
    options.namespace_key = access.credentials[tenant];
    options.get_timeout = kCheckDeadline;
    Client reader = Client::connect(options).value();
    for (int client = tenant; client < kClientCount && totals_.broken == 0; client += kTenants) {
      check_client(reader, client);
    }
  }
}

void Fleet::check_client(Client& reader, int client) {
  std::vector<std::vector<unsigned char>> buffers(kBlocksPerCheck, std::vector<unsigned char>(kBlockBytesMax * 2));
  for (uint32_t first = 0; first < kBlocksPerClient; first += kBlocksPerCheck) {
    Batch batch;
    for (uint32_t i = 0; i < kBlocksPerCheck; ++i) batch.get(key_text(id_of(client), first + i), buffers[i]);
    const std::vector<Outcome> outcomes = run_reached(reader, batch);
    if (outcomes.empty()) {
      std::printf("the server could not be reached to check its blocks\n");
      ++totals_.broken;
      return;
    }
    for (uint32_t i = 0; i < kBlocksPerCheck; ++i) {
      check_block(blocks_[static_cast<size_t>(client)][first + i], outcomes[i], buffers[i].data());
    }
  }
}

void Fleet::check_block(BlockModel& block, const Outcome& got, const unsigned char* data) {
  if (got.status != Status::kOk && got.status != Status::kMiss) {
    std::printf("%s: %s instead of a hit or a miss\n", block.name().c_str(),
                std::string(to_string(got.status)).c_str());
    ++totals_.broken;
    return;
  }
  const bool hit = got.status == Status::kOk;
  ++(hit ? totals_.hits : totals_.misses);
  const Finding finding = block.check({hit, data, got.bytes}, rules_);
  ++totals_.findings[static_cast<size_t>(finding)];
  if (finding == Finding::kAllowed) return;
  std::printf("%s: %s (%lu bytes); its last changes:\n%s", block.name().c_str(), name_of(finding),
              static_cast<unsigned long>(got.bytes), block.history().c_str());
}

void Fleet::load_journals(const std::string& journals) {
  for (int client = 0; client < kClientCount; ++client) {
    std::ifstream in(journal_of(journals, client), std::ios::binary);
    Report report;
    while (in.read(reinterpret_cast<char*>(&report), sizeof report)) {
      BlockModel& block = blocks_[static_cast<size_t>(client)][report.change.key];
      if (report.kind == Report::Kind::kBegun) block.begun(report.change);
      if (report.kind == Report::Kind::kEnded) block.ended(report.status, rules_);
    }
  }
  at_rest();
}

}  // namespace memkv::test
