#pragma once
/// SipHash-2-4 of 128 bits: the keyed hash of keys, and the message authentication of frames.

#include <compare>

#include "base/bytes.h"

namespace memkv::base {

/// 128 bits; `lo` is the first eight bytes of the output, little-endian.
struct Hash128 {
  uint64_t lo = 0;
  uint64_t hi = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
  friend auto operator<=>(const Hash128&, const Hash128&) = default;
};

/// A secret of 128 bits; k0 is its first eight bytes, little-endian.
struct SipKey {
  uint64_t k0 = 0;
  uint64_t k1 = 0;
};

/// SipHash of bytes that come in pieces. No allocation.
/// Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012; 128 bits as in the authors' code.
class SipStream {
 public:
  explicit SipStream(const SipKey& key);
  void update(Bytes data);
  /// Ends the stream: call it once, and feed nothing afterwards.
  Hash128 finish128();

 private:
  struct State;

  uint64_t v0_, v1_, v2_, v3_;
  uint64_t pending_ = 0;  ///< bytes of the last word, as long as it has fewer than 8
  uint64_t size_ = 0;     ///< bytes so far
};

}  // namespace memkv::base
