#include "server/options.h"

#include <fmt/format.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/nearest_name.h"
#include "base/text.h"
#include "base/units.h"
#include "io/socket.h"

namespace memkv::server {
namespace {

using Known = std::vector<std::string_view>;

Message wrong(std::string text) { return {Status::kInvalid, std::move(text)}; }

std::string joined(const Known& words) { return fmt::format("{}", fmt::join(words, ", ")); }

/// Walks over one YAML document. The first error stops it: every reader then returns at once.
class Parser {
 public:
  Parser(const std::string& file, Options& options) : file_(file), options_(options) {}

  Result<void, Message> parse(std::string_view text) {
    YAML::Node root;
    try {
      root = YAML::Load(std::string(text));
    } catch (const YAML::Exception& e) {
      return wrong(
          fmt::format("{}, line {}, column {}: not YAML: {}", file_, e.mark.line + 1, e.mark.column + 1, e.msg));
    }
    if (root.IsNull()) return {};
    try {
      read_root(root);
    } catch (const YAML::Exception& e) {
      return wrong(fmt::format("{}, line {}, column {}: {}", file_, e.mark.line + 1, e.mark.column + 1, e.msg));
    }
    if (error_.empty()) return {};
    return wrong(error_);
  }

 private:
  std::string where(const YAML::Node& node, std::string_view key) const {
    return fmt::format("{}, line {}, column {}: {}", file_, node.Mark().line + 1, node.Mark().column + 1, key);
  }
  void fail(std::string text) {
    if (error_.empty()) error_ = std::move(text);
  }

  /// Calls `take(key, full name, value)` for each entry. A key that is not known is an error.
  template <typename Take>
  void each(const YAML::Node& node, std::string_view path, const Known& known, Take&& take) {
    if (node.IsNull()) return;
    if (!node.IsMap())
      return fail(fmt::format("{}: holds {}, one each, not a single value", where(node, path), joined(known)));
    for (const auto& entry : node) {
      if (!error_.empty()) return;
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "?";
      const std::string full = path.empty() ? key : fmt::format("{}.{}", path, key);
      if (std::find(known.begin(), known.end(), key) == known.end())
        return unknown(entry.first, full, key, path, known);
      take(key, full, entry.second);
    }
  }

  void unknown(const YAML::Node& node, std::string_view full, std::string_view key, std::string_view path,
               const Known& known) {
    const std::string_view near = base::likely_name(key, known);
    std::string hint = near.empty() ? fmt::format("known here: {}", joined(known))
                                    : fmt::format("did you mean {}{}{}?", path, path.empty() ? "" : ".", near);
    fail(fmt::format("{}: unknown key; {}", where(node, full), hint));
  }

  bool scalar(const YAML::Node& node, std::string_view key, std::string& out, std::string_view what) {
    if (node.IsScalar()) {
      out = node.Scalar();
      return true;
    }
    fail(fmt::format("{}: must be {}", where(node, key), what));
    return false;
  }
  template <typename T>
  bool take(Result<T, Message> result, T& out) {
    if (!result) {
      fail(result.error().text);
      return false;
    }
    out = std::move(result).value();
    return true;
  }

  void read_root(const YAML::Node& root);
  void read_network(const YAML::Node& node);
  void read_storage(const YAML::Node& node);
  void read_memory(const YAML::Node& node);
  void read_rdma(const YAML::Node& node);
  void add_rdma_devices(const YAML::Node& node, std::string_view key);
  void read_shm(const YAML::Node& node);
  void read_namespaces(const YAML::Node& node);
  void read_drives(const YAML::Node& node);
  void read_drive(const YAML::Node& node);
  void read_accept_loss(const YAML::Node& node);
  void read_size(const YAML::Node& node, std::string_view key, uint64_t& out);
  void read_tier_size(const YAML::Node& node, std::string_view key);
  void read_ring_size(const YAML::Node& node, std::string_view key);
  void read_secret(const YAML::Node& node, std::string_view key, std::string_view name);
  void read_workers(const YAML::Node& node);
  void read_log(const YAML::Node& node);

