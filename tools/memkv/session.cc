#include "tools/memkv/session.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <sstream>

#include "base/bytes.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/units.h"
#include "client/settings.h"
#include "tools/output.h"

namespace memkv::cli {
namespace {

constexpr Deadline kProbeTimeout = std::chrono::seconds(2);

bool printable(char c) { return c > ' ' && c < 0x7f && c != '\\'; }

Message invalid(std::string text) { return {Status::kInvalid, std::move(text)}; }

Result<ClientOptions, Message> client_options(const Common& common, Deadline timeout) {
  ClientOptions options;
  options.servers = common.servers;
  options.namespace_key = common.auth_key;
  options.config_file = common.config;
  options.get_timeout = timeout;
  options.put_timeout = timeout;
  options.io_contexts = 1;
  if (!common.transport.empty()) {
    auto transport = client::parse_transport(common.transport, "--transport");
    if (!transport) return transport.error();
    options.transport = *transport;
  }
  if (!common.log_level.empty()) {
    auto level = client::parse_log_level(common.log_level, "--log-level");
    if (!level) return level.error();
    options.log_level = common.log_level;
  }
  return options;
}

/// What a status means to the person who typed the command, beyond its name.
std::string_view hint(Status status) {
  switch (status) {
    case Status::kExists:
      return "there already; nothing was written";
    case Status::kRefused:
      return "the put was not taken; nothing was written";
    case Status::kChanged:
      return "the block was replaced while it was read";
    case Status::kTooLarge:
      return "too large for this store: a block has at most a quarter of a shard's room";
    case Status::kUnauthorized:
      return "check --auth-key, MEMKV_AUTH_KEY";
    case Status::kVersion:
      return "client and server have no protocol version in common";
    case Status::kUnavailable:
      return "does it run (`memkv start`)? check --servers, MEMKV_SERVERS";
    case Status::kBusy:
      return "the server had no room for one more op; try again";
    case Status::kNotReady:
      return "the server is still recovering its index; try again";
    case Status::kDeadline:
      return "no answer in time; see --timeout";
    case Status::kUnknown:
      return "the reply was lost: it may or may not have happened";
    case Status::kNoSpace:
      return "the store had no room, and could evict nothing in time";
    case Status::kIo:
      return "a drive failed; the server's log says which";
    case Status::kCorrupt:
      return "the bytes failed their checksum and were dropped";
    default:
      return "";
  }
}

}  // namespace

ExitCode exit_code(Status status) {
  switch (status) {
    case Status::kOk:
      return kExitDone;
    case Status::kMiss:
    case Status::kExists:
      return kExitMiss;
    case Status::kInvalid:
    case Status::kTooLarge:
      return kExitUsage;
    case Status::kRefused:
    case Status::kBusy:
    case Status::kNotReady:
    case Status::kDeadline:
    case Status::kUnavailable:
    case Status::kUnknown:
      return kExitUnavailable;
    case Status::kUnauthorized:
      return kExitUnauthorized;
    default:
      return kExitFailed;
  }
}

int fail(ExitCode code, std::string_view text) {
  tools::say("memkv: {}\n", text);
  return code;
}

int fail(const Message& message) { return fail(exit_code(message.status), message.text); }

Result<std::string, Message> parse_key(const std::string& text, bool hex) {
  std::string key = text;
  if (hex) {
    key.assign(text.size() / 2, '\0');
    if (!base::hex_decode(text, base::mut_bytes_of(key.data(), key.size()))) {
      return invalid(fmt::format("key '{}' is not hex: --hex wants pairs of digits 0-9 a-f", text));
    }
  }
  if (key.empty()) return invalid(fmt::format("the key is empty: keys have 1 to {} bytes", kKeyBytesMax));
  if (key.size() > kKeyBytesMax) {
    return invalid(fmt::format("the key has {} bytes: keys have 1 to {}", key.size(), kKeyBytesMax));
  }
  return key;
}

std::string show_key(std::string_view key) {
  std::string shown;
  for (const char c : key) {
    if (printable(c)) {
      shown += c;
    } else {
      shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return shown;
}

std::string key_hex(std::string_view key) { return base::hex_encode(base::as_bytes(key)); }

Result<Connected, Message> connect(const Common& common) {
  Deadline timeout{0};
  if (!common.timeout.empty()) {
    auto parsed = base::parse_duration_ns(common.timeout);
    if (!parsed) return Message{Status::kInvalid, "--timeout: " + parsed.error().text};
    if (*parsed == 0) return invalid("--timeout is 0: give it some time, such as 5s");
    timeout = Deadline(*parsed);
  }
  base::set_log_level(base::LogLevel::kError);  // the command reports a failure itself, once
  auto options = client_options(common, timeout);
  if (!options) return options.error();
  auto client = Client::connect(std::move(options).value());
  if (!client) return client.error();
  return Connected{std::move(client).value(), timeout};
}

std::optional<Error> server_trouble(Connected& connected, size_t server) {
  const Deadline patience = connected.timeout.count() > 0 ? std::min(connected.timeout, kProbeTimeout) : kProbeTimeout;
  auto status = connected.client.server_status(server, patience);
  if (status) return std::nullopt;
  return status.error();
}

std::string told_of(Connected& connected, size_t server, const Error& error) {
  std::istringstream lines(connected.client.describe());
  std::string line;
  for (size_t i = 0; i <= server; ++i) {
    if (!std::getline(lines, line)) line.clear();
  }
  const std::string word = fmt::format(": {}", to_string(error.status));
  if (line.find(word) != line.npos) return line;
  return connected.client.server_name(server) + word;
}

std::string describe_trouble(Connected& connected, size_t server, const Error& error) {
  std::string text = fmt::format("server {}", told_of(connected, server, error));
  if (const auto more = hint(error.status); !more.empty()) text += fmt::format("; {}", more);
  return text;
}

int explain(Connected& connected, std::string_view doing, std::string_view key, Status status) {
  const std::string what = fmt::format("{} {}", doing, show_key(key));
  const bool maybe_away = status == Status::kMiss || status == Status::kRefused || status == Status::kUnavailable ||
                          status == Status::kDeadline || status == Status::kUnauthorized || status == Status::kInvalid;
  if (maybe_away) {
    const size_t server = connected.client.server_of(key);
    if (const auto trouble = server_trouble(connected, server)) {
      return fail(exit_code(trouble->status), what + ": " + describe_trouble(connected, server, *trouble));
    }
  }
  std::string text = fmt::format("{}: {}", what, to_string(status));
  if (const auto more = hint(status); !more.empty()) text += fmt::format(": {}", more);
  return fail(exit_code(status), text);
}

}  // namespace memkv::cli
