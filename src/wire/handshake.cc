#include "wire/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/sha.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "base/bytes.h"
#include "base/hex.h"
#include "base/random.h"

namespace memkv::wire {
namespace {

using Digest256 = std::array<uint8_t, 32>;
constexpr std::string_view kServerLabel = "memkv server proof";
constexpr std::string_view kClientLabel = "memkv client proof";
constexpr size_t kProofBytes = 32;

Digest256 sha256(std::initializer_list<std::span<const std::byte>> parts) {
  Digest256 out{};
  EVP_MD_CTX* ctx = EVP_MD_CTX_new();
  EVP_DigestInit_ex(ctx, EVP_sha256(), nullptr);
  for (const auto& p : parts) EVP_DigestUpdate(ctx, p.data(), p.size());
  EVP_DigestFinal_ex(ctx, out.data(), nullptr);
  EVP_MD_CTX_free(ctx);
  return out;
}

Digest256 make_proof(const Secret& secret, std::string_view label, const Digest256& transcript) {
  std::array<uint8_t, 64> text{};
  std::memcpy(text.data(), label.data(), label.size());
  std::memcpy(text.data() + label.size(), transcript.data(), transcript.size());
  Digest256 out{};
  unsigned int n = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()), text.data(), label.size() + transcript.size(), out.data(), &n);
  return out;
}

base::SipKey derive(const Secret& secret, const Digest256& transcript, std::string_view info) {
  std::array<uint8_t, 16> out{};
  size_t n = out.size();
  EVP_PKEY_CTX* ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, nullptr);
  EVP_PKEY_derive_init(ctx);
  EVP_PKEY_CTX_set_hkdf_md(ctx, EVP_sha256());
  EVP_PKEY_CTX_set1_hkdf_salt(ctx, transcript.data(), static_cast<int>(transcript.size()));
  EVP_PKEY_CTX_set1_hkdf_key(ctx, secret.data(), static_cast<int>(secret.size()));
  EVP_PKEY_CTX_add1_hkdf_info(ctx, reinterpret_cast<const unsigned char*>(info.data()), static_cast<int>(info.size()));
  EVP_PKEY_derive(ctx, out.data(), &n);
  EVP_PKEY_CTX_free(ctx);
  const base::SipKey key{base::load_u64(out.data()), base::load_u64(out.data() + 8)};
  OPENSSL_cleanse(out.data(), out.size());
  return key;
}

SessionKeys session_keys(const Secret& secret, const Digest256& transcript) {
  return {derive(secret, transcript, "memkv client to server"), derive(secret, transcript, "memkv server to client")};
}

/// Writes a frame with the frozen header of the handshake; returns its size.
template <typename Message>
size_t make_frame(Opcode opcode, const Message& message, std::span<std::byte> out) {
  FrameHeader h;
  h.version = 0;
  h.opcode = opcode;
  const size_t body = encode(message, out.subspan(kHeaderBytes));
  h.body_bytes = static_cast<uint32_t>(body);
  encode(h, out.first<kHeaderBytes>());
  return kHeaderBytes + body;
}

/// Header and body of a whole frame without payload.
struct Frame {
  FrameHeader header;
  std::span<const std::byte> body;
};

Result<Frame> open_frame(std::span<const std::byte> bytes) {
  if (bytes.size() < kHeaderBytes || bytes.size() > kHelloBytesMax) return Error{Status::kInvalid, 0, "handshake: bad frame size"};
  auto header = decode_header(bytes.first<kHeaderBytes>());
  if (!header) return header.error();
  if (header->payload_bytes != 0 || header->body_bytes != bytes.size() - kHeaderBytes) {
    return Error{Status::kInvalid, 0, "handshake: lengths do not match"};
  }
  return Frame{*header, bytes.subspan(kHeaderBytes)};
}

}  // namespace

KeyId key_id_of(const Secret& secret) {
  const Digest256 hash = sha256({base::as_bytes(std::string_view("memkv key id")), base::bytes_of(secret.data(), secret.size())});
  KeyId id;
  std::memcpy(id.data(), hash.data(), id.size());
  return id;
}

Result<Secret, Message> parse_secret(std::string_view text) {
  std::string content(text);
  std::string where = "the credential";
  if (!content.empty() && content[0] == '@') {
    const std::string path = content.substr(1);
    std::ifstream in(path);
    if (!in) return Message{Status::kInvalid, "the credential file '" + path + "' cannot be read; is the path right, and may you read it?"};
    content.assign(std::istreambuf_iterator<char>(in), {});
    while (!content.empty() && (content.back() == '\n' || content.back() == '\r' || content.back() == ' ')) content.pop_back();
    where = "the credential in '" + path + "'";
  }
  Secret secret{};
  if (content.size() != 64 || !base::hex_decode(content, base::mut_bytes_of(secret.data(), secret.size()))) {
    return Message{Status::kInvalid, where + " must be 64 hex characters (32 bytes), or @FILE that holds them; it has " +
                                         std::to_string(content.size()) + " characters. `memkv setup` makes one."};
  }
  return secret;
}

Secret make_secret() {
  Secret secret{};
  base::os_random(base::mut_bytes_of(secret.data(), secret.size()));
  return secret;
}

