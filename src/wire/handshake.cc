#include "wire/handshake.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include <algorithm>
#include <bitset>
#include <cstring>
#include <fstream>
#include <memory>
#include <utility>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hex.h"
#include "base/random.h"

namespace memkv::wire {
namespace {

using Digest = std::array<uint8_t, 32>;

constexpr std::string_view kServerLabel = "memkv server proof";
constexpr std::string_view kClientLabel = "memkv client proof";
constexpr size_t kProofBytes = sizeof(Digest);
constexpr size_t kNameBytesMax = 256;
constexpr size_t kGoodbyeTextMax = 512;
constexpr std::streamsize kSecretFileBytesMax = 4096;

/// libcrypto fails here only when it is broken or out of memory. If we went on, the keys would be zeros.
void must(bool done) { MEMKV_ASSERT(done, "libcrypto failed"); }

template <typename T>
base::Bytes raw(const T& value) {
  return base::bytes_of(value.data(), value.size());
}
template <typename T>
void wipe(T& value) {
  OPENSSL_cleanse(value.data(), value.size());
}
void wipe(SessionKeys& keys) { OPENSSL_cleanse(&keys, sizeof keys); }
void wipe(Agreement& agreement) { OPENSSL_cleanse(&agreement, sizeof agreement); }

/// libcrypto's algorithms, in a context of our own that lives as long as the process. The default context will not do:
/// in a foreign program an openssl.cnf may have changed it, and exit() tears it down while our threads still shake
/// hands.
/// Thread: any.
struct Crypto {
  OSSL_LIB_CTX* context = nullptr;
  EVP_MD* sha256 = nullptr;
  EVP_MAC* hmac = nullptr;
  EVP_KDF* hkdf = nullptr;

  Crypto() {
    must(OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT | OPENSSL_INIT_NO_LOAD_CONFIG, nullptr) == 1);
    context = OSSL_LIB_CTX_new();
    must(context && OSSL_PROVIDER_load(context, "default"));
    sha256 = EVP_MD_fetch(context, "SHA256", nullptr);
    hmac = EVP_MAC_fetch(context, "HMAC", nullptr);
    hkdf = EVP_KDF_fetch(context, "HKDF", nullptr);
    must(sha256 && hmac && hkdf);
  }
};

const Crypto& crypto() {
  static const Crypto& loaded = *new Crypto;
  return loaded;
}

OSSL_PARAM digest_parameter(const char* name) {
  static char sha256[] = "SHA256";
  return OSSL_PARAM_construct_utf8_string(name, sha256, 0);
}

OSSL_PARAM bytes_parameter(const char* name, const void* data, size_t size) {
  return OSSL_PARAM_construct_octet_string(name, const_cast<void*>(data), size);  // read only
}

Digest sha256(base::Bytes first, base::Bytes second) {
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  must(context && EVP_DigestInit_ex2(context.get(), crypto().sha256, nullptr) == 1);
  must(EVP_DigestUpdate(context.get(), first.data(), first.size()) == 1);
  must(EVP_DigestUpdate(context.get(), second.data(), second.size()) == 1);
  Digest digest;
  must(EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) == 1);
  return digest;
}

/// HMAC-SHA256(secret, label ‖ transcript).
Digest make_proof(const Secret& secret, std::string_view label, const Digest& transcript) {
  const std::unique_ptr<EVP_MAC_CTX, void (*)(EVP_MAC_CTX*)> context(EVP_MAC_CTX_new(crypto().hmac), EVP_MAC_CTX_free);
  const OSSL_PARAM parameters[] = {digest_parameter(OSSL_MAC_PARAM_DIGEST), OSSL_PARAM_construct_end()};
  must(context && EVP_MAC_init(context.get(), secret.data(), secret.size(), parameters) == 1);
  must(EVP_MAC_update(context.get(), reinterpret_cast<const uint8_t*>(label.data()), label.size()) == 1);
  must(EVP_MAC_update(context.get(), transcript.data(), transcript.size()) == 1);
  Digest proof;
  size_t bytes = 0;
  must(EVP_MAC_final(context.get(), proof.data(), &bytes, proof.size()) == 1 && bytes == proof.size());
  return proof;
}

