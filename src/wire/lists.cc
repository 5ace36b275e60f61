/// The messages that list keys: EXISTS with its bitmap, and LIST_REPLY.

#include "base/assert.h"
#include "wire/codec.h"
#include "wire/messages.h"

namespace memkv::wire {
namespace {

constexpr size_t kExistsHeadBytes = 8;
constexpr size_t kListHeadBytes = 12;

bool sane_key(size_t bytes) { return bytes > 0 && bytes <= kKeyBytesMax; }
constexpr size_t bitmap_bytes(uint32_t count) { return (size_t{count} + 7) / 8; }

/// Reads one key of an EXISTS or of a list item.
std::string_view read_key(Reader& in) {
  const uint16_t bytes = in.u16();
  return in.text(bytes);
}

}  // namespace

ExistsEncoder::ExistsEncoder(std::span<std::byte> body, bool touch) : body_(body), used_(kExistsHeadBytes) {
  MEMKV_ASSERT(body.size() >= kExistsHeadBytes);
  base::store_u32(body_.data(), touch ? 1 : 0);
}
uint32_t ExistsEncoder::count() const { return count_; }

bool ExistsEncoder::add(std::string_view key) {
  MEMKV_ASSERT(sane_key(key.size()));
  const size_t need = sizeof(uint16_t) + key.size();
  if (count_ == kKeysPerExistsMax || body_.size() - used_ < need) return false;
  base::store_u16(body_.data() + used_, static_cast<uint16_t>(key.size()));
  std::memcpy(body_.data() + used_ + sizeof(uint16_t), key.data(), key.size());
  used_ += need;
  ++count_;
  return true;
}

std::span<const std::byte> ExistsEncoder::finish() {
  base::store_u32(body_.data() + 4, count_);
  return body_.first(used_);
}

ExistsDecoder::ExistsDecoder(std::span<const std::byte> body) : body_(body) {
  if (body.size() >= kExistsHeadBytes) left_ = base::load_u32(body.data() + 4);
}

Result<uint32_t> ExistsDecoder::validate() const {
  Reader in(body_);
  if (in.u32() > 1) return malformed("exists: unknown flags");
  const uint32_t count = in.u32();
  if (count == 0 || count > kKeysPerExistsMax) return malformed("exists: bad count");
  for (uint32_t i = 0; i < count; ++i) {
    if (!sane_key(read_key(in).size())) return malformed("exists: bad key");
  }
  if (!in.at_end()) return malformed("exists: bytes behind the last key");
  return count;
}

bool ExistsDecoder::touch() const { return !body_.empty() && body_[0] == std::byte{1}; }

bool ExistsDecoder::next(std::string_view& key) {
  if (left_ == 0) return false;
  Reader in(body_.subspan(at_));
  key = read_key(in);
  if (!in.ok()) return false;
  at_ += in.position();
  --left_;
  return true;
}

size_t encode_exists_reply(std::span<const uint8_t> bits, uint32_t count, std::span<std::byte> out) {
  MEMKV_ASSERT(count <= kKeysPerExistsMax && bits.size() >= bitmap_bytes(count));
  Writer to(out);
  to.u32(count);
  to.bytes(bits.data(), bitmap_bytes(count));
  return to.size();
}

Result<ExistsReply> decode_exists_reply(std::span<const std::byte> body) {
  Reader in(body);
  const uint32_t count = in.u32();
  if (!in.ok() || count > kKeysPerExistsMax) return malformed("exists reply: bad count");
  if (body.size() - in.position() != bitmap_bytes(count)) return malformed("exists reply: bad length");
  return ExistsReply{count, body.subspan(in.position())};
}

ListReplyEncoder::ListReplyEncoder(std::span<std::byte> body) : body_(body), used_(kListHeadBytes) {
  MEMKV_ASSERT(body.size() >= kListHeadBytes);
}

bool ListReplyEncoder::add(const ListItem& item) {
  MEMKV_ASSERT(sane_key(item.key.size()));
  Writer to(body_.subspan(used_));
  to.u64(item.generation);
  to.u64(item.block_bytes);
  to.u16(static_cast<uint16_t>(item.key.size()));
  to.text(item.key);
  used_ += to.size();
  count_ += to.size() > 0;
  return to.size() > 0;
}

std::span<const std::byte> ListReplyEncoder::finish(uint64_t next_cursor) {
  base::store_u64(body_.data(), next_cursor);
  base::store_u32(body_.data() + 8, count_);
  return body_.first(used_);
}

ListReplyDecoder::ListReplyDecoder(std::span<const std::byte> body) : body_(body) {
  if (body.size() >= kListHeadBytes) left_ = base::load_u32(body.data() + 8);
}

Result<uint32_t> ListReplyDecoder::validate() const {
  if (body_.size() < kListHeadBytes) return malformed("list reply: truncated");
  ListReplyDecoder walk(*this);
  ListItem item;
  uint32_t count = 0;
  for (; walk.next(item); ++count) {
    if (!sane_key(item.key.size())) return malformed("list reply: bad key");
  }
  if (walk.left_ > 0 || walk.at_ != body_.size()) return malformed("list reply: bad length");
  return count;
}

uint64_t ListReplyDecoder::next_cursor() const { return Reader(body_).u64(); }

bool ListReplyDecoder::next(ListItem& out) {
  if (left_ == 0) return false;
  Reader in(body_.subspan(at_));
  out.generation = in.u64();
  out.block_bytes = in.u64();
  out.key = read_key(in);
  if (!in.ok()) return false;
  at_ += in.position();
  --left_;
  return true;
}

}  // namespace memkv::wire
