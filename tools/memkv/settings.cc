/// `memkv settings ENGINE`: prints the command line, or the file, that connects an engine to this store
/// (docs/engines.md).

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tools/memkv/session.h"

namespace memkv::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr Deadline kServerPatience = std::chrono::seconds(2);
constexpr uint64_t kFirstTierBytes = uint64_t{8} << 30;
constexpr uint64_t kFirstTierGib = kFirstTierBytes >> 30;

/// What an engine must be told of the store. For the server of `memkv start` on this host that is nothing.
struct Store {
  std::string servers;
  std::string auth_key;     ///< "@FILE", or empty
  std::string transport;    ///< empty: auto
  std::string config_file;  ///< absolute; empty: none
  std::string model;
};

/// Printed when the credential itself was given, and not a file.
constexpr const char* kNoFile = "@FILE";

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string first_of(const std::string& given, const char* variable) {
  return given.empty() ? environment(variable) : given;
}

std::string absolute(const std::string& path) {
  std::error_code error;
  const auto found = std::filesystem::absolute(path, error);
  return error || path.empty() ? path : found.lexically_normal().string();
}

/// How to name the credential. It never appears itself on a command line, which every user of a host can read.
std::string credential_reference(const std::string& given) {
  if (given.empty()) return "";
  return given[0] == '@' ? "@" + absolute(given.substr(1)) : kNoFile;
}

Store store_of(const SettingsOptions& options) {
  const Common& common = options.common;
  return {.servers =
              common.servers.empty() ? environment("MEMKV_SERVERS") : fmt::format("{}", fmt::join(common.servers, ",")),
          .auth_key = credential_reference(first_of(common.auth_key, "MEMKV_AUTH_KEY")),
          .transport = first_of(common.transport, "MEMKV_TRANSPORT"),
          .config_file = absolute(first_of(common.config, "MEMKV_CONFIG")),
          .model = options.model.empty() ? "MODEL" : options.model};
}

/// The text in one pair of shell quotes.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

std::string quoted(const Json& json) { return quoted(json.dump(-1, ' ', false, Json::error_handler_t::replace)); }

void add_store(Json& parameters, const Store& store) {
  if (!store.servers.empty()) parameters["servers"] = store.servers;
  if (!store.auth_key.empty()) parameters["auth_key"] = store.auth_key;
  if (!store.transport.empty()) parameters["transport"] = store.transport;
  if (!store.config_file.empty()) parameters["config_file"] = store.config_file;
}

void print_vllm(const Store& store) {
  Json tier = {{"type", "MemKVTier"}, {"module_path", "memkv.vllm"}};
  add_store(tier, store);
  const Json config = {{"kv_connector", "OffloadingConnector"},
                       {"kv_role", "kv_both"},
                       {"kv_connector_extra_config",
                        {{"spec_name", "TieringOffloadingSpec"},
                         {"cpu_bytes_to_use", kFirstTierBytes},
                         {"secondary_tiers", Json::array({tier})}}}};
  fmt::print(
      "# vLLM 0.32 and newer, with the wheel of MemKV in its environment (docs/engines/vllm.md).\n"
      "# cpu_bytes_to_use: host memory between the GPU and MemKV.\n"
      "vllm serve {} --prefix-caching-hash-algo sha256_cbor --kv-transfer-config {}\n",
      quoted(store.model), quoted(config));
}

void print_lmcache(const Store& store) {
  Json parameters = Json::object();
  add_store(parameters, store);
  const Json adapter = {{"type", "plugin"},
                        {"module_path", "memkv.lmcache"},
                        {"class_name", "MemKVL2Adapter"},
                        {"adapter_params", parameters}};
  const Json connector = {
      {"kv_connector", "LMCacheMPConnector"},
      {"kv_role", "kv_both"},
      {"kv_connector_extra_config", {{"lmcache.mp.host", "tcp://localhost"}, {"lmcache.mp.port", 5555}}}};
  fmt::print(
      "# LMCache 0.5.6, MP mode, with the wheel of MemKV in its environment (docs/engines/lmcache.md).\n"
      "lmcache server --port 5555 --l1-size-gb {} --eviction-policy LRU --l2-adapter {}\n"
      "# and vLLM on it:\n"
      "vllm serve {} --kv-transfer-config {}\n",
      kFirstTierGib, quoted(adapter), quoted(store.model), quoted(connector));
}