/// HKDF-SHA256(secret, salt = transcript, info), 16 bytes.
base::SipKey derive(const Secret& secret, const Digest& transcript, std::string_view info) {
  const std::unique_ptr<EVP_KDF_CTX, void (*)(EVP_KDF_CTX*)> context(EVP_KDF_CTX_new(crypto().hkdf), EVP_KDF_CTX_free);
  const OSSL_PARAM parameters[] = {
      digest_parameter(OSSL_KDF_PARAM_DIGEST),
      bytes_parameter(OSSL_KDF_PARAM_SALT, transcript.data(), transcript.size()),
      bytes_parameter(OSSL_KDF_PARAM_KEY, secret.data(), secret.size()),
      bytes_parameter(OSSL_KDF_PARAM_INFO, info.data(), info.size()),
      OSSL_PARAM_construct_end(),
  };
  std::array<uint8_t, 16> bytes;
  must(context && EVP_KDF_derive(context.get(), bytes.data(), bytes.size(), parameters) == 1);
  const base::SipKey key{base::load_u64(bytes.data()), base::load_u64(bytes.data() + 8)};
  wipe(bytes);
  return key;
}

bool equal(const Digest& a, const Digest& b) { return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0; }

/// A whole frame with the frozen header of the handshake; returns its size.
template <typename Message>
size_t make_frame(Opcode opcode, const Message& message, base::MutBytes out) {
  FrameHeader header;
  header.version = 0;
  header.opcode = opcode;
  const size_t body = encode(message, out.subspan(kHeaderBytes));
  MEMKV_ASSERT(body > 0, "handshake messages fit kHelloBytesMax");
  header.body_bytes = static_cast<uint32_t>(body);
  encode(header, out.first<kHeaderBytes>());
  return kHeaderBytes + body;
}

struct Frame {
  Opcode opcode{};
  base::Bytes body;
};

/// Checks and opens a whole frame without payload, in the frozen format of the handshake.
Result<Frame> open_frame(base::Bytes bytes) {
  if (bytes.size() < kHeaderBytes || bytes.size() > kHelloBytesMax) {
    return Error{Status::kInvalid, 0, "handshake: bad frame size"};
  }
  const auto header = decode_header(bytes.first<kHeaderBytes>());
  if (!header) return header.error();
  const FrameHeader& h = header.value();
  if (h.version != 0 || h.payload_bytes != 0 || h.body_bytes != bytes.size() - kHeaderBytes) {
    return Error{Status::kInvalid, 0, "handshake: malformed frame"};
  }
  return Frame{h.opcode, bytes.subspan(kHeaderBytes)};
}

Result<base::Bytes> open_frame(base::Bytes bytes, Opcode wanted) {
  const auto frame = open_frame(bytes);
  if (!frame) return frame.error();
  if (frame.value().opcode != wanted) return Error{Status::kInvalid, 0, "handshake: another message was due"};
  return frame.value().body;
}

/// What an unproven peer said, made fit for a log or a terminal.
std::string printable(std::string_view text) {
  std::string clean(text.substr(0, kGoodbyeTextMax));
  std::replace_if(
      clean.begin(), clean.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return clean;
}

std::string no_common_version(const Hello& hello) {
  return "no protocol version in common: this server speaks " + std::to_string(kVersionMin) + " to " +
         std::to_string(kVersionMax) + ", the client " + std::to_string(hello.version_min) + " to " +
         std::to_string(hello.version_max) + "; upgrade the older one";
}

/// The content of a secret's file; empty if it cannot be read.
std::string read_secret_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string text(static_cast<size_t>(kSecretFileBytesMax), '\0');
  in.read(text.data(), kSecretFileBytesMax);
  text.resize(static_cast<size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  return text;
}

}  // namespace

void prepare_handshakes() { crypto(); }

KeyId key_id_of(const Secret& secret) {
  const Digest hash = sha256(base::as_bytes(std::string_view("memkv key id")), raw(secret));
  KeyId id;
  std::memcpy(id.data(), hash.data(), id.size());
  return id;
}

