#include "server/budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/assert.h"
#include "base/units.h"

namespace memkv::server {
namespace {

constexpr uint64_t kProgramBytes = 32 * base::kMiB;  // code, libraries, stacks, heap
constexpr uint64_t kSlotBytesPerWorker = 256 * base::kMiB;
constexpr uint64_t kSlotBytesPerNamespace = 8 * base::kMiB;  // of a worker: two slots of each size are 6.7 MiB
constexpr uint64_t kSlotBytesPerWorkerMemory = 64 * base::kMiB;
constexpr uint64_t kSlotBytesMin = 16 * base::kMiB;
constexpr uint64_t kShmBytes = 512 * base::kMiB;
constexpr uint32_t kConnectionsMax = 1024, kConnectionsMin = 128;  // of a worker
constexpr uint32_t kThreadsBeside = 4;                             // the door, and what the kernel and RDMA start
constexpr uint32_t kDeviceThreads = 4;                             // of a worker on epoll

/// A part of the memory, and the configuration key that makes it smaller. Empty: no key does.
struct Part {
  uint64_t bytes;
  std::string what, key;
};

uint64_t sum(const std::vector<Part>& parts) {
  uint64_t bytes = 0;
  for (const Part& part : parts) bytes += part.bytes;
  return bytes;
}

/// "needs 1 GiB for blocks + ... = 1.5 GiB, and FILE allows 1 GiB: lower KEY or KEY, or raise the limit".
Message too_much(const std::vector<Part>& parts, const io::Limit& limit) {
  std::string terms, keys;
  for (const Part& part : parts) {
    if (part.bytes == 0) continue;
    terms += fmt::format("{}{} for {}", terms.empty() ? "" : " + ", base::format_bytes(part.bytes), part.what);
    if (!part.key.empty()) keys += (keys.empty() ? "" : " or ") + part.key;
  }
  return {Status::kNoSpace,
          fmt::format("memory: the server needs {} = {}, and {} allows {}: lower {}, or raise the limit", terms,
                      base::format_bytes(sum(parts)), limit.source, base::format_bytes(limit.value), keys)};
}

/// Memory for the slots of all workers: what the configuration says, or what the limit leaves beside the rest.
uint64_t choose_slot_bytes(const Options& options, const Needs& needs, uint64_t limit, uint64_t left) {
  const uint64_t least = kSlotBytesMin * needs.workers;
  if (needs.memory_mode) {
    const uint64_t wanted = std::min(kSlotBytesPerWorkerMemory * needs.workers, needs.store_bytes / 4);
    return std::max(least, std::min({wanted, limit / 4, left / 2}));
  }
  const uint64_t usual = std::max(kSlotBytesPerWorker, kSlotBytesPerNamespace * needs.namespaces) * needs.workers;
  if (options.memory_bytes_max == 0)
    return std::max(least, std::min({kSlotBytesPerWorker * needs.workers, limit / 4, left / 2}));
  if (options.tier_bytes) {
    return std::max(least, options.memory_bytes_max - std::min(options.memory_bytes_max, *options.tier_bytes));
  }
  const uint64_t over = options.memory_bytes_max - std::min(options.memory_bytes_max, usual);
  return std::max(least, over > 0 && over >= needs.tier_bytes_min ? usual : options.memory_bytes_max);
}

/// Memory for hot chunks: what the configuration says, or what the slots leave of memory.max_size.
uint64_t choose_tier_bytes(const Options& options, const Needs& needs, uint64_t slot_bytes) {
  if (needs.memory_mode) return 0;
  const uint64_t rest = options.memory_bytes_max - std::min(options.memory_bytes_max, slot_bytes);
  const uint64_t bytes = options.tier_bytes.value_or(rest);
  return bytes < needs.tier_bytes_min ? 0 : bytes;
}

uint64_t choose_shm_bytes(const Options& options, const Needs& needs, uint64_t limit, uint64_t left) {
  if (!options.shm.enabled) return 0;
  if (options.shm.window_bytes_max != 0) return options.shm.window_bytes_max;
  const uint64_t bytes = std::min({kShmBytes, limit / 4, left});
  return bytes < needs.window_bytes ? 0 : bytes;
}

}  // namespace

Result<uint32_t, Message> choose_workers(const Options& options, const io::Limits& limits, bool epoll) {
  const uint64_t by_cpu = std::max<uint64_t>(1, limits.cpu_milli() / 2000);
  const auto wanted = options.workers != 0 ? options.workers : static_cast<uint32_t>(std::min<uint64_t>(by_cpu, 32));
  if (!limits.threads.is_set()) return wanted;
  const uint32_t each = epoll ? 1 + kDeviceThreads : 1;
  const uint64_t left = limits.threads.value;
  const uint64_t fit = left > kThreadsBeside ? (left - kThreadsBeside) / each : 0;
  const uint64_t least = options.workers != 0 ? wanted : 1;
  if (fit >= least) return static_cast<uint32_t>(std::min<uint64_t>(wanted, fit));
  return Message{
      Status::kNoSpace,
      fmt::format("threads: the server needs {} for {} worker{}{} + {} beside = {}, and {} has room for {}: {}",
                  least * each, least, least == 1 ? "" : "s",
                  epoll ? fmt::format(" with {} drive threads each (io: epoll)", kDeviceThreads) : "", kThreadsBeside,
                  least * each + kThreadsBeside, limits.threads.source, left,
                  least > 1 ? "lower workers, or raise the limit" : "raise the limit")};
}

uint64_t default_store_bytes(const io::Limits& limits) { return limits.memory_bytes.value / 4; }

Result<Budget, Message> plan_budget(const Options& options, const Needs& needs, const io::Limits& limits) {
  MEMKV_ASSERT(needs.workers > 0 && limits.memory_bytes.is_set(), "the machine's own memory is a limit, too");
  const uint64_t limit = limits.memory_bytes.value;
  std::vector<Part> parts = {
      {needs.store_bytes, "blocks", "memory.max_size"},
      {needs.index_bytes, "the index", "the index (raise memory.index_block_size)"},
      {needs.shard_bytes, "the shards", ""},
      {needs.worker_bytes, fmt::format("{} worker{}", needs.workers, needs.workers == 1 ? "" : "s"),
       needs.workers > 1 ? "workers" : ""},
      {kProgramBytes, "the program", ""}};
  const auto left = [&] { return limit - std::min(limit, sum(parts)); };

  Budget budget;
  // A sixteenth of the limit goes to connections, within bounds. Clients beyond that are told that there is no room.
  const uint64_t each = needs.connection_bytes * needs.workers;
  budget.connections_max = static_cast<uint32_t>(
      std::clamp<uint64_t>(limit / 16 / std::max<uint64_t>(each, 1), kConnectionsMin, kConnectionsMax));
  parts.push_back({budget.connections_max * each, "connections", ""});
  budget.slot_bytes = choose_slot_bytes(options, needs, limit, left());
  const bool set_aside = limits.huge_bytes >= budget.slot_bytes;  // slots then come out of huge pages
  parts.push_back({set_aside ? 0 : budget.slot_bytes, "buffers", needs.memory_mode ? "" : "memory.max_size"});
  budget.tier_bytes = choose_tier_bytes(options, needs, budget.slot_bytes);
  parts.push_back({budget.tier_bytes, "hot chunks", options.tier_bytes ? "memory.tier_size" : "memory.max_size"});
  budget.shm_bytes = choose_shm_bytes(options, needs, limit, left());
  parts.push_back({budget.shm_bytes, "shared memory", "shm.max_size"});
  budget.bytes = sum(parts);
  if (budget.bytes <= limit) return budget;
  return too_much(parts, limits.memory_bytes);
}

}  // namespace memkv::server