  const std::string& file_;
  Options& options_;
  std::string error_;
};

/// The top level of the file. Each key goes to the reader of its section. `each` reports keys that are unknown or
/// repeated.
void Parser::read_root(const YAML::Node& root) {
  static const Known kKnown = {"name", "network", "namespaces", "storage", "memory",
                               "rdma", "shm",     "workers",    "io",      "log"};
  each(root, "", kKnown, [&](const std::string& key, const std::string& full, const YAML::Node& node) {
    std::string word;
    if (key == "name") {
      scalar(node, full, options_.name, "a word");
      if (options_.name.size() > 256) fail(fmt::format("{}: at most 256 characters", where(node, full)));
    } else if (key == "network") {
      read_network(node);
    } else if (key == "namespaces") {
      read_namespaces(node);
    } else if (key == "storage") {
      read_storage(node);
    } else if (key == "memory") {
      read_memory(node);
    } else if (key == "rdma") {
      read_rdma(node);
    } else if (key == "shm") {
      read_shm(node);
    } else if (key == "workers") {
      read_workers(node);
    } else if (key == "io") {
      if (scalar(node, full, word, "auto, uring or epoll")) take(parse_io(word, where(node, full)), options_.io);
    } else {
      read_log(node);
    }
  });
}

void Parser::read_network(const YAML::Node& root) {
  static const Known kKnown = {"address", "auth_key", "congestion", "tcp_one_copy"};
  each(root, "network", kKnown, [&](const std::string& key, const std::string& full, const YAML::Node& node) {
    if (key == "address") {
      if (!scalar(node, full, options_.address, "HOST:PORT")) return;
      if (auto parsed = io::parse_host_port(options_.address); !parsed) {
        fail(fmt::format("{}: {}", where(node, full), parsed.error().text));
      }
    } else if (key == "auth_key") {
      read_secret(node, full, "default");
    } else if (key == "tcp_one_copy") {
      std::string word;
      if (!scalar(node, full, word, "auto or off")) return;
      if (word != "auto" && word != "off") fail(fmt::format("{}: write auto or off", where(node, full)));
      options_.tcp_one_copy = word == "auto";
    } else {
      scalar(node, full, options_.congestion, "a word, cubic or bbr or system");
    }
  });
}

void Parser::read_secret(const YAML::Node& node, std::string_view key, std::string_view name) {
  std::string text;
  if (!scalar(node, key, text, "64 hex digits or @FILE")) return;
  auto secret = wire::parse_secret(text);
  if (!secret) return fail(fmt::format("{}: {}", where(node, key), secret.error().text));
  for (const NamespaceOption& other : options_.namespaces) {
    if (other.name == name)
      return fail(fmt::format("{}: the namespace {} has a credential already", where(node, key), name));
    if (other.secret == *secret) {
      return fail(fmt::format("{}: the credential is that of the namespace {} too: give each its own", where(node, key),
                              other.name));
    }
  }
  options_.namespaces.push_back({std::string(name), *secret});
}

void Parser::read_namespaces(const YAML::Node& root) {
  static const Known kKnown = {"name", "auth_key"};
  if (!root.IsSequence())
    return fail(fmt::format("{}: must be a list of {{name, auth_key}}", where(root, "namespaces")));
  for (const YAML::Node& item : root) {
    std::string name;
    YAML::Node secret;
    each(item, "namespaces", kKnown, [&](const std::string& key, const std::string& full, const YAML::Node& node) {
      if (key == "name") {
        scalar(node, full, name, "a word");
      } else {
        secret = node;
      }
    });
    if (!error_.empty()) return;
    if (name.empty() || name.size() > 31)
      return fail(fmt::format("{}: needs a name of 1 to 31 characters", where(item, "namespaces")));
    if (!secret.IsDefined() || secret.IsNull())
      return fail(fmt::format("{}: {} needs an auth_key", where(item, "namespaces"), name));
    read_secret(secret, "namespaces.auth_key", name);
  }
}

void Parser::read_storage(const YAML::Node& root) {
  static const Known kKnown = {"mode", "drives", "accept_loss"};
  each(root, "storage", kKnown, [&](const std::string& key, const std::string& full, const YAML::Node& node) {
    std::string word;
    if (key == "drives") return read_drives(node);
    if (key == "accept_loss") return read_accept_loss(node);
    if (scalar(node, full, word, "direct, file or memory")) take(parse_mode(word, where(node, full)), options_.mode);
  });
}

void Parser::read_drives(const YAML::Node& root) {
  if (!root.IsSequence())
    return fail(fmt::format("{}: must be a list, one `- media: PATH` each", where(root, "storage.drives")));
  for (const YAML::Node& item : root) read_drive(item);
}

void Parser::read_drive(const YAML::Node& item) {
  static const Known kKnown = {"media", "power_loss_protection"};
  DriveOption drive;
  if (item.IsScalar()) {
    drive.path = item.Scalar();
  } else {
    each(item, "storage.drives", kKnown, [&](const std::string& key, const std::string& full, const YAML::Node& node) {
      std::string word;
      if (!scalar(node, full, word, key == "media" ? "a path" : "true or false")) return;
      if (key == "media") {
        drive.path = word;
      } else if (!YAML::convert<bool>::decode(node, drive.power_loss_protected)) {
        fail(fmt::format("{}: {} is neither true nor false", where(node, full), word));
      }
    });
  }
  if (error_.empty() && drive.path.empty())
    fail(fmt::format("{}: names no path: `- media: PATH`", where(item, "storage.drives")));
  if (error_.empty()) options_.drives.push_back(std::move(drive));
}

void Parser::read_accept_loss(const YAML::Node& root) {
  if (!root.IsSequence())
    return fail(fmt::format("{}: must be a list of names of missing drives", where(root, "storage.accept_loss")));
  for (const YAML::Node& item : root) {
    std::string name;
    if (scalar(item, "storage.accept_loss", name, "a name of a missing drive"))
      options_.accept_loss.push_back(std::move(name));
  }
}

/// Reads `devices: [mlx5_0, mlx5_1]`, `device: mlx5_0`, or `devices: none`.
void Parser::read_rdma(const YAML::Node& root) {
  static const Known kKnown = {"devices", "device"};
  each(root, "rdma", kKnown, [&](const std::string&, const std::string& full, const YAML::Node& node) {
    if (!node.IsSequence()) return add_rdma_devices(node, full);
    for (const YAML::Node& item : node) add_rdma_devices(item, full);
  });
}

void Parser::add_rdma_devices(const YAML::Node& node, std::string_view key) {
  std::string name;
  if (!scalar(node, key, name, "a device as in /sys/class/infiniband, or none")) return;
  take_rdma_devices(name, options_);
}

void Parser::read_memory(const YAML::Node& root) {
  static const Known kKnown = {"max_size", "tier_size", "index_block_size"};
  each(root, "memory", kKnown, [&](const std::string& key, const std::string& full, const YAML::Node& node) {
    if (key == "tier_size") return read_tier_size(node, full);
    read_size(node, full, key == "max_size" ? options_.memory_bytes_max : options_.index_block_bytes);
  });
}

void Parser::read_shm(const YAML::Node& root) {
  static const Known kKnown = {"enabled", "dir", "socket_mode", "max_size", "ring_size"};
  each(root, "shm", kKnown, [&](const std::string& key, const std::string& full, const YAML::Node& node) {
    std::string word;
    if (key == "max_size") return read_size(node, full, options_.shm.window_bytes_max);
    if (key == "ring_size") return read_ring_size(node, full);
    if (key == "dir") {
      scalar(node, full, options_.shm.dir, "a path");
    } else if (key == "socket_mode") {
      if (!scalar(node, full, word, "permissions like 0660")) return;
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), options_.shm.socket_mode, 8);
      if (error != std::errc{} || end != word.data() + word.size() || options_.shm.socket_mode > 0777)
        fail(fmt::format("{}: {} is no permissions like 0600, 0660 or 0666", where(node, full), word));
    } else if (bool on = true; scalar(node, full, word, "true or false")) {
      if (!YAML::convert<bool>::decode(node, on))
        return fail(fmt::format("{}: {} is neither true nor false", where(node, full), word));
      options_.shm.enabled = on;
    }
  });
}