ClientHandshake::ClientHandshake(const Secret& secret, Hello hello) : secret_(secret) {
  hello.key_id = key_id_of(secret);
  base::os_random(base::mut_bytes_of(hello.nonce.data(), hello.nonce.size()));
  hello.client_name = hello.client_name.substr(0, 256);
  hello_bytes_ = make_frame(Opcode::kHello, hello, hello_);
}

std::span<const std::byte> ClientHandshake::start() { return {hello_.data(), hello_bytes_}; }

Result<std::span<const std::byte>> ClientHandshake::on_reply(std::span<const std::byte> bytes) {
  auto frame = open_frame(bytes);
  if (!frame) return frame.error();
  if (frame->header.opcode == Opcode::kGoodbye) {
    auto goodbye = decode_goodbye(frame->body);
    if (!goodbye) return goodbye.error();
    goodbye_text_.assign(goodbye->text);
    return Error{is_failure(goodbye->status) ? goodbye->status : Status::kUnavailable, 0, "the server said goodbye"};
  }
  if (frame->header.opcode != Opcode::kHelloReply) return Error{Status::kInvalid, 0, "handshake: not a HELLO_REPLY"};
  auto reply = decode_hello_reply(frame->body);
  if (!reply) return reply.error();
  const std::span<const std::byte> hello_body(hello_.data() + kHeaderBytes, hello_bytes_ - kHeaderBytes);
  const Digest256 transcript = sha256({hello_body, frame->body.first(frame->body.size() - kProofBytes)});
  const Digest256 expected = make_proof(secret_, kServerLabel, transcript);
  if (CRYPTO_memcmp(expected.data(), reply->proof.data(), expected.size()) != 0) {
    return Error{Status::kUnauthorized, 0, "the server does not know this credential"};
  }
  if (reply->version < kVersionMin || reply->version > kVersionMax) return Error{Status::kVersion, 0, "the server chose an unknown version"};
  version_ = reply->version;
  server_name_.assign(reply->server_name);
  keys_ = session_keys(secret_, transcript);
  const size_t n = make_frame(Opcode::kProof, Proof{make_proof(secret_, kClientLabel, transcript)}, proof_);
  OPENSSL_cleanse(secret_.data(), secret_.size());
  return std::span<const std::byte>(proof_.data(), n);
}

ServerHandshake::ServerHandshake(FindSecret find, void* context, std::string_view server_name)
    : find_(find), context_(context), server_name_(server_name.substr(0, 256)) {}

Result<std::span<const std::byte>> ServerHandshake::on_hello(std::span<const std::byte> bytes) {
  auto frame = open_frame(bytes);
  if (!frame) return frame.error();
  if (frame->header.opcode != Opcode::kHello) return Error{Status::kInvalid, 0, "handshake: not a HELLO"};
  auto hello = decode_hello(frame->body);
  if (!hello) return hello.error();
  const uint16_t version = std::min<uint16_t>(kVersionMax, hello->version_max);
  if (version < kVersionMin || version < hello->version_min) {
    const std::string text = "no protocol version in common: this server speaks " + std::to_string(kVersionMin) + " to " + std::to_string(kVersionMax) +
                             ", the client " + std::to_string(hello->version_min) + " to " + std::to_string(hello->version_max) +
                             "; upgrade the older one";
    goodbye_bytes_ = make_frame(Opcode::kGoodbye, Goodbye{Status::kVersion, text}, reply_);
    return Error{Status::kVersion, 0, "no protocol version in common"};
  }
  Secret secret{};
  if (!find_(context_, hello->key_id, secret)) secret = make_secret();
  key_id_ = hello->key_id;
  wanted_worker_ = hello->wanted_worker;
  HelloReply reply;
  reply.version = version;
  base::os_random(base::mut_bytes_of(reply.nonce.data(), reply.nonce.size()));
  reply.server_name = server_name_;
  const size_t n = make_frame(Opcode::kHelloReply, reply, reply_);
  const std::span<const std::byte> unproven(reply_.data() + kHeaderBytes, n - kHeaderBytes - kProofBytes);
  const Digest256 transcript = sha256({frame->body, unproven});
  const Digest256 proof = make_proof(secret, kServerLabel, transcript);
  std::memcpy(reply_.data() + n - kProofBytes, proof.data(), proof.size());
  expected_proof_ = make_proof(secret, kClientLabel, transcript);
  keys_ = session_keys(secret, transcript);
  OPENSSL_cleanse(secret.data(), secret.size());
  return std::span<const std::byte>(reply_.data(), n);
}

Result<void> ServerHandshake::on_proof(std::span<const std::byte> bytes) {
  auto frame = open_frame(bytes);
  if (!frame) return frame.error();
  if (frame->header.opcode != Opcode::kProof) return Error{Status::kInvalid, 0, "handshake: not a PROOF"};
  auto proof = decode_proof(frame->body);
  if (!proof) return proof.error();
  if (CRYPTO_memcmp(expected_proof_.data(), proof->proof.data(), expected_proof_.size()) != 0) {
    goodbye_bytes_ = make_frame(Opcode::kGoodbye, Goodbye{Status::kUnauthorized, "the credential was not accepted"}, reply_);
    return Error{Status::kUnauthorized, 0, "the client did not prove the credential"};
  }
  return {};
}

}  // namespace memkv::wire
