#pragma once
/// Reads fields out of bytes and writes them, in order: what the encoders and decoders of this folder share.

#include <array>
#include <cstring>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "memkv/error.h"
#include "wire/messages.h"

namespace memkv::wire {

inline Error malformed(const char* what) { return Error{Status::kInvalid, 0, what}; }

/// A status from the wire. Statuses are only ever appended; one that this version does not know counts as kInternal.
inline Status status_of(std::byte value) {
  const auto status = static_cast<Status>(value);
  const bool known = status <= Status::kChanged || (status >= Status::kInvalid && status <= Status::kInternal);
  return known ? status : Status::kInternal;
}

/// True if the piece is not empty and does not wrap around the end of the address space.
inline bool sane(const RemotePiece& remote_piece) {
  return remote_piece.length > 0 && remote_piece.length <= kPayloadBytesMax &&
         remote_piece.address <= UINT64_MAX - remote_piece.length;
}

/// Reads fields from the front. A read past the end gives zeros, and the reader is bad from then on: so a decoder reads
/// all fields and looks at ok() once. Borrows the bytes.
class Reader {
 public:
  explicit Reader(base::Bytes bytes) : bytes_(bytes) {}
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && at_ == bytes_.size(); }
  size_t position() const { return at_; }
  uint8_t u8() { return static_cast<uint8_t>(*take<1>()); }
  uint16_t u16() { return base::load_u16(take<2>()); }
  uint32_t u32() { return base::load_u32(take<4>()); }
  uint64_t u64() { return base::load_u64(take<8>()); }
  template <size_t N>
  void array(std::array<uint8_t, N>& out) {
    std::memcpy(out.data(), take<N>(), N);
  }
  std::string_view text(size_t bytes) {
    if (!advance(bytes)) return {};
    return {reinterpret_cast<const char*>(bytes_.data() + at_ - bytes), bytes};
  }

 private:
  bool advance(size_t bytes) {
    ok_ = ok_ && bytes_.size() - at_ >= bytes;
    if (ok_) at_ += bytes;
    return ok_;
  }
  template <size_t N>
  const std::byte* take() {
    static constexpr std::array<std::byte, N> kZeros{};
    return advance(N) ? bytes_.data() + at_ - N : kZeros.data();
  }

  base::Bytes bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

/// Writes fields into a caller's buffer. If it was too small, size() is 0. Borrows the buffer.
class Writer {
 public:
  explicit Writer(base::MutBytes out) : out_(out) {}
  void u8(uint8_t value) { bytes(&value, 1); }
  void u16(uint16_t value) { bytes(&value, 2); }
  void u32(uint32_t value) { bytes(&value, 4); }
  void u64(uint64_t value) { bytes(&value, 8); }
  template <size_t N>
  void array(const std::array<uint8_t, N>& value) {
    bytes(value.data(), N);
  }
  void text(std::string_view value) { bytes(value.data(), value.size()); }
  void bytes(const void* from, size_t count) {  // numbers as well: this project runs on little-endian machines only
    ok_ = ok_ && out_.size() - at_ >= count;
    if (!ok_ || count == 0) return;
    std::memcpy(out_.data() + at_, from, count);
    at_ += count;
  }
  size_t size() const { return ok_ ? at_ : 0; }

 private:
  base::MutBytes out_;
  size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace memkv::wire
