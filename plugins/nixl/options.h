#pragma once
/// The plugin's options, from all their sources: parameter > MEMKV_* environment > MEMKV_CONFIG file > default.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "abi.h"
#include "memkv/client.h"

namespace memkv::nixl {

/// What a write that begins at 0 does with the object that is there.
enum class WriteMode : uint8_t {
  kAuto,     ///< replaces it if it is the whole registered object, else changes its range
  kReplace,  ///< replaces it always
  kIfAbsent  ///< leaves it, and sends nothing but the question
};

struct Options {
  ClientOptions client;
  std::string prefix;       ///< before every key
  std::string bucket;       ///< under the name OBJ: between prefix and key, with a slash
  uint32_t timeout_ms = 0;  ///< 0 = the client's own: 2 s to read, 10 s to write
  uint32_t io_threads = 2;
  bool coalesce = true;
  WriteMode write_mode = WriteMode::kAuto;
  uint32_t staging_mb = 256;
  std::string metrics_file;
  bool summary = true;          ///< a line with the main counters when the backend goes
  bool object_storage = false;  ///< under the name OBJ
  std::string ignored;          ///< names of S3 parameters that mean nothing here, for one log line

  std::string key_prefix() const { return bucket.empty() ? prefix : prefix + bucket + "/"; }
  void ignore(const std::string& name);
  /// A stated deadline is kept to the letter; the default ones allow for the bytes that are ahead.
  bool states_timeout() const { return timeout_ms != 0; }
  uint64_t timeout_ns(abi::Operation operation) const;
};

/// Where options come from besides the parameters. Empty counts as unset everywhere.
using Lookup = std::string (*)(const char* name);
std::string environment(const char* name);

/// `type` is the name the plugin was loaded under: OBJ takes S3's names too.
Result<Options, Message> read_options(const std::string& type, const abi::Params& params, Lookup env = environment);

/// The values in effect, by parameter name; a credential is only said to be there.
abi::Params effective(const Options& options);

/// What getPluginParams shows: the names. Their values are empty, since callers hand them back as if a user had set
/// them.
abi::Params known_options();

/// The plugin's part of the file that MEMKV_CONFIG names: its `nixl:` map, and `servers`, `auth_key`, `transport` of
/// the top, which are the client's too.
Result<std::map<std::string, std::string>, Message> read_config_file(const std::string& path);

}  // namespace memkv::nixl
