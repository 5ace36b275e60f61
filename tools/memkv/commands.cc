#include "tools/memkv/commands.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "base/bytes.h"
#include "base/hex.h"
#include "base/units.h"
#include "memkv/client.h"

namespace memkv::tool {
namespace {

using Bytes = std::vector<char>;
constexpr uint64_t kPieceBytes = 64 << 20;  // what get holds in memory at once

int exit_code(Status status) {
  switch (status) {
    case Status::kOk:
    case Status::kExists:
      return kDone;
    case Status::kMiss:
    case Status::kChanged:
      return kMissing;
    case Status::kInvalid:
    case Status::kTooLarge:
      return kUsage;
    case Status::kUnavailable:
    case Status::kDeadline:
    case Status::kRefused:
    case Status::kNotReady:
    case Status::kBusy:
      return kUnreachable;
    case Status::kUnauthorized:
    case Status::kVersion:
      return kNotAllowed;
    default:
      return kFailed;
  }
}

int complain(const std::string& text, int code) {
  std::fprintf(stderr, "memkv: %s\n", text.c_str());
  return code;
}

/// Says what went wrong, where, and what to do about it.
int explain(Status status, const std::string& what, const Client& client) {
  std::string text = what + ": " + std::string(to_string(status));
  switch (status) {
    case Status::kOk:
      return kDone;
    case Status::kMiss:
      return complain(what + ": not there", kMissing);
    case Status::kInvalid:
      text += "; a key has 1 to 1024 bytes";
      break;
    case Status::kTooLarge:
      text += "; the block is too large for this store (the limit is a quarter of a shard, see `memkv status`)";
      break;
    case Status::kUnauthorized:
      text +=
          "; the server does not know this key: pass --auth-key or MEMKV_AUTH_KEY with the credential that `memkv "
          "setup` made";
      break;
    case Status::kUnavailable:
    case Status::kRefused:
    case Status::kDeadline:
      text += "; is the server running, and is the address right?";
      break;
    default:
      break;
  }
  return complain(text + "\n" + client.describe(), exit_code(status));
}

std::optional<Client> connect(const ClientArgs& args, int& code) {
  ClientOptions options;
  std::stringstream list(args.servers);
  for (std::string one; std::getline(list, one, ',');) {
    if (!one.empty()) options.servers.push_back(one);
  }
  options.namespace_key = args.auth_key;
  options.config_file = args.config;
  const auto timeout = base::parse_duration_ns(args.timeout);
  if (!timeout) {
    code = complain("--timeout: " + timeout.error().text, kUsage);
    return {};
  }
  options.get_timeout = options.put_timeout = Deadline(*timeout);
  if (args.transport == "tcp") {
    options.transport = Transport::kTcp;
  } else if (!args.transport.empty() && args.transport != "auto") {
    code = complain("--transport: '" + args.transport + "' is not known; there are auto and tcp", kUsage);
    return {};
  }
  auto client = Client::connect(std::move(options));
  if (!client) {
    code = complain(client.error().text, kUsage);
    return {};
  }
  return std::move(client).value();
}

/// The key's bytes, or a message.
std::optional<std::string> key_of(const ClientArgs& args, const std::string& text, int& code) {
  std::string key = text;
  if (args.hex) {
    key.assign(text.size() / 2, '\0');
    if (text.size() % 2 != 0 || !base::hex_decode(text, base::mut_bytes_of(key.data(), key.size()))) {
      code = complain("key '" + text + "' is not an even number of hex digits (--hex)", kUsage);
      return {};
    }
  }
  if (key.empty() || key.size() > kKeyBytesMax) {
    code = complain("a key has 1 to 1024 bytes, this one has " + std::to_string(key.size()), kUsage);
    return {};
  }
  return key;
}

/// How a key is shown: as it is when it is printable, else as hex.
std::string shown(const std::string& key) {
  for (const char c : key) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e)
      return "hex:" + base::hex_encode(base::as_bytes(key));
  }
  return key;
}