void Parser::read_ring_size(const YAML::Node& node, std::string_view key) {
  read_size(node, key, options_.shm.ring_bytes);
  const uint64_t bytes = options_.shm.ring_bytes;
  if (!std::has_single_bit(bytes) || bytes < 64 * base::kKiB || bytes > 64 * base::kMiB)
    fail(fmt::format("{}: must be a power of two from 64KiB to 64MiB", where(node, key)));
}

void Parser::read_size(const YAML::Node& node, std::string_view key, uint64_t& out) {
  std::string text;
  if (!scalar(node, key, text, "a size like 8GiB")) return;
  if (!take(parse_size_option(text, where(node, key)), out)) return;
  if (out == 0) fail(fmt::format("{}: must be more than 0", where(node, key)));
}

/// A size, or 0: no tier.
void Parser::read_tier_size(const YAML::Node& node, std::string_view key) {
  std::string text;
  if (!scalar(node, key, text, "a size like 8GiB, or 0")) return;
  uint64_t bytes = 0;
  if (text == "0" || take(parse_size_option(text, where(node, key)), bytes)) options_.tier_bytes = bytes;
}

void Parser::read_workers(const YAML::Node& node) {
  std::string word;
  if (!scalar(node, "workers", word, "a number from 1 to 32")) return;
  int workers = 0;
  if (!YAML::convert<int>::decode(node, workers) || workers < 1 || workers > 32) {
    return fail(fmt::format("{}: {} is not a number from 1 to 32", where(node, "workers"), word));
  }
  options_.workers = static_cast<uint32_t>(workers);
}

