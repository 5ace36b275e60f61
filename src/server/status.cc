#include "server/status.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "transport/rdma/devices.h"

namespace memkv::server {
namespace {

using Json = nlohmann::ordered_json;
using Counter = std::atomic<uint64_t>;
constexpr std::array kTransports = {Transport::kTcp, Transport::kShm, Transport::kRdma};

engine::StoreCounters store_sum(const StatusSources& census) {
  engine::StoreCounters sum{};
  auto* words = reinterpret_cast<uint64_t*>(&sum);
  uint64_t recovery_ns = 0;
  for (const shard::Worker* worker : census.workers) {
    const engine::StoreCounters one = worker->stats().store_counters();
    const auto* add = reinterpret_cast<const uint64_t*>(&one);
    for (size_t i = 0; i < shard::WorkerStats::kStoreWords; i++) words[i] += add[i];
    recovery_ns = std::max(recovery_ns, one.recovery_ns);
  }
  sum.recovery_ns = recovery_ns;
  return sum;
}

uint64_t sum(const StatusSources& census, Counter shard::WorkerStats::*field) {
  uint64_t total = 0;
  for (const shard::Worker* worker : census.workers) total += (worker->stats().*field).load(std::memory_order_relaxed);
  return total;
}

using ByTransport = std::array<Counter, kTransportCount>;
uint64_t sum(const StatusSources& census, ByTransport shard::WorkerStats::*field, Transport transport) {
  uint64_t total = 0;
  for (const shard::Worker* worker : census.workers)
    total += (worker->stats().*field)[static_cast<size_t>(transport)].load(std::memory_order_relaxed);
  return total;
}

const char* word_of(DriveState state) {
  switch (state) {
    case DriveState::kIn:
      return "in";
    case DriveState::kMissing:
      return "missing";
    case DriveState::kOut:
      return "out";
  }
  return "?";
}

Json drives(const StatusSources& census, bool& degraded) {
  Json list = Json::array();
  for (size_t i = 0; i < census.drives.size(); i++) {
    const DriveState state = census.drive_states[i].load(std::memory_order_relaxed);
    degraded = degraded || state != DriveState::kIn;
    list.push_back({{"path", census.drives[i].path}, {"state", word_of(state)}, {"bytes", census.drives[i].bytes}});
    if (const char* why = census.drive_reasons[i].load(std::memory_order_relaxed)) list.back()["why"] = why;
  }
  return list;
}

/// What the drives that are in keep of blocks of the stated size.
uint64_t usable_bytes(const StatusSources& census) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < census.drives.size(); i++) {
    const bool in = census.drive_states[i].load(std::memory_order_relaxed) == DriveState::kIn;
    bytes += in ? census.drives[i].fitting_bytes : 0;
  }
  return bytes;
}

Json counters(const engine::StoreCounters& c) {
  return {{"puts", c.puts},
          {"gets", c.gets},
          {"hits", c.hits},
          {"misses", c.misses},
          {"removes", c.removes},
          {"user_bytes_written", c.user_bytes_written},
          {"device_bytes_written", c.device_bytes_written},
          {"bytes_moved", c.bytes_moved},
          {"dropped_evicted", c.dropped_evicted},
          {"dropped_corrupt", c.dropped_corrupt},
          {"dropped_drive_out", c.dropped_drive_out},
          {"dropped_index_full", c.dropped_index_full},
          {"segments_reclaimed", c.segments_reclaimed},
          {"recovered_records", c.recovered_records},
          {"recovered_torn", c.recovered_torn},
          {"recovered_rot", c.recovered_rot},
          {"recovered_lost", c.recovered_lost},
          {"logs_refusing", c.logs_refusing},
          {"recovery_ms", c.recovery_ns / base::kNsPerMs}};
}

/// How the gets of records on drives went that the RAM tier was asked for.
Json tier(const engine::StoreCounters& c) {
  const uint64_t gets = c.tier_hits + c.tier_shared + c.tier_misses;
  const double served = static_cast<double>(c.tier_hits + c.tier_shared);
  return {{"bytes", c.tier_bytes},
          {"bytes_max", c.tier_bytes_max},
          {"hits", c.tier_hits},
          {"shared_reads", c.tier_shared},
          {"misses", c.tier_misses},
          {"hit_rate", gets == 0 ? 0.0 : served / static_cast<double>(gets)},
          {"evictions", c.tier_evictions},
          {"prefetches", c.tier_prefetches},
          {"prefetches_used", c.tier_prefetches_used},
          {"prefetches_wasted", c.tier_prefetches_wasted}};
}

