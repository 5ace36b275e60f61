#pragma once
/// Mutual authentication as two state machines that take bytes and give bytes, without I/O (docs/wire-protocol.md,
/// "Opening a connection"). The objects wipe secrets and keys when they go, and the secret already when it is not
/// needed any more.
///
///   client                          server
///   start()     ---- HELLO ------>  on_hello()
///   on_reply()  <- HELLO_REPLY ---               holds the server's proof
///               ---- PROOF ------>  on_proof()   the client's proof; now both sides have keys()

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
/// Loads what handshakes need of libcrypto. Call it early, so that the first handshake does not load it while the
/// process exits.
void prepare_handshakes();
/// True for secrets that nobody draws at random: all zeros (which mean "no credential"), one byte or a short pattern
/// repeated, bytes that count up or down. Chance makes one of these less than once in 10^20.
bool is_weak(const Secret& secret);
/// Reads 64 hex characters, or @FILE for a file that holds them. A weak secret is refused. The message names the
/// problem, never the secret.
Result<Secret, Message> parse_secret(std::string_view text);
Secret make_secret();

/// The keys of the MACs, one for each direction.
struct SessionKeys {
  base::SipKey client_to_server;
  base::SipKey server_to_client;
};

/// What both sides compute from the secret and the transcript.
struct Agreement {
  std::array<uint8_t, 32> server_proof;
  std::array<uint8_t, 32> client_proof;
  SessionKeys keys;
};
/// `hello` is the HELLO body, `reply` the HELLO_REPLY body without its proof. The caller wipes the result.
Agreement agree(const Secret& secret, std::span<const std::byte> hello, std::span<const std::byte> reply);

/// The client's side. start() gives the HELLO frame. on_reply() checks the server's proof and gives the PROOF frame.
/// From then on keys() are valid.
class ClientHandshake {
 public:
  ClientHandshake(const Secret& secret, Hello hello);  ///< fills key id and nonce
  ClientHandshake(const ClientHandshake&) = default;
  ClientHandshake& operator=(const ClientHandshake&) = default;
  ~ClientHandshake();

  std::span<const std::byte> start();
  /// Takes the one frame that answers HELLO: a whole HELLO_REPLY or GOODBYE. kUnauthorized: the server did not prove
  /// that it has the key. Other failures (kVersion, ...): the GOODBYE said so.
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

/// The server's side. on_hello() gives HELLO_REPLY, or an error and a goodbye(). on_proof() checks the client's proof.
/// Each is called once, in this order; otherwise it answers kInvalid.
class ServerHandshake {
 public:
  /// Finds the secret of a key id. If it returns false (unknown), a random secret is used: so an unknown id fails in
  /// the same way as a wrong key.
  using FindSecret = bool (*)(void* context, const KeyId& id, Secret& out);
  /// `features`: what this server would use, if the client has it too.
  ServerHandshake(FindSecret find, void* context, std::string_view server_name, uint32_t features = kFeatures);
  ServerHandshake(const ServerHandshake&) = default;
  ServerHandshake& operator=(const ServerHandshake&) = default;
  ~ServerHandshake();

  Result<std::span<const std::byte>> on_hello(std::span<const std::byte> frame);
  Result<void> on_proof(std::span<const std::byte> frame);
  /// The GOODBYE frame to send after an error, before closing. Empty: just close.
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
