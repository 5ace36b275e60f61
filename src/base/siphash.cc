#include "base/siphash.h"

#include <bit>

namespace memkv::base {

SipStream::SipStream(const SipKey& key)
    : v0_(key.k0 ^ 0x736f6d6570736575u),
      v1_(key.k1 ^ 0x646f72616e646f6du ^ 0xee),  // 0xee marks the variant with an output of 128 bits
      v2_(key.k0 ^ 0x6c7967656e657261u),
      v3_(key.k1 ^ 0x7465646279746573u) {}

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

Hash128 SipStream::finish128() {
  compress(pending_ | size_ << 56);
  v2_ ^= 0xee;
  rounds(4);
  Hash128 out;
  out.lo = v0_ ^ v1_ ^ v2_ ^ v3_;
  v1_ ^= 0xdd;
  rounds(4);
  out.hi = v0_ ^ v1_ ^ v2_ ^ v3_;
  return out;
}

}  // namespace memkv::base