void print_sglang(const Store& store) {
  Json extra = {{"backend_name", "memkv"},
                {"module_path", "memkv.sglang"},
                {"class_name", "MemKVHiCacheStorage"},
                {"interface_v1", 1}};
  add_store(extra, store);
  fmt::print(
      "# SGLang 0.5.23, with the wheel of MemKV in its environment (docs/engines/sglang.md).\n"
      "python3 -m sglang.launch_server --model-path {} --page-size 64 --enable-metrics --enable-cache-report \\\n"
      "  --enable-hierarchical-cache --hicache-mem-layout page_first --hicache-storage-backend dynamic "
      "--hicache-storage-backend-extra-config {}\n",
      quoted(store.model), quoted(extra));
}

/// Where the plugin of this program lies: in the wheel, an installation, or a build.
std::string plugin_folder() {
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* folder : {"../plugins", "../lib/memkv/nixl", "../lib"}) {
    const auto candidate = (here / folder).lexically_normal();
    if (std::filesystem::exists(candidate / "libplugin_MEMKV.so", error)) return candidate.string();
  }
  return "FOLDER_OF_libplugin_MEMKV.so";
}

void print_export(const char* variable, const std::string& value) {
  if (!value.empty()) fmt::print("export {}={}\n", variable, quoted(value));
}

void print_nixl(const Store& store) {
  const std::string folder = plugin_folder();
  fmt::print(
      "# NIXL 1.0.1 to 1.5.1 (docs/nixl.md). NIXL then looks into this folder *instead of* its own plugins':\n"
      "export NIXL_PLUGIN_DIR={}\n"
      "# for engines that know the name OBJ alone:\n"
      "# export NIXL_PLUGIN_DIR={}\n"
      "# To keep NIXL's own plugins, link the file into their folder instead:\n"
      "# ln -s {} \"$(python3 -c 'import nixl_cu12, os; "
      "print(os.path.dirname(os.path.dirname(nixl_cu12.__file__)))')/.nixl_cu12.mesonpy.libs/plugins/\"\n",
      quoted(folder), quoted(folder + "/obj"), quoted(folder + "/libplugin_MEMKV.so"));
  print_export("MEMKV_CONFIG", store.config_file);
  const bool told = !store.servers.empty() || !store.config_file.empty();
  print_export("MEMKV_SERVERS", told ? store.servers : "127.0.0.1:9900");
  // If the credential came by the environment, it stays there.
  if (store.auth_key != kNoFile) print_export("MEMKV_AUTH_KEY", store.auth_key);
  print_export("MEMKV_TRANSPORT", store.transport);
  fmt::print("# agent = nixl_agent(\"me\", nixl_agent_config(backends=[])); agent.create_backend(\"MEMKV\", {{}})\n");
}

/// Says on stderr that the store cannot be reached now, and what is left to do. stdout holds only what can be run.
void warn_of_the_store(Connected& connected, const Store& store) {
  if (store.auth_key == kNoFile) {
    fmt::print(stderr,
               "memkv: put the credential into a file that the engine's user can read, and name it where {} is "
               "wanted\n",
               kNoFile);
  }
  for (size_t server = 0; server < connected.client.server_count(); server++) {
    const auto status = connected.client.server_status(server, kServerPatience);
    if (!status) fmt::print(stderr, "memkv: {}\n", describe_trouble(connected, server, status.error()));
  }
}

}  // namespace

int run_settings(const SettingsOptions& options) {
  auto connected = connect(options.common);  // this finds what is wrong in the options
  if (!connected) return fail(connected.error());
  const Store store = store_of(options);
  if (options.engine == "vllm") {
    print_vllm(store);
  } else if (options.engine == "lmcache") {
    print_lmcache(store);
  } else if (options.engine == "sglang") {
    print_sglang(store);
  } else {
    print_nixl(store);
  }
  warn_of_the_store(*connected, store);
  return kExitDone;
}

}  // namespace memkv::cli
