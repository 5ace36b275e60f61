/// The one place of the plugin that reads YAML.

#include <yaml-cpp/yaml.h>

#include "options.h"

namespace memkv::nixl {
namespace {

using Values = std::map<std::string, std::string>;

/// A list becomes comma separated.
std::string text_of(const YAML::Node& value) {
  if (value.IsScalar()) return value.Scalar();
  std::string text;
  for (const YAML::Node& item : value) text += (text.empty() ? "" : ",") + (item.IsScalar() ? item.Scalar() : "");
  return text;
}

void take_all(const YAML::Node& map, Values& values) {
  for (const auto& entry : map) values[entry.first.as<std::string>()] = text_of(entry.second);
}

}  // namespace

Result<Values, Message> read_config_file(const std::string& path) try {
  const YAML::Node root = YAML::LoadFile(path);
  Values values;
  if (!root.IsMap()) return values;
  for (const char* shared : {"servers", "auth_key", "transport"}) {
    if (root[shared]) values[shared] = text_of(root[shared]);
  }
  if (root["nixl"] && root["nixl"].IsMap()) take_all(root["nixl"], values);
  return values;
} catch (const YAML::Exception& e) {
  return Message{Status::kInvalid, path + " (named by MEMKV_CONFIG) is no readable YAML file: " + e.what()};
}

}  // namespace memkv::nixl