void Parser::read_log(const YAML::Node& root) {
  static const Known kKnown = {"level"};
  each(root, "log", kKnown, [&](const std::string&, const std::string& full, const YAML::Node& node) {
    std::string word;
    if (!scalar(node, full, word, "debug, info, warn, error or off")) return;
    auto level = server::parse_log_level(word, where(node, full));
    if (!level) return fail(level.error().text);
    options_.log_level = *level;
  });
}

}  // namespace

std::string_view to_string(StorageMode mode) {
  switch (mode) {
    case StorageMode::kDirect:
      return "direct";
    case StorageMode::kFile:
      return "file";
    case StorageMode::kMemory:
      return "memory";
  }
  return "?";
}

void take_rdma_devices(std::string_view text, Options& options) {
  for (std::string& name : base::split_list(text)) {
    if (name == "none")
      options.rdma = false;
    else
      options.rdma_devices.push_back(std::move(name));
  }
}

Result<StorageMode, Message> parse_mode(std::string_view word, const std::string& where) {
  if (word == "direct") return StorageMode::kDirect;
  if (word == "file") return StorageMode::kFile;
  if (word == "memory") return StorageMode::kMemory;
  return wrong(fmt::format("{}: {} is none of direct, file, memory", where, word));
}

Result<io::ReactorKind, Message> parse_io(std::string_view word, const std::string& where) {
  if (word == "auto") return io::ReactorKind::kAuto;
  if (word == "uring") return io::ReactorKind::kUring;
  if (word == "epoll") return io::ReactorKind::kEpoll;
  return wrong(fmt::format("{}: {} is none of auto, uring, epoll", where, word));
}

Result<base::LogLevel, Message> parse_log_level(std::string_view word, const std::string& where) {
  auto level = base::LogLevel::kInfo;
  if (base::parse_log_level(word, &level)) return level;
  return wrong(fmt::format("{}: {} is none of debug, info, warn, error, off", where, word));
}

std::vector<std::string> split_drives(const std::vector<std::string>& texts) {
  std::vector<std::string> drives;
  for (const std::string& text : texts) {
    if (::access(text.c_str(), F_OK) == 0) {
      drives.push_back(text);
      continue;
    }
    for (std::string& one : base::split_list(text)) drives.push_back(std::move(one));
  }
  return drives;
}

Result<uint64_t, Message> parse_size_option(std::string_view text, const std::string& where) {
  const bool bare = !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (bare) return wrong(fmt::format("{}: {} has no unit: say {}MiB or {}GiB", where, text, text, text));
  auto size = base::parse_size(text);
  if (size) return *size;
  return wrong(fmt::format("{}: {}", where, size.error().text));
}

Result<Options, Message> parse_options(std::string_view yaml, const std::string& file) {
  Options options;
  Parser parser(file, options);
  if (auto parsed = parser.parse(yaml); !parsed) return parsed.error();
  return options;
}

Result<Options, Message> load_options(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in)
    return wrong(
        fmt::format("{}: cannot be read ({}): give the file that `memkv setup` printed", file, std::strerror(errno)));
  std::stringstream text;
  text << in.rdbuf();
  if (in.bad()) return wrong(fmt::format("{}: cannot be read: it is not a file", file));
  return parse_options(text.str(), file);
}

}  // namespace memkv::server