bool is_weak(const Secret& secret) {
  constexpr size_t kDistinctMin = 12;  // 32 random bytes have about 30 different values
  std::bitset<256> values, steps;
  for (size_t i = 0; i < secret.size(); ++i) {
    values.set(secret[i]);
    if (i > 0) steps.set(static_cast<uint8_t>(secret[i] - secret[i - 1]));
  }
  return values.count() < kDistinctMin || steps.count() == 1;
}

Result<Secret, Message> parse_secret(std::string_view text) {
  std::string digits(text);
  std::string where = "the credential";
  if (text.starts_with('@')) {
    const std::string path(text.substr(1));
    where = "the credential in '" + path + "'";
    digits = read_secret_file(path);
    if (digits.empty()) {
      return Message{Status::kInvalid, "the credential file '" + path +
                                           "' is empty or cannot be read; is the path right, and may you read it?"};
    }
  }
  Secret secret{};
  const bool parsed =
      digits.size() == 2 * secret.size() && base::hex_decode(digits, base::mut_bytes_of(secret.data(), secret.size()));
  const size_t characters = digits.size();
  wipe(digits);
  const bool weak = parsed && is_weak(secret);
  if (parsed && !weak) return secret;
  wipe(secret);
  if (weak) {
    return Message{Status::kInvalid,
                   where +
                       " is weak: anybody can guess zeros, one byte or a short pattern over and over, "
                       "or bytes that count. Draw one at random: `memkv setup` does, or "
                       "`openssl rand -hex 32`."};
  }
  return Message{Status::kInvalid, where + " must be 64 hex characters (32 bytes), or @FILE that holds them; it has " +
                                       std::to_string(characters) + " characters. `memkv setup` makes one."};
}

Secret make_secret() {
  Secret secret;
  do base::os_random(base::mut_bytes_of(secret.data(), secret.size()));
  while (is_weak(secret));
  return secret;
}

Agreement agree(const Secret& secret, std::span<const std::byte> hello, std::span<const std::byte> reply) {
  const Digest transcript = sha256(hello, reply);
  Agreement agreement;
  agreement.server_proof = make_proof(secret, kServerLabel, transcript);
  agreement.client_proof = make_proof(secret, kClientLabel, transcript);
  agreement.keys.client_to_server = derive(secret, transcript, "memkv client to server");
  agreement.keys.server_to_client = derive(secret, transcript, "memkv server to client");
  return agreement;
}

ClientHandshake::ClientHandshake(const Secret& secret, Hello hello) : secret_(secret) {
  hello.key_id = key_id_of(secret);
  base::os_random(base::mut_bytes_of(hello.nonce.data(), hello.nonce.size()));
  hello.client_name = hello.client_name.substr(0, kNameBytesMax);
  version_min_ = hello.version_min;
  version_max_ = hello.version_max;
  features_ = hello.features;
  hello_bytes_ = make_frame(Opcode::kHello, hello, hello_);
}

ClientHandshake::~ClientHandshake() {
  wipe(secret_);
  wipe(keys_);
}

std::span<const std::byte> ClientHandshake::start() { return {hello_.data(), hello_bytes_}; }

Error ClientHandshake::on_goodbye(std::span<const std::byte> body) {
  const auto goodbye = decode_goodbye(body);
  if (!goodbye) return goodbye.error();
  goodbye_text_ = printable(goodbye.value().text);
  const Status status = goodbye.value().status;
  return Error{is_failure(status) ? status : Status::kUnavailable, 0, "the server said goodbye"};
}