/// Payload bytes over tcp that were lent to sockets, and those that could have been and were copied, by reason.
Json one_copy(const StatusSources& census) {
  using Stats = transport::OneCopyStats;
  const auto total = [&](std::atomic<uint64_t> Stats::*figure) {
    uint64_t bytes = 0;
    for (const shard::Worker* worker : census.workers) bytes += (worker->stats().one_copy.*figure).load();
    return bytes;
  };
  return {{"lent_bytes", total(&Stats::lent_bytes)},
          {"copied_small_bytes", total(&Stats::small_bytes)},
          {"copied_above_limit_bytes", total(&Stats::limit_bytes)},
          {"copied_without_pipe_bytes", total(&Stats::no_pipe_bytes)}};
}

/// The part of the status that counts served ops: sums over all workers, and what the door refused.
Json service(const StatusSources& census) {
  using Stats = shard::WorkerStats;
  uint64_t bytes_in = 0, bytes_out = 0;
  Json by_transport;
  for (const Transport transport : kTransports) {
    const uint64_t in = sum(census, &Stats::payload_bytes_in, transport);
    const uint64_t out = sum(census, &Stats::payload_bytes_out, transport);
    bytes_in += in, bytes_out += out;
    by_transport[std::string(to_string(transport))] = {{"in", in}, {"out", out}};
  }
  return {{"ops", sum(census, &Stats::ops)},
          {"ops_in_use", sum(census, &Stats::ops_in_use)},
          {"payload_bytes_in", bytes_in},
          {"payload_bytes_out", bytes_out},
          {"payload_bytes_by_transport", by_transport},
          {"one_copy", one_copy(census)},
          {"busy", sum(census, &Stats::busy)},
          {"wrong_worker", sum(census, &Stats::wrong_worker)},
          {"fenced", sum(census, &Stats::fenced)},
          {"prefetches_refused", sum(census, &Stats::prefetches_refused)},
          {"deadlines_missed", sum(census, &Stats::deadlines_missed)},
          {"checksum_mismatches", sum(census, &Stats::checksum_mismatches)},
          {"connections_cut", sum(census, &Stats::connections_cut)},
          {"turned_away", sum(census, &Stats::turned_away)},
          {"handshakes_refused", census.door != nullptr ? census.door->refused() : 0},
          {"credentials_refused", census.door != nullptr ? census.door->credentials_refused() : 0},
          {"log_lines_lost", base::log_lines_lost()}};
}

/// One entry for each rail: how much went over it, and what went wrong.
Json rails(transport::rdma::Devices* host) {
  Json list = Json::array();
  for (size_t i = 0; host != nullptr && i < host->rail_count(); i++) {
    transport::rdma::Rail& rail = host->rail(i);
    const auto& c = rail.counters;
    const auto device = rail.device.load();
    list.push_back({{"device", rail.name},
                    {"working", device != nullptr},
                    {"emulated", device != nullptr && device->emulated()},
                    {"links", c.links.load()},
                    {"links_total", c.links_total.load()},
                    {"bytes_in", c.bytes_in.load()},
                    {"bytes_out", c.bytes_out.load()},
                    {"failures", c.failures.load()},
                    {"retry_errors", c.retry_errors.load()},
                    {"rnr_errors", c.rnr_errors.load()},
                    {"access_errors", c.access_errors.load()}});
  }
  return list;
}

struct ClientRow {
  std::string_view name;
  uint32_t connections = 0;
  std::array<uint32_t, kTransportCount> by_transport{};
};

/// A row for each name that client processes gave themselves, the name with most connections first.
std::vector<ClientRow> client_rows(std::vector<shard::ClientBoard::Entry>& entries) {
  const auto key = [](const shard::ClientBoard::Entry& entry) { return std::pair(entry.name.view(), entry.client); };
  std::sort(entries.begin(), entries.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  std::vector<ClientRow> rows;
  for (size_t i = 0; i < entries.size(); i++) {
    if (i == 0 || key(entries[i]) != key(entries[i - 1])) rows.push_back({.name = entries[i].name.view()});
    rows.back().connections++;
    rows.back().by_transport[static_cast<size_t>(entries[i].transport)]++;
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.connections > b.connections; });
  return rows;
}

