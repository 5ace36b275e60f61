#pragma once
/// Mutual authentication as two pure state machines: bytes in, bytes out, no I/O (docs/wire-protocol.md, "Opening a connection").

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/siphash.h"
#include "memkv/error.h"
#include "wire/messages.h"

namespace memkv::wire {

using Secret = std::array<uint8_t, 32>;      ///< a credential; all zero = none (loopback only)
using KeyId = std::array<uint8_t, 8>;

KeyId key_id_of(const Secret& secret);
/// 64 hex characters, or @FILE that holds them. The message names the problem, never the secret.
Result<Secret, Message> parse_secret(std::string_view text);
Secret make_secret();

struct SessionKeys { base::SipKey client_to_server; base::SipKey server_to_client; };

/// Client side: start() gives the HELLO frame; on_reply() checks the server's proof and gives the PROOF frame; then keys() are valid.
class ClientHandshake {
 public:
  ClientHandshake(const Secret& secret, Hello hello);   ///< fills key id and nonce
  std::span<const std::byte> start();
  /// `frame` = a whole HELLO_REPLY or GOODBYE frame. kUnauthorized: the server did not prove the key. kVersion, ...: as the GOODBYE said.
  Result<std::span<const std::byte>> on_reply(std::span<const std::byte> frame);
  const SessionKeys& keys() const { return keys_; }
  std::string_view server_name() const { return server_name_; }
  uint16_t version() const { return version_; }
  std::string_view goodbye_text() const { return goodbye_text_; }
 private:
  Secret secret_;
  std::array<std::byte, kHelloBytesMax> hello_{};
  size_t hello_bytes_ = 0;
  std::array<std::byte, 256> proof_{};
  SessionKeys keys_{};
  std::string server_name_;
  std::string goodbye_text_;
  uint16_t version_ = 0;
};

/// Server side: on_hello() gives HELLO_REPLY (or a GOODBYE: failed() then says why); on_proof() checks the client's.
class ServerHandshake {
 public:
  /// Finds the secret of a key id; false = unknown (a random one is used, so that it fails like a wrong key).
  using FindSecret = bool (*)(void* context, const KeyId& id, Secret& out);
  ServerHandshake(FindSecret find, void* context, std::string_view server_name);
  Result<std::span<const std::byte>> on_hello(std::span<const std::byte> frame);
  Result<void> on_proof(std::span<const std::byte> frame);
  /// After an error: the GOODBYE frame to send before closing (empty: just close).
  std::span<const std::byte> goodbye() const { return {reply_.data(), goodbye_bytes_}; }
  const SessionKeys& keys() const { return keys_; }
  const KeyId& key_id() const { return key_id_; }
  uint16_t wanted_worker() const { return wanted_worker_; }
 private:
  FindSecret find_;
  void* context_;
  std::string server_name_;
  std::array<std::byte, kHelloBytesMax> reply_{};
  size_t goodbye_bytes_ = 0;
  std::array<uint8_t, 32> expected_proof_{};
  SessionKeys keys_{};
  KeyId key_id_{};
  uint16_t wanted_worker_ = kAnyWorker;
};

}  // namespace memkv::wire
