/// The one place of the client that reads YAML.

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "base/nearest_name.h"
#include "base/text.h"
#include "base/units.h"
#include "client/settings.h"

namespace memkv::client {
namespace {

/// A key's value, and where it stands, for messages.
struct Entry {
  const YAML::Node& value;
  std::string where;  ///< FILE:LINE: key
  Message bad(const std::string& why) const { return {Status::kInvalid, where + ": " + why}; }
};

Result<std::string, Message> text_of(const Entry& entry) {
  if (!entry.value.IsScalar()) return entry.bad("expected one value, not a list or a map");
  return entry.value.Scalar();
}

Result<uint32_t, Message> count_of(const Entry& entry) {
  uint32_t number = 0;
  if (!entry.value.IsScalar() || !YAML::convert<uint32_t>::decode(entry.value, number)) {
    return entry.bad("expected a whole number, as in 2");
  }
  return number;
}

Result<Deadline, Message> duration_of(const Entry& entry) {
  auto text = text_of(entry);
  if (!text) return text.error();
  auto ns = base::parse_duration_ns(*text);
  if (!ns) return entry.bad(ns.error().text);
  return Deadline(static_cast<int64_t>(*ns));
}

template <typename T, typename R>
Result<void, Message> set_if_unset(T& field, const T& unset, R parsed) {
  if (!parsed) return parsed.error();
  if (field == unset) field = std::move(parsed).value();
  return {};
}

/// A comma list, or a YAML list; `one` and `example` are for the complaint.
Result<std::vector<std::string>, Message> list_of(const Entry& entry, const char* one, const char* example) {
  if (entry.value.IsScalar()) return base::split_list(entry.value.Scalar());
  if (!entry.value.IsSequence()) {
    return entry.bad(std::string("expected a list of ") + one + "s, as in [" + example + "]");
  }
  std::vector<std::string> list;
  for (const YAML::Node& item : entry.value) {
    if (!item.IsScalar()) return entry.bad(std::string("each ") + one + " is one text, as in " + example);
    list.push_back(item.Scalar());
  }
  return list;
}

Result<void, Message> set_transport(const Entry& entry, ClientOptions& options) {
  auto text = text_of(entry);
  if (!text) return text.error();
  return set_if_unset(options.transport, Transport::kAuto, parse_transport(*text, entry.where));
}

Result<void, Message> set_log_level(const Entry& entry, ClientOptions& options) {
  auto text = text_of(entry);
  if (!text) return text.error();
  if (auto parsed = parse_log_level(*text, entry.where); !parsed) return parsed.error();
  return set_if_unset(options.log_level, {}, std::move(text));
}

Result<void, Message> set_put_checksum(const Entry& entry, ClientOptions& options) {
  auto text = text_of(entry);
  if (!text) return text.error();
  if (*text != "client" && *text != "server") return entry.bad("expected client or server, not '" + *text + "'");
  if (*text == "server") options.put_checksum = PutChecksum::kServer;
  return {};
}

Result<void, Message> set_verify(const Entry& entry, ClientOptions& options) {
  bool on = true;
  if (!entry.value.IsScalar() || !YAML::convert<bool>::decode(entry.value, on))
    return entry.bad("expected true or false");
  options.verify = options.verify && on;
  return {};
}

using Setter = Result<void, Message> (*)(const Entry&, ClientOptions&);
struct Known {
  const char* name;
  Setter set;
};
constexpr std::array kKnown = {
    Known{"servers",
          [](const Entry& e, ClientOptions& o) {
            return set_if_unset(o.servers, {}, list_of(e, "server", "kv1=10.0.0.10:9900"));
          }},
    Known{"auth_key", [](const Entry& e, ClientOptions& o) { return set_if_unset(o.namespace_key, {}, text_of(e)); }},
    Known{"transport", set_transport},
    Known{"rdma_devices",
          [](const Entry& e, ClientOptions& o) {
            return set_if_unset(o.rdma_devices, {}, list_of(e, "device", "mlx5_0"));
          }},
    Known{"shm_dir", [](const Entry& e, ClientOptions& o) { return set_if_unset(o.shm_dir, {}, text_of(e)); }},
    Known{"io_contexts", [](const Entry& e, ClientOptions& o) { return set_if_unset(o.io_contexts, 0u, count_of(e)); }},
    Known{"connections_per_worker",
          [](const Entry& e, ClientOptions& o) { return set_if_unset(o.connections_per_worker, 0u, count_of(e)); }},
    Known{"get_timeout",
          [](const Entry& e, ClientOptions& o) { return set_if_unset(o.get_timeout, Deadline{0}, duration_of(e)); }},
    Known{"put_timeout",
          [](const Entry& e, ClientOptions& o) { return set_if_unset(o.put_timeout, Deadline{0}, duration_of(e)); }},
    Known{"put_checksum", set_put_checksum},
    Known{"verify", set_verify},
    Known{"congestion", [](const Entry& e, ClientOptions& o) { return set_if_unset(o.congestion, {}, text_of(e)); }},
    Known{"log_level", set_log_level},
    Known{"nixl", [](const Entry&, ClientOptions&) { return Result<void, Message>(); }},  // the NIXL plugin's own
    Known{"client_name", [](const Entry& e, ClientOptions& o) { return set_if_unset(o.client_name, {}, text_of(e)); }},
};

std::string nearest_known(const std::string& key) {
  std::array<std::string_view, kKnown.size()> names;
  std::transform(kKnown.begin(), kKnown.end(), names.begin(), [](const Known& known) { return known.name; });
  return std::string(base::nearest_name(key, names));
}

Result<void, Message> merge_entry(const std::string& path, const YAML::Node& key, const YAML::Node& value,
                                  ClientOptions& options) {
  const std::string name = key.IsScalar() ? key.Scalar() : "";
  const std::string where = path + ":" + std::to_string(key.Mark().line + 1) + ": ";
  const auto known = std::find_if(kKnown.begin(), kKnown.end(), [&](const Known& k) { return name == k.name; });
  if (known == kKnown.end()) {
    return Message{Status::kInvalid, where + "unknown key '" + name + "'; did you mean '" + nearest_known(name) + "'?"};
  }
  if (value.IsNull()) return {};
  return known->set(Entry{value, where + name}, options);
}

}  // namespace

Result<void, Message> merge_config_file(const std::string& path, ClientOptions& options) try {
  std::ifstream in(path);
  if (!in) {
    return Message{Status::kInvalid, "the client's config file '" + path + "' cannot be read: " + std::strerror(errno) +
                                         "; is MEMKV_CONFIG (or config_file) right?"};
  }
  const YAML::Node root = YAML::Load(in);
  if (root.IsNull()) return {};
  if (!root.IsMap()) return Message{Status::kInvalid, path + ": expected `key: value` lines"};
  for (const auto& entry : root) {
    if (auto merged = merge_entry(path, entry.first, entry.second, options); !merged) return merged;
  }
  return {};
} catch (const YAML::Exception& e) {
  return Message{Status::kInvalid, path + ":" + std::to_string(e.mark.line + 1) + ": not valid YAML: " + e.msg};
}

}  // namespace memkv::client
