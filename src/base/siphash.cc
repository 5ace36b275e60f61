#include "base/siphash.h"

#include <algorithm>

#include "base/assert.h"

namespace memkv::base {

SipStream::SipStream(const SipKey& key, Width width)
    : v0_(key.k0 ^ 0x736f6d6570736575u),
      v1_(key.k1 ^ 0x646f72616e646f6du),
      v2_(key.k0 ^ 0x6c7967656e657261u),
      v3_(key.k1 ^ 0x7465646279746573u),
      width_(width) {
  if (width == Width::k128) v1_ ^= 0xee;
}

inline void SipStream::rounds(int n) {
  for (int i = 0; i < n; ++i) {
    v0_ += v1_;
    v1_ = std::rotl(v1_, 13) ^ v0_;
    v0_ = std::rotl(v0_, 32);
    v2_ += v3_;
    v3_ = std::rotl(v3_, 16) ^ v2_;
    v0_ += v3_;
    v3_ = std::rotl(v3_, 21) ^ v0_;
    v2_ += v1_;
    v1_ = std::rotl(v1_, 17) ^ v2_;
    v2_ = std::rotl(v2_, 32);
  }
}

inline void SipStream::compress(uint64_t word) {
  v3_ ^= word;
  rounds(2);
  v0_ ^= word;
}

void SipStream::update(Bytes data) {
  const std::byte* at = data.data();
  const std::byte* end = at + data.size();
  size_t held = size_ & 7;
  size_ += data.size();
  if (held != 0) {
    for (; held < 8 && at < end; ++held, ++at) pending_ |= static_cast<uint64_t>(*at) << (8 * held);
    if (held < 8) return;
    compress(pending_);
    pending_ = 0;
  }
  for (; end - at >= 8; at += 8) compress(load_u64(at));
  for (held = 0; at < end; ++held, ++at) pending_ |= static_cast<uint64_t>(*at) << (8 * held);
}

void SipStream::finalize(uint64_t mark) {
  compress(pending_ | size_ << 56);
  v2_ ^= mark;
  rounds(4);
}

uint64_t SipStream::finish64() {
  MEMKV_ASSERT(width_ == Width::k64);
  finalize(0xff);
  return v0_ ^ v1_ ^ v2_ ^ v3_;
}

Hash128 SipStream::finish128() {
  MEMKV_ASSERT(width_ == Width::k128);
  finalize(0xee);
  Hash128 out;
  out.lo = v0_ ^ v1_ ^ v2_ ^ v3_;
  v1_ ^= 0xdd;
  rounds(4);
  out.hi = v0_ ^ v1_ ^ v2_ ^ v3_;
  return out;
}

uint64_t siphash64(Bytes data, const SipKey& key) {
  SipStream stream(key, SipStream::Width::k64);
  stream.update(data);
  return stream.finish64();
}

Hash128 siphash128(Bytes data, const SipKey& key) {
  SipStream stream(key, SipStream::Width::k128);
  stream.update(data);
  return stream.finish128();
}

}  // namespace memkv::base
