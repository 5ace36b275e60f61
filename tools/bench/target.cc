#include "tools/bench/target.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>

#include "base/bytes.h"
#include "base/random.h"
#include "base/units.h"
#include "client/settings.h"
#include "tools/output.h"

namespace memkv::bench {
namespace {

constexpr uint64_t kOwnBytesMin = 1ull << 30;

bool servers_named(const TargetOptions& options) {
  const char* environment = getenv("MEMKV_SERVERS");
  return !options.servers.empty() || (environment != nullptr && *environment != 0) || !options.config.empty() ||
         getenv("MEMKV_CONFIG") != nullptr;
}

Result<void, Message> start_own(Target& target, const TargetOptions& options, uint64_t bytes) {
  if (options.own != "file" && options.own != "memory")
    return Message{Status::kInvalid, fmt::format("--own {}: file or memory", options.own)};
  auto dir = WorkDir::make(options.dir);
  if (!dir) return dir.error();
  target.dir = std::move(*dir);
  const bool memory = options.own == "memory";
  const uint64_t size = std::max(kOwnBytesMin, bytes);
  (void)base::write_stderr(
      fmt::format("No --servers and no MEMKV_SERVERS: starting a server of {} in {} for this run.\n",
                  base::format_bytes(size), memory ? "memory" : target.dir->path()));
  auto own = start_own_server({.memory = memory,
                               .size_bytes = size,
                               .workers = options.own_workers,
                               .congestion = options.congestion,
                               .drive = {}},
                              target.dir->path());
  if (!own) return own.error();
  target.client.servers = {own->address};
  target.client.namespace_key = own->auth_key;
  target.own = std::move(*own);
  return {};
}

Json short_status(const Json& status) {
  Json out;
  for (const char* name : {"name", "address", "version", "io", "congestion_control", "storage_mode", "workers",
                           "shards", "usable_bytes_total", "drives"}) {
    if (status.contains(name)) out[name] = status[name];
  }
  return out;
}

}  // namespace

int complain(const Message& message) {
  tools::say("memkv-bench: {}\n", message.text);
  if (message.status == Status::kInvalid) return 2;
  return message.status == Status::kIo || message.status == Status::kNoSpace ? 5 : 3;
}

Result<std::vector<uint64_t>, Message> sizes_of(const std::vector<std::string>& texts) {
  std::vector<uint64_t> sizes;
  for (const std::string& text : texts) {
    auto size = base::parse_size(text, base::BareNumber::kAllow);
    if (!size) return Message{Status::kInvalid, "--sizes: " + size.error().text};
    if (*size == 0 || *size > (1u << 30))
      return Message{Status::kInvalid, fmt::format("--sizes {}: 1 B to 1 GiB", text)};
    sizes.push_back(*size);
  }
  for (uint64_t size = 4096; texts.empty() && size <= (16u << 20); size *= 2) sizes.push_back(size);
  return sizes;
}

Result<LoadPlan, Message> plan_of(const LoadOptions& options) {
  LoadPlan plan;
  auto bytes = base::parse_size(options.bytes), window = base::parse_size(options.window);
  if (!bytes) return Message{Status::kInvalid, "--bytes: " + bytes.error().text};
  if (!window) return Message{Status::kInvalid, "--window: " + window.error().text};
  auto seconds = base::parse_duration_ns(options.seconds);
  if (!seconds) return Message{Status::kInvalid, "--seconds: " + seconds.error().text};
  if (!options.deadline.empty()) {
    auto deadline = base::parse_duration_ns(options.deadline);
    if (!deadline) return Message{Status::kInvalid, "--deadline: " + deadline.error().text};
    plan.deadline = Deadline(*deadline);
  }
  plan.bytes = *bytes;
  plan.window_bytes = *window;
  plan.seconds_max = static_cast<double>(*seconds) / 1e9;
  plan.threads = options.threads;
  plan.batch = options.batch;
  plan.depth = options.depth;
  if (plan.threads < 1 || plan.threads > 1024) return Message{Status::kInvalid, "--threads: 1 to 1024"};
  if (plan.batch < 1 || plan.depth < 1 || plan.batch > 4096 || plan.depth > 4096)
    return Message{Status::kInvalid, "--batch and --depth: 1 to 4096"};
  if (options.mix < 0 || options.mix >= 1)
    return Message{Status::kInvalid, "--mix: the share of reads, from 0 to below 1"};
  if (options.verify == "full")
    plan.verify = Verify::kFull;
  else if (options.verify == "sampled")
    plan.verify = Verify::kSampled;
  else if (options.verify == "off")
    plan.verify = Verify::kOff;
  else
    return Message{Status::kInvalid, fmt::format("--verify {}: full, sampled or off", options.verify)};
  if (options.order == "uniform")
    plan.order = Order::kUniform;
  else if (options.order == "zipf")
    plan.order = Order::kZipf;
  else if (options.order == "sequential")
    plan.order = Order::kSequential;
  else
    return Message{Status::kInvalid, fmt::format("--order {}: uniform, zipf or sequential", options.order)};
  return plan;
}

Result<Target, Message> open_target(const TargetOptions& options, uint64_t own_bytes) {
  Target target;
  target.client.servers = options.servers;
  target.client.namespace_key = options.auth_key;
  target.client.config_file = options.config;
  target.client.congestion = options.congestion.empty() ? "system" : options.congestion;
  if (!options.transport.empty()) {
    auto transport = client::parse_transport(options.transport, "--transport");
    if (!transport) return transport.error();
    target.client.transport = *transport;
  }
  if (options.put_checksum == "server")
    target.client.put_checksum = PutChecksum::kServer;
  else if (options.put_checksum != "client")
    return Message{Status::kInvalid, fmt::format("--put-checksum {}: client or server", options.put_checksum)};
  if (!servers_named(options)) {
    if (auto own = start_own(target, options, own_bytes); !own) return own.error();
  }
  auto client = Client::connect(target.client);
  if (!client) return client.error();
  for (size_t i = 0; i < client->server_count(); i++) {
    target.names.push_back(client->server_name(i));
    auto status = client->server_status(i, std::chrono::seconds(10));
    if (!status) {
      return Message{Status::kUnavailable, fmt::format("server {} does not answer: {}\n{}", client->server_name(i),
                                                       to_string(status.error().status), client->describe())};
    }
    target.statuses.push_back(short_status(Json::parse(*status, nullptr, false)));
  }
  return target;
}

uint64_t random_tag() {
  uint64_t tag = 0;
  base::os_random(base::mut_bytes_of(&tag, sizeof tag));
  return tag;
}

void remove_all(const ClientOptions& options, const KeySpace& keys) {
  auto client = Client::connect(options);
  if (!client) return;
  Batch batch;
  for (uint64_t number = 0; number < keys.generations.size(); number++) {
    batch.remove(keys.key(number));
    if (batch.size() < 1024 && number + 1 < keys.generations.size()) continue;
    client->run(batch, std::chrono::seconds(30));
    batch.clear();
  }
}

}  // namespace memkv::bench