/// Lists the clients of this namespace. A long list is cut, since a status has to fit into a frame.
void add_clients(const StatusSources& census, uint64_t namespace_id, Json& json) {
  constexpr size_t kRowsMax = 100;
  std::vector<shard::ClientBoard::Entry> entries;
  for (const shard::Worker* worker : census.workers) worker->client_board().collect(namespace_id, entries);
  const std::vector<ClientRow> rows = client_rows(entries);
  json["clients_total"] = rows.size();
  json["clients"] = Json::array();
  for (const ClientRow& row : std::span(rows).first(std::min(rows.size(), kRowsMax))) {
    Json client{{"name", row.name}, {"connections", row.connections}};
    for (const Transport transport : kTransports) {
      if (const uint32_t count = row.by_transport[static_cast<size_t>(transport)]; count > 0)
        client[std::string(to_string(transport))] = count;
    }
    json["clients"].push_back(std::move(client));
  }
}

Json transports(const StatusSources& census) {
  Json list{"tcp"};
  if (!census.shm_socket.empty()) list.push_back("shm");
  if (census.rdma != nullptr) list.push_back("rdma");
  return list;
}

}  // namespace

/// The whole status as JSON text, for STATUS frames and `memkv status`. It reads only counters that any thread may
/// read. Thread: worker.
std::string status_json(const StatusSources& census, uint64_t namespace_id) {
  const engine::StoreCounters c = store_sum(census);
  base::SystemClock clock;
  uint32_t connections = 0;
  std::array<uint32_t, kTransportCount> by_transport{};
  bool ready = true;
  for (const shard::Worker* worker : census.workers) {
    connections += worker->stats().connections.load(std::memory_order_relaxed);
    for (size_t i = 0; i < by_transport.size(); i++)
      by_transport[i] += worker->stats().connections_by_transport[i].load(std::memory_order_relaxed);
    ready = ready && worker->state() == shard::Worker::State::kReady;
  }
  bool degraded = false;
  const Json drive_list = drives(census, degraded);
  degraded = degraded || c.recovered_lost > 0 || c.logs_refusing > 0;
  Json json;
  json["name"] = census.name;
  json["version"] = MEMKV_SERVER_VERSION;
  json["address"] = census.address;
  json["uptime_s"] = (clock.now_ns() - census.started_ns) / base::kNsPerSecond;
  json["ready"] = ready;
  json["degraded"] = degraded;
  json["missing"] = census.missing;
  json["transports"] = transports(census);
  json["rails"] = rails(census.rdma);
  json["io"] = census.io;
  json["congestion_control"] = census.congestion;
  json["hash_isa"] = base::hash_isa();
  json["storage_mode"] = census.mode;
  json["workers"] = census.workers.size();
  json["shards"] = census.shard_count;
  json["connections"] = connections;
  for (const Transport transport : kTransports)
    json["connections_by_transport"][std::string(to_string(transport))] = by_transport[static_cast<size_t>(transport)];
  add_clients(census, namespace_id, json);
  if (!census.shm_socket.empty()) {
    json["shm"] = {{"socket", census.shm_socket},
                   {"window_bytes", census.shm_budget->in_use()},
                   {"window_bytes_kept", census.shm_budget->kept()},
                   {"window_bytes_max", census.shm_budget->bytes_max()}};
  }
  json["half_open"] = census.door != nullptr ? census.door->half_open() : 0;
  json["drives"] = drive_list;
  json["raw_bytes_total"] = census.room.raw_bytes;
  json["usable_bytes_total"] = usable_bytes(census);
  json["usable_block_bytes"] = census.room.block_bytes;
  json["used_bytes_total"] = c.bytes_used;
  json["blocks"] = c.blocks;
  json["index_entries"] = c.index_entries;
  json["index_entries_max"] = c.index_entries_max;
  const double user = static_cast<double>(c.user_bytes_written);
  json["write_amplification"] = c.user_bytes_written == 0 ? 0.0 : static_cast<double>(c.device_bytes_written) / user;
  json["memory"] = {{"planned_bytes", census.planned_bytes},
                    {"slot_pool_bytes", census.slot_pool_bytes},
                    {"slots_total", sum(census, &shard::WorkerStats::slots_total)},
                    {"slots_in_use", sum(census, &shard::WorkerStats::slots_in_use)}};
  json["tier"] = tier(c);
  json["counters"] = counters(c);
  json["service"] = service(census);
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace memkv::server
