#include "options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "base/nearest_name.h"
#include "base/text.h"

namespace memkv::nixl {
namespace {

using Values = std::map<std::string, std::string>;

constexpr uint32_t kTimeoutMsMax = 3'600'000;
constexpr uint32_t kIoThreadsMax = 64;
constexpr uint32_t kStagingMbMax = 1u << 20;
constexpr std::string_view kObjectStorage = "OBJ";

constexpr std::array<const char*, 3> kS3Taken = {"bucket", "endpoint_override", "secret_key"};
constexpr size_t kSlipMax = 2;  // letters by which a name differs that was meant to be another one

Message invalid(std::string text) { return {Status::kInvalid, std::move(text)}; }

Result<void, Message> set_number(const char* name, const std::string& text, uint32_t min, uint32_t max, uint32_t& out) {
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && number >= min && number <= max) {
    out = number;
    return {};
  }
  return invalid(std::string(name) + "=" + text + ": expected a whole number from " + std::to_string(min) + " to " +
                 std::to_string(max));
}

Result<void, Message> set_flag(const char* name, const std::string& text, bool& out) {
  for (const char* yes : {"on", "true", "1", "yes"}) {
    if (text == yes) return out = true, Result<void, Message>();
  }
  for (const char* no : {"off", "false", "0", "no"}) {
    if (text == no) return out = false, Result<void, Message>();
  }
  return invalid(std::string(name) + "=" + text + ": expected on or off");
}

constexpr std::array<const char*, 3> kWriteModes = {"auto", "replace", "if_absent"};

Result<void, Message> set_write_mode(const std::string& text, WriteMode& out) {
  for (size_t i = 0; i < kWriteModes.size(); i++) {
    if (text == kWriteModes[i]) return out = static_cast<WriteMode>(i), Result<void, Message>();
  }
  return invalid("write_mode=" + text + ": expected auto, replace or if_absent");
}

Result<void, Message> set_transport(const std::string& text, Transport& out) {
  for (const Transport transport : {Transport::kAuto, Transport::kTcp, Transport::kShm, Transport::kRdma}) {
    if (text == to_string(transport)) return out = transport, Result<void, Message>();
  }
  return invalid("transport=" + text + ": expected auto, shm, rdma or tcp");
}

using Setter = Result<void, Message> (*)(const std::string& text, Options& options);
struct Known {
  const char* name;
  Setter set;
};

template <std::string Options::*Field>
Result<void, Message> set_text(const std::string& text, Options& options) {
  options.*Field = text;
  return {};
}

constexpr std::array kKnown = {
    Known{"servers", [](const std::string& t,
                        Options& o) { return o.client.servers = base::split_list(t), Result<void, Message>(); }},
    Known{"auth_key",
          [](const std::string& t, Options& o) { return o.client.namespace_key = t, Result<void, Message>(); }},
    Known{"prefix", set_text<&Options::prefix>},
    Known{"transport", [](const std::string& t, Options& o) { return set_transport(t, o.client.transport); }},
    Known{"rdma_devices",
          [](const std::string& t, Options& o) {
            return o.client.rdma_devices = base::split_list(t), Result<void, Message>();
          }},
    Known{"congestion",
          [](const std::string& t, Options& o) { return o.client.congestion = t, Result<void, Message>(); }},
    Known{"log_level",
          [](const std::string& t, Options& o) { return o.client.log_level = t, Result<void, Message>(); }},
    Known{"timeout_ms",
          [](const std::string& t, Options& o) { return set_number("timeout_ms", t, 1, kTimeoutMsMax, o.timeout_ms); }},
    Known{"io_threads",
          [](const std::string& t, Options& o) { return set_number("io_threads", t, 1, kIoThreadsMax, o.io_threads); }},
    Known{"coalesce", [](const std::string& t, Options& o) { return set_flag("coalesce", t, o.coalesce); }},
    Known{"write_mode", [](const std::string& t, Options& o) { return set_write_mode(t, o.write_mode); }},
    Known{"staging_mb",
          [](const std::string& t, Options& o) { return set_number("staging_mb", t, 2, kStagingMbMax, o.staging_mb); }},
    Known{"metrics_file", set_text<&Options::metrics_file>},
    Known{"summary", [](const std::string& t, Options& o) { return set_flag("summary", t, o.summary); }},
};

bool is_known(const std::string& name) {
  return std::any_of(kKnown.begin(), kKnown.end(), [&](const Known& known) { return name == known.name; });
}

/// Of the names that mean something here.
std::string nearest_name(const std::string& name, bool object_storage) {
  std::vector<std::string_view> names;
  for (const Known& known : kKnown) names.emplace_back(known.name);
  if (object_storage) names.insert(names.end(), kS3Taken.begin(), kS3Taken.end());
  return std::string(base::nearest_name(name, names));
}

Message unknown(const std::string& name, bool object_storage, const std::string& where) {
  return invalid("unknown parameter '" + name + "'" + where + "; did you mean '" + nearest_name(name, object_storage) +
                 "'?");
}

std::string environment_name(const std::string& option) {
  std::string name = "MEMKV_" + option;
  std::transform(name.begin(), name.end(), name.begin(), [](char c) { return static_cast<char>(std::toupper(c)); });
  return name;
}

bool is_taken_of_s3(const std::string& name) {
  return std::any_of(kS3Taken.begin(), kS3Taken.end(), [&](const char* taken) { return name == taken; });
}

/// A parameter that means nothing here. Under the name OBJ callers pass what is S3's or their own: only what looks like
/// a slip of the pen is an error there.
bool is_unknown(const std::string& name, bool object_storage) {
  if (is_known(name)) return false;
  if (!object_storage) return true;
  return !is_taken_of_s3(name) && base::edit_distance(name, nearest_name(name, true)) <= kSlipMax;
}

bool is_credential(const std::string& text) {
  const auto is_hex = [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; };
  return text.starts_with('@') || (text.size() == 64 && std::all_of(text.begin(), text.end(), is_hex));
}

std::string value_of(const abi::Params& params, const std::string& name) {
  const auto found = params.find(name);
  return found == params.end() ? "" : found->second;
}

void set_if_unset(Values& values, const std::string& name, const std::string& value) {
  if (!value.empty()) values.emplace(name, value);
}

/// The credential under S3's name. Beside an auth_key it is S3's own, and of no use here.
Result<void, Message> take_secret_key(const std::string& secret, Values& values, Options& options) {
  if (secret.empty()) return {};
  if (values.contains("auth_key")) return options.ignore("secret_key"), Result<void, Message>();
  if (!is_credential(secret)) {
    return invalid(
        "secret_key is no credential of MemKV: it has to be 64 hex digits, or @FILE that holds them, as "
        "`memkv setup` made them (this one has " +
        std::to_string(secret.size()) +
        " characters); leave it out where auth_key or MEMKV_AUTH_KEY gives the credential, or the server "
        "wants none");
  }
  values.emplace("auth_key", secret);
  return {};
}

/// S3's names in ours. Nothing of S3's credential in the environment is read.
Result<void, Message> translate_object_storage(const abi::Params& params, Values& values, Options& options) {
  set_if_unset(values, "servers", value_of(params, "endpoint_override"));
  options.bucket = value_of(params, "bucket");
  for (const auto& [name, value] : params) {
    if (!value.empty() && !is_known(name) && !is_taken_of_s3(name)) options.ignore(name);
  }
  return take_secret_key(value_of(params, "secret_key"), values, options);
}

Result<void, Message> take_parameters(bool object_storage, const abi::Params& params, Values& values) {
  for (const auto& [name, value] : params) {
    if (is_known(name))
      set_if_unset(values, name, value);
    else if (!value.empty() && is_unknown(name, object_storage))
      return unknown(name, object_storage, "");
  }
  return {};
}

Result<void, Message> take_config_file(Lookup env, Values& values, Options& options) {
  options.client.config_file = env("MEMKV_CONFIG");
  if (options.client.config_file.empty()) return {};
  auto file = read_config_file(options.client.config_file);
  if (!file) return file.error();
  for (const auto& [name, value] : *file) {
    if (!is_known(name)) return unknown(name, false, " under nixl: in " + options.client.config_file);
    set_if_unset(values, name, value);
  }
  return {};
}

void take_environment(bool object_storage, Lookup env, Values& values, Options& options) {
  for (const Known& known : kKnown) set_if_unset(values, known.name, env(environment_name(known.name).c_str()));
  if (!object_storage) return;
  set_if_unset(values, "servers", env("AWS_ENDPOINT_OVERRIDE"));
  if (options.bucket.empty()) options.bucket = env("AWS_DEFAULT_BUCKET");
}

Result<void, Message> set_all(const Values& values, Options& options) {
  for (const Known& known : kKnown) {
    const auto value = values.find(known.name);
    if (value == values.end()) continue;
    if (auto set = known.set(value->second, options); !set) return set;
  }
  return {};
}

Message no_servers(bool object_storage) {
  const std::string own = object_storage ? "endpoint_override, servers" : "servers";
  return invalid("no servers given: set " + own +
                 " or MEMKV_SERVERS to kv1=HOST:PORT,kv2=HOST:PORT,..., or `servers:` in the file that MEMKV_CONFIG "
                 "names");
}

std::string join(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ",") + part;
  return text;
}

}  // namespace

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

