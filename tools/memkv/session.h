#pragma once
/// What the commands share: exit codes, keys, a connected client, and failures told to a human.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "memkv/client.h"
#include "tools/memkv/options.h"

namespace memkv::cli {

/// Exit codes. They are part of the interface: scripts rely on them (docs/operating.md, `memkv --help`).
enum ExitCode : int {
  kExitDone = 0,          ///< done, or a hit
  kExitMiss = 1,          ///< a miss, or one key of several is missing
  kExitUsage = 2,         ///< wrong command line or bad input
  kExitUnavailable = 3,   ///< the server cannot be reached, is not ready, or did not answer in time
  kExitUnauthorized = 4,  ///< the credential was not accepted
  kExitFailed = 5,        ///< any other failure
};

ExitCode exit_code(Status status);

/// Prints "memkv: TEXT" to stderr and returns the code.
int fail(ExitCode code, std::string_view text);
int fail(const Message& message);

/// The bytes of a key given on the command line. Checks its length.
Result<std::string, Message> parse_key(const std::string& text, bool hex);

/// Shows a key: printable keys as they are, others with \xNN escapes.
std::string show_key(std::string_view key);
std::string key_hex(std::string_view key);

/// A client and the deadline that the command line asked for.
struct Connected {
  Client client;
  Deadline timeout{0};
};
Result<Connected, Message> connect(const Common& common);

/// Prints one line for an op that did not do what was asked. Returns the exit code. After a miss it asks the server:
/// one that is away gives no answer, which a person should not read as a miss.
int explain(Connected& connected, std::string_view doing, std::string_view key, Status status);

/// Why the server does not answer; nothing if it does.
std::optional<Error> server_trouble(Connected& connected, size_t server);
/// "kv1 at HOST:PORT: unavailable: connect failed: ...": the client's own line, or what the op said.
std::string told_of(Connected& connected, size_t server, const Error& error);
std::string describe_trouble(Connected& connected, size_t server, const Error& error);

}  // namespace memkv::cli