Result<std::span<const std::byte>> ClientHandshake::on_reply(std::span<const std::byte> bytes) {
  // The client takes one reply only. At a second one the secret is already wiped, so a proof could not be checked.
  if (answered_) return Error{Status::kInvalid, 0, "handshake: a second reply"};
  answered_ = true;
  const auto frame = open_frame(bytes);
  if (!frame) return frame.error();
  const base::Bytes body = frame.value().body;
  if (frame.value().opcode == Opcode::kGoodbye) return on_goodbye(body);
  if (frame.value().opcode != Opcode::kHelloReply) return Error{Status::kInvalid, 0, "handshake: not a HELLO_REPLY"};
  const auto reply = decode_hello_reply(body);
  if (!reply) return reply.error();
  version_ = reply.value().version;
  features_ &= reply.value().features;
  server_name_ = reply.value().server_name;
  const bool offered = version_ >= version_min_ && version_ <= version_max_;
  Agreement agreement = agree(secret_, start().subspan(kHeaderBytes), body.first(body.size() - kProofBytes));
  const bool proven = equal(agreement.server_proof, reply.value().proof);
  if (proven) keys_ = agreement.keys;
  const size_t size = make_frame(Opcode::kProof, Proof{agreement.client_proof}, proof_);
  wipe(agreement);
  wipe(secret_);
  if (!proven) return Error{Status::kUnauthorized, 0, "the server does not know this credential"};
  if (!offered) return Error{Status::kVersion, 0, "the server chose a version that was not offered"};
  return std::span<const std::byte>(proof_.data(), size);
}

ServerHandshake::ServerHandshake(FindSecret find, void* context, std::string_view server_name, uint32_t features)
    : find_(find), context_(context), server_name_(server_name.substr(0, kNameBytesMax)), features_(features) {}

ServerHandshake::~ServerHandshake() {
  wipe(expected_proof_);
  wipe(keys_);
}

Error ServerHandshake::refuse(Status status, std::string_view text, const char* what) {
  step_ = Step::kOver;
  goodbye_bytes_ = make_frame(Opcode::kGoodbye, Goodbye{status, text}, reply_);
  return Error{status, 0, what};
}

Result<std::span<const std::byte>> ServerHandshake::on_hello(std::span<const std::byte> bytes) {
  if (std::exchange(step_, Step::kOver) != Step::kHello) return Error{Status::kInvalid, 0, "handshake: HELLO is over"};
  const auto body = open_frame(bytes, Opcode::kHello);
  if (!body) return body.error();
  const auto hello = decode_hello(body.value());
  if (!hello) return hello.error();
  const uint16_t version = std::min<uint16_t>(kVersionMax, hello.value().version_max);
  if (version < kVersionMin || version < hello.value().version_min) {
    return refuse(Status::kVersion, no_common_version(hello.value()), "no protocol version in common");
  }
  key_id_ = hello.value().key_id;
  wanted_worker_ = hello.value().wanted_worker;
  transport_ = hello.value().transport;
  features_ &= hello.value().features;
  client_name_ = hello.value().client_name;
  HelloReply reply;
  reply.version = version;
  reply.features = features_;
  reply.server_name = server_name_;
  base::os_random(base::mut_bytes_of(reply.nonce.data(), reply.nonce.size()));
  return answer(body.value(), reply);
}

std::span<const std::byte> ServerHandshake::answer(std::span<const std::byte> hello_body, HelloReply& reply) {
  Secret secret = make_secret();
  Secret found{};
  if (find_(context_, key_id_, found)) secret = found;
  wipe(found);
  size_t size = make_frame(Opcode::kHelloReply, reply, reply_);
  const auto unproven = std::span<const std::byte>(reply_).subspan(kHeaderBytes, size - kHeaderBytes - kProofBytes);
  Agreement agreement = agree(secret, hello_body, unproven);
  reply.proof = agreement.server_proof;
  expected_proof_ = agreement.client_proof;
  keys_ = agreement.keys;
  wipe(agreement);
  wipe(secret);
  size = make_frame(Opcode::kHelloReply, reply, reply_);
  step_ = Step::kProof;
  return {reply_.data(), size};
}

Result<void> ServerHandshake::on_proof(std::span<const std::byte> bytes) {
  if (std::exchange(step_, Step::kOver) != Step::kProof) {
    return Error{Status::kInvalid, 0, "handshake: no PROOF is due"};
  }
  const auto body = open_frame(bytes, Opcode::kProof);
  if (!body) return body.error();
  const auto proof = decode_proof(body.value());
  if (!proof) return proof.error();
  if (equal(expected_proof_, proof.value().proof)) return {};
  wipe(keys_);
  return refuse(Status::kUnauthorized, "the credential was not accepted", "the client did not prove the credential");
}

}  // namespace memkv::wire
