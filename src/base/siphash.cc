#include "base/siphash.h"

#include <bit>

namespace memkv::base {

SipStream::SipStream(const SipKey& key)
    : v0_(key.k0 ^ 0x736f6d6570736575u),
      v1_(key.k1 ^ 0x646f72616e646f6du ^ 0xee),  // 0xee marks the variant with an output of 128 bits
      v2_(key.k0 ^ 0x6c7967656e657261u),
      v3_(key.k1 ^ 0x7465646279746573u) {}

/// The state is worked on in registers: as members it would be loaded and stored at each word.
struct SipStream::State {
  uint64_t v0, v1, v2, v3;

  explicit State(const SipStream& s) : v0(s.v0_), v1(s.v1_), v2(s.v2_), v3(s.v3_) {}
  void store(SipStream& s) const {
    s.v0_ = v0;
    s.v1_ = v1;
    s.v2_ = v2;
    s.v3_ = v3;
  }
  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void compress(uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
  void end() {
    for (int i = 0; i < 4; ++i) round();
  }
};

void SipStream::update(Bytes data) {
  const std::byte* at = data.data();
  const std::byte* end = at + data.size();
  size_t held = size_ & 7;
  size_ += data.size();
  State state(*this);
  if (held != 0) {
    for (; held < 8 && at < end; ++held, ++at) pending_ |= static_cast<uint64_t>(*at) << (8 * held);
    if (held < 8) return;
    state.compress(pending_);
    pending_ = 0;
  }
  for (; end - at >= 8; at += 8) state.compress(load_u64(at));
  for (held = 0; at < end; ++held, ++at) pending_ |= static_cast<uint64_t>(*at) << (8 * held);
  state.store(*this);
}

Hash128 SipStream::finish128() {
  State state(*this);
  state.compress(pending_ | size_ << 56);
  state.v2 ^= 0xee;
  state.end();
  Hash128 out;
  out.lo = state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
  state.v1 ^= 0xdd;
  state.end();
  out.hi = state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
  return out;
}

}  // namespace memkv::base
