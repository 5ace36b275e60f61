#pragma once
/// Mutual authentication as two pure state machines: bytes in, bytes out, no I/O (docs/wire-protocol.md, "Opening a
/// connection"). Secrets and keys are wiped when these objects go, and the secret as soon as it has served.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/siphash.h"
#include "memkv/error.h"
#include "wire/messages.h"

namespace memkv::wire {

using Secret = std::array<uint8_t, 32>;  ///< a credential; all zero = none (loopback only)
using KeyId = std::array<uint8_t, 8>;

KeyId key_id_of(const Secret& secret);
/// Loads what handshakes need of libcrypto, so that a handshake does not begin with it while the process exits.
void prepare_handshakes();
/// True for what nobody draws at random: all zeros (which stand for "no credential"), one byte or a short pattern over
/// and over, bytes that count up or down. Chance makes one of these less than once in 10^20.
bool is_weak(const Secret& secret);
/// 64 hex characters, or @FILE that holds them; a weak one is refused. The message names the problem, never the secret.
Result<Secret, Message> parse_secret(std::string_view text);
Secret make_secret();

struct SessionKeys {
  base::SipKey client_to_server;
  base::SipKey server_to_client;
};

/// What both sides get from the secret and the transcript.
struct Agreement {
  std::array<uint8_t, 32> server_proof;
  std::array<uint8_t, 32> client_proof;
  SessionKeys keys;
};
/// `hello` = the HELLO body, `reply` = the HELLO_REPLY body without its proof. The caller wipes the result.
Agreement agree(const Secret& secret, std::span<const std::byte> hello, std::span<const std::byte> reply);

/// Client side: start() gives the HELLO frame; on_reply() checks the server's proof and gives the PROOF frame; then
/// keys() are valid.
class ClientHandshake {
 public:
  ClientHandshake(const Secret& secret, Hello hello);  ///< fills key id and nonce
  ClientHandshake(const ClientHandshake&) = default;
  ClientHandshake& operator=(const ClientHandshake&) = default;
  ~ClientHandshake();

  std::span<const std::byte> start();
  /// `frame` = a whole HELLO_REPLY or GOODBYE frame; one, whatever it is. kUnauthorized: the server did not prove the
  /// key. kVersion, ...: as the GOODBYE said.
  Result<std::span<const std::byte>> on_reply(std::span<const std::byte> frame);
  const SessionKeys& keys() const { return keys_; }
  std::string_view server_name() const { return server_name_; }
  uint16_t version() const { return version_; }
  uint32_t features() const { return features_; }                  ///< that both ends have
  std::string_view goodbye_text() const { return goodbye_text_; }  ///< printable

 private:
  Error on_goodbye(std::span<const std::byte> body);

  Secret secret_;
  std::array<std::byte, kHelloBytesMax> hello_{};
  size_t hello_bytes_ = 0;
  std::array<std::byte, 256> proof_{};
  SessionKeys keys_{};
  std::string server_name_;
  std::string goodbye_text_;
  uint16_t version_min_ = 0;
  uint16_t version_max_ = 0;
  uint16_t version_ = 0;
  uint32_t features_ = 0;
  bool answered_ = false;
};

/// Server side: on_hello() gives HELLO_REPLY (or an error and a goodbye()); on_proof() checks the client's. Each once,
/// in this order; anything else is kInvalid.
class ServerHandshake {
 public:
  /// Finds the secret of a key id; false = unknown (a random one is used, so that it fails like a wrong key).
  using FindSecret = bool (*)(void* context, const KeyId& id, Secret& out);
  /// `features`: what this server would use, if the client has it too.
  ServerHandshake(FindSecret find, void* context, std::string_view server_name, uint32_t features = kFeatures);
  ServerHandshake(const ServerHandshake&) = default;
  ServerHandshake& operator=(const ServerHandshake&) = default;
  ~ServerHandshake();

  Result<std::span<const std::byte>> on_hello(std::span<const std::byte> frame);
  Result<void> on_proof(std::span<const std::byte> frame);
  /// After an error: the GOODBYE frame to send before closing (empty: just close).
  std::span<const std::byte> goodbye() const { return {reply_.data(), goodbye_bytes_}; }
  const SessionKeys& keys() const { return keys_; }  ///< valid once on_proof() was ok
  const KeyId& key_id() const { return key_id_; }
  uint16_t wanted_worker() const { return wanted_worker_; }
  uint8_t transport() const { return transport_; }  ///< as in HELLO
  uint32_t features() const { return features_; }   ///< that both ends have
  /// As the client calls itself: any bytes, at most kNameBytesMax of them.
  const std::string& client_name() const { return client_name_; }

 private:
  enum class Step : uint8_t { kHello, kProof, kOver };

  std::span<const std::byte> answer(std::span<const std::byte> hello_body, HelloReply& reply);
  Error refuse(Status status, std::string_view text, const char* what);

  FindSecret find_;
  void* context_;
  std::string server_name_;
  std::string client_name_;
  std::array<std::byte, kHelloBytesMax> reply_{};
  size_t goodbye_bytes_ = 0;
  std::array<uint8_t, 32> expected_proof_{};
  SessionKeys keys_{};
  KeyId key_id_{};
  uint16_t wanted_worker_ = kAnyWorker;
  uint8_t transport_ = kTransportTcp;
  uint32_t features_;  ///< ours, until HELLO came
  Step step_ = Step::kHello;
};

}  // namespace memkv::wire