void Options::ignore(const std::string& name) { ignored += (ignored.empty() ? "" : ", ") + name; }

uint64_t Options::timeout_ns(abi::Operation operation) const {
  if (timeout_ms != 0) return uint64_t{timeout_ms} * 1'000'000;
  return operation == abi::Operation::kRead ? 2'000'000'000 : 10'000'000'000;
}

Result<Options, Message> read_options(const std::string& type, const abi::Params& params, Lookup env) {
  const bool object_storage = type == kObjectStorage;
  Options options;
  Values values;
  options.object_storage = object_storage;
  if (object_storage) options.write_mode = WriteMode::kReplace;
  if (auto taken = take_parameters(object_storage, params, values); !taken) return taken.error();
  if (object_storage) {
    if (auto taken = translate_object_storage(params, values, options); !taken) return taken.error();
  }
  take_environment(object_storage, env, values, options);
  if (auto taken = take_config_file(env, values, options); !taken) return taken.error();
  if (auto applied = set_all(values, options); !applied) return applied.error();
  if (options.client.servers.empty()) return no_servers(object_storage);
  return options;
}

abi::Params effective(const Options& options) {
  abi::Params out = {
      {"servers", join(options.client.servers)},
      {"auth_key", options.client.namespace_key.empty() ? "" : "(set)"},
      {"prefix", options.key_prefix()},
      {"transport", std::string(to_string(options.client.transport))},
      {"rdma_devices", join(options.client.rdma_devices)},
      {"congestion", options.client.congestion},
      {"log_level", options.client.log_level},
      {"timeout_ms", options.timeout_ms == 0 ? "" : std::to_string(options.timeout_ms)},
      {"io_threads", std::to_string(options.io_threads)},
      {"coalesce", options.coalesce ? "on" : "off"},
      {"write_mode", kWriteModes[static_cast<size_t>(options.write_mode)]},
      {"staging_mb", std::to_string(options.staging_mb)},
      {"metrics_file", options.metrics_file},
      {"summary", options.summary ? "on" : "off"},
  };
  return out;
}

abi::Params known_options() {
  abi::Params names;
  for (const Known& known : kKnown) names.emplace(known.name, "");
  return names;
}

}  // namespace memkv::nixl