std::optional<Bytes> read_file(const std::string& file, int& code) {
  Bytes bytes;
  if (file == "-") {
    bytes.assign(std::istreambuf_iterator<char>(std::cin), {});
    return bytes;
  }
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    code = complain("'" + file + "' cannot be read; is the path right?", kUsage);
    return {};
  }
  bytes.assign(std::istreambuf_iterator<char>(in), {});
  return bytes;
}

}  // namespace

int run_put(const ClientArgs& args, const std::string& key_text, const std::string& file) {
  int code = kDone;
  const auto key = key_of(args, key_text, code);
  if (!key) return code;
  const auto bytes = read_file(file, code);
  if (!bytes) return code;
  auto client = connect(args, code);
  if (!client) return code;
  const Outcome outcome = client->put(*key, *bytes);
  return outcome.status == Status::kOk ? kDone : explain(outcome.status, "put " + shown(*key), *client);
}

int run_get(const ClientArgs& args, const std::string& key_text, const std::string& file) {
  int code = kDone;
  const auto key = key_of(args, key_text, code);
  if (!key) return code;
  auto client = connect(args, code);
  if (!client) return code;
  const Outcome stat = client->stat(*key);
  if (stat.status != Status::kOk) return explain(stat.status, "get " + shown(*key), *client);
  std::FILE* out = file.empty() ? stdout : std::fopen(file.c_str(), "wb");
  if (out == nullptr) return complain("'" + file + "' cannot be written", kUsage);
  Bytes buffer(std::min<uint64_t>(stat.block_bytes, kPieceBytes));
  Status status = Status::kOk;
  for (uint64_t at = 0; at < stat.block_bytes && status == Status::kOk; at += buffer.size()) {
    const size_t n = std::min<uint64_t>(buffer.size(), stat.block_bytes - at);
    Batch batch;
    batch.get(*key, Scatter(buffer.data(), n), at, stat.generation);
    status = client->run(batch)[0].status;
    if (status == Status::kOk && std::fwrite(buffer.data(), 1, n, out) != n) {
      code = complain("'" + file + "' cannot be written: is the disk full?", kFailed);
      break;
    }
  }
  if ((out == stdout ? std::fflush(out) : std::fclose(out)) != 0) code = complain("output cannot be written", kFailed);
  return status == Status::kOk ? code : explain(status, "get " + shown(*key), *client);
}

int run_exists(const ClientArgs& args, const std::vector<std::string>& texts) {
  int code = kDone;
  std::vector<std::string> keys;
  for (const std::string& text : texts) {
    const auto key = key_of(args, text, code);
    if (!key) return code;
    keys.push_back(*key);
  }
  auto client = connect(args, code);
  if (!client) return code;
  Batch batch;
  for (const std::string& key : keys) batch.exists(key);
  const auto outcomes = client->run(batch);
  for (size_t i = 0; i < keys.size(); ++i) {
    if (outcomes[i].status != Status::kOk && outcomes[i].status != Status::kMiss)
      return explain(outcomes[i].status, "exists", *client);
    if (!outcomes[i].exists) code = kMissing;
    std::printf("%s %s\n", outcomes[i].exists ? "yes" : "no ", shown(keys[i]).c_str());
  }
  return code;
}

int run_rm(const ClientArgs& args, const std::vector<std::string>& texts) {
  int code = kDone;
  auto client = connect(args, code);
  if (!client) return code;
  for (const std::string& text : texts) {
    const auto key = key_of(args, text, code);
    if (!key) return code;
    const Outcome outcome = client->remove(*key);
    if (outcome.status != Status::kOk) code = explain(outcome.status, "rm " + shown(*key), *client);
    if (code > kMissing) return code;
  }
  return code;
}

