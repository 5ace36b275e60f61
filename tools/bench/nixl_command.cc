/// memkv-bench nixl: drives the plugin as nixlbench does, through the agent of an installed NIXL wheel.

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>

#include "base/units.h"
#include "tools/bench/nixl_sweep.h"

namespace memkv::bench {
namespace {

constexpr uint64_t kBlockMax = 1ull << 30;
constexpr uint64_t kBuffersMax = 1ull << 40;

Result<void, Message> check(const NixlOptions& options) {
  const auto one_of = [](const std::string& text, std::initializer_list<const char*> words) {
    return std::find(words.begin(), words.end(), text) != words.end();
  };
  if (!one_of(options.op_type, {"READ", "WRITE", "both"}))
    return Message{Status::kInvalid, fmt::format("--op_type {}: READ, WRITE or both", options.op_type)};
  if (!one_of(options.keys, {"one", "distinct", "both"}))
    return Message{Status::kInvalid, fmt::format("--keys {}: one, distinct or both", options.keys)};
  if (options.start_batch_size < 1 || options.max_batch_size < options.start_batch_size ||
      options.max_batch_size > 4096)
    return Message{Status::kInvalid, "--start_batch_size and --max_batch_size: 1 to 4096, in this order"};
  if (options.initiator_seg_type != "DRAM")
    return Message{Status::kInvalid,
                   fmt::format("--initiator_seg_type {}: only DRAM is measured", options.initiator_seg_type)};
  if (options.num_threads < 1 || options.num_threads > 256) return Message{Status::kInvalid, "--num_threads: 1 to 256"};
  return {};
}

Result<uint64_t, Message> size_of(const char* option, const std::string& text, uint64_t most = kBlockMax) {
  auto size = base::parse_size(text, base::BareNumber::kAllow);
  if (!size) return Message{Status::kInvalid, std::string(option) + ": " + size.error().text};
  if (*size == 0 || *size > most)
    return Message{Status::kInvalid, fmt::format("{} {}: 1 B to {}", option, text, base::format_bytes(most))};
  return *size;
}

/// Checks the buffers as nixlbench does: what a request of each thread takes.
Result<void, Message> check_buffers(const NixlOptions& options, uint64_t block_bytes) {
  auto most = size_of("--total_buffer_size", options.total_buffer_size, kBuffersMax);
  if (!most) return most.error();
  const uint64_t needed = block_bytes * options.max_batch_size * options.num_threads;
  if (needed <= *most) return {};
  return Message{Status::kInvalid, fmt::format("--max_block_size x --max_batch_size x --num_threads are {}, "
                                               "--total_buffer_size is {}",
                                               base::format_bytes(needed), base::format_bytes(*most))};
}

/// The plugin's parameters. For everything else it uses the environment, as with any user.
NixlAgent::Params params_of(const Target& target) {
  NixlAgent::Params params;
  std::string servers;
  for (const std::string& server : target.client.servers) servers += (servers.empty() ? "" : ",") + server;
  params["servers"] = servers;
  params["auth_key"] = target.client.namespace_key;
  params["congestion"] = target.client.congestion;
  params["summary"] = "off";
  return params;
}

/// Makes a folder in which NIXL finds our plugin and no other.
Result<std::string, Message> plugin_folder(const NixlOptions& options, const std::string& dir) {
  namespace fs = std::filesystem;
  const std::string plugin = options.plugin.empty() ? find_plugin() : options.plugin;
  std::error_code error;
  if (plugin.empty() || !fs::exists(plugin, error))
    return Message{Status::kInvalid, "no libplugin_MEMKV.so beside this program: name it with --plugin"};
  const fs::path folder = fs::path(dir) / "plugins";
  fs::create_directory(folder, error);
  fs::create_symlink(fs::absolute(plugin), folder / "libplugin_MEMKV.so", error);
  if (error) return Message{Status::kIo, fmt::format("{}: {}", folder.string(), error.message())};
  return folder.string();
}

struct Asked {
  uint64_t first_block = 0, last_block = 0;
  NixlPlan plan;
};

/// Reads the sizes and times that were typed.
Result<Asked, Message> read(const NixlOptions& options) {
  auto first = size_of("--start_block_size", options.start_block_size);
  auto last = size_of("--max_block_size", options.max_block_size);
  auto bytes = size_of("--total_bytes", options.total_bytes);
  for (const auto* size : {&first, &last, &bytes}) {
    if (!*size) return size->error();
  }
  if (auto fits = check_buffers(options, *last); !fits) return fits.error();
  const std::string limit = !options.seconds.empty() ? options.seconds : options.num_iter > 0 ? "1h" : "1s";
  auto seconds = base::parse_duration_ns(limit);
  if (!seconds) return Message{Status::kInvalid, "--seconds: " + seconds.error().text};
  Asked asked{*first, *last, {}};
  asked.plan.recreate = options.recreate_xfer;
  asked.plan.threads = options.num_threads;
  asked.plan.iterations = options.num_iter;
  asked.plan.warmup = options.warmup_iter;
  asked.plan.bytes = *bytes;
  asked.plan.seconds_max = static_cast<double>(*seconds) / 1e9;
  return asked;
}

/// Measures with the servers that were named, or with one of our own.
int measure(const NixlOptions& options, Asked& asked, std::vector<Way> ways, const Peer& bare) {
  TargetOptions servers = options.target;
  servers.transport.clear();  // each transport is tried in its turn
  auto target = open_target(servers, 6 * asked.last_block * options.max_batch_size * options.num_threads);
  if (!target) return complain(target.error());
  if (auto found = find_devices(ways, target->client); !found) return complain(found.error());
  auto meter = CarriedMeter::connect(target->client);
  if (!meter) return complain(meter.error());
  asked.plan.params = params_of(*target);
  asked.plan.client = target->client;
  asked.plan.meter = meter->get();
  return NixlSweep(options, asked.plan, *target, std::move(ways), bare).run(asked.first_block, asked.last_block);
}

}  // namespace

int run_nixl_command(const NixlOptions& options) {
  if (auto checked = check(options); !checked) return complain(checked.error());
  auto asked = read(options);
  if (!asked) return complain(asked.error());
  auto ways = ways_of(options.target, {Transport::kAuto});
  if (!ways) return complain(ways.error());
  auto dir = WorkDir::make(options.target.dir);
  if (!dir) return complain(dir.error());
  auto folder = plugin_folder(options, (*dir)->path());
  if (!folder) return complain(folder.error());
  auto bare = start_bare({.congestion = options.target.congestion});  // it forks, so it comes before any thread
  if (!bare) return complain(bare.error());
  auto api = load_nixl(options.wheel, *folder);
  if (!api) return complain(api.error());
  asked->plan.api = *api;
  asked->plan.dir = (*dir)->path();
  return measure(options, *asked, std::move(*ways), *bare);
}

}  // namespace memkv::bench