int run_stat(const ClientArgs& args, const std::string& text) {
  int code = kDone;
  const auto key = key_of(args, text, code);
  if (!key) return code;
  auto client = connect(args, code);
  if (!client) return code;
  const Outcome outcome = client->stat(*key);
  if (outcome.status != Status::kOk) return explain(outcome.status, "stat " + shown(*key), *client);
  const std::string server = client->server_name(client->server_of(*key));
  if (args.json) {
    const nlohmann::json json = {{"key", shown(*key)},
                                 {"block_bytes", outcome.block_bytes},
                                 {"generation", outcome.generation},
                                 {"server", server}};
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("key         %s\nbytes       %llu (%s)\ngeneration  %llu\nserver      %s\n", shown(*key).c_str(),
                static_cast<unsigned long long>(outcome.block_bytes), base::format_bytes(outcome.block_bytes).c_str(),
                static_cast<unsigned long long>(outcome.generation), server.c_str());
  }
  return kDone;
}

int run_ls(const ClientArgs& args) {
  int code = kDone;
  auto client = connect(args, code);
  if (!client) return code;
  nlohmann::json all = nlohmann::json::array();
  for (size_t s = 0; s < client->server_count(); ++s) {
    if (!args.all_servers && s != args.server) continue;
    auto blocks = client->list(s);
    if (!blocks) return explain(blocks.error().status, "ls of " + client->server_name(s), *client);
    for (const ListedBlock& b : *blocks) {
      if (args.json)
        all.push_back({{"key", shown(b.key)},
                       {"block_bytes", b.block_bytes},
                       {"generation", b.generation},
                       {"server", client->server_name(s)}});
      else
        std::printf("%12llu  %s\n", static_cast<unsigned long long>(b.block_bytes), shown(b.key).c_str());
    }
  }
  if (args.json) std::printf("%s\n", all.dump(2).c_str());
  return code;
}

int run_flush(const ClientArgs& args) {
  int code = kDone;
  auto client = connect(args, code);
  if (!client) return code;
  const Outcome outcome = client->flush();
  return outcome.status == Status::kOk ? kDone : explain(outcome.status, "flush", *client);
}

namespace {

void print_status(const std::string& name, const std::string& address, const nlohmann::json& json) {
  std::printf("%s  %s\n", name.c_str(), address == name ? "" : address.c_str());
  const std::function<void(const nlohmann::json&, int)> print = [&](const nlohmann::json& j, int depth) {
    for (const auto& [key, value] : j.items()) {
      if (value.is_object() || value.is_array()) {
        std::printf("%*s%s\n", depth * 2, "", key.c_str());
        print(value, depth + 1);
      } else {
        std::string text = value.is_string() ? value.get<std::string>() : value.dump();
        if (value.is_number_unsigned() && key.find("bytes") != std::string::npos)
          text += " (" + base::format_bytes(value.get<uint64_t>()) + ")";
        std::printf("%*s%-*s %s\n", depth * 2, "", 34 - depth * 2, key.c_str(), text.c_str());
      }
    }
  };
  print(json, 1);
}

}  // namespace

int run_status(const ClientArgs& args) {
  int code = kDone;
  auto client = connect(args, code);
  if (!client) return code;
  nlohmann::json all = nlohmann::json::array();
  for (size_t s = 0; s < client->server_count(); ++s) {
    auto text = client->server_status(s);
    if (!text) {
      code = explain(text.error().status, "status of " + client->server_name(s), *client);
      if (args.json)
        all.push_back({{"server", client->server_name(s)}, {"error", std::string(to_string(text.error().status))}});
      continue;
    }
    nlohmann::json json = nlohmann::json::parse(*text, nullptr, false);
    if (json.is_discarded()) return complain("the server's status is not JSON", kFailed);
    if (args.json) {
      json["server"] = client->server_name(s);
      all.push_back(json);
    } else {
      print_status(client->server_name(s), client->server_name(s), json);
    }
  }
  if (args.json) std::printf("%s\n", all.dump(2).c_str());
  return code;
}

}  // namespace memkv::tool
