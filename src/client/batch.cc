#include "client/batch.h"

#include "base/assert.h"

namespace memkv {

using client::BatchOp;
using client::Kind;

BatchOp& Batch::Impl::add(Kind kind, std::string_view key) {
  BatchOp& op = ops.emplace_back();
  op.kind = kind;
  op.invalid = key.empty() || key.size() > kKeyBytesMax;
  op.key_at = static_cast<uint32_t>(keys.size());
  op.piece_at = static_cast<uint32_t>(pieces.size());
  if (op.invalid) return op;
  op.key_bytes = static_cast<uint32_t>(key.size());
  keys.append(key);
  return op;
}

void Batch::Impl::add_piece(BatchOp& op, const void* data, size_t size) {
  if (size == 0) return;
  pieces.push_back({const_cast<void*>(data), size});
  bytes += size;
  op.piece_count++;
}

Batch::Batch() : impl_(std::make_unique<Impl>()) {}
Batch::~Batch() = default;
Batch::Batch(Batch&&) noexcept = default;
Batch& Batch::operator=(Batch&&) noexcept = default;

Batch& Batch::get(std::string_view key, const Scatter& dst, uint64_t offset, Generation if_generation) {
  BatchOp& op = impl_->add(Kind::kGet, key);
  op.offset = offset;
  op.if_generation = if_generation;
  for (const Piece& piece : dst.pieces()) impl_->add_piece(op, piece.data, piece.size);
  return *this;
}

Batch& Batch::put(std::string_view key, const Gather& src) {
  BatchOp& op = impl_->add(Kind::kPut, key);
  for (const ConstPiece& piece : src.pieces()) impl_->add_piece(op, piece.data, piece.size);
  return *this;
}

Batch& Batch::put_if_absent(std::string_view key, const Gather& src) {
  put(key, src);
  impl_->ops.back().if_absent = true;
  return *this;
}

Batch& Batch::write(std::string_view key, const Gather& src, uint64_t offset) {
  BatchOp& op = impl_->add(Kind::kWrite, key);
  op.offset = offset;
  for (const ConstPiece& piece : src.pieces()) impl_->add_piece(op, piece.data, piece.size);
  return *this;
}

Batch& Batch::exists(std::string_view key, bool touch) {
  impl_->add(Kind::kExists, key).touch = touch;
  return *this;
}

Batch& Batch::remove(std::string_view key) { return impl_->add(Kind::kRemove, key), *this; }
Batch& Batch::touch(std::string_view key) { return impl_->add(Kind::kTouch, key), *this; }
Batch& Batch::prefetch(std::string_view key) { return impl_->add(Kind::kPrefetch, key), *this; }
Batch& Batch::stat(std::string_view key) { return impl_->add(Kind::kStat, key), *this; }

Batch& Batch::chained() {
  MEMKV_ASSERT(impl_->ops.size() > 1, "chained() needs an op before the one it follows");
  MEMKV_ASSERT(!impl_->ops.back().fed, "a fed op starts with its batch");
  impl_->ops.back().chained = true;
  return *this;
}

Batch& Batch::fed() {
  MEMKV_ASSERT(!impl_->ops.empty(), "fed() needs an op");
  BatchOp& op = impl_->ops.back();
  MEMKV_ASSERT((op.kind == Kind::kPut || op.kind == Kind::kWrite) && !op.chained, "puts and writes are fed");
  op.fed = true;
  return *this;
}

size_t Batch::size() const { return impl_->ops.size(); }
void Batch::clear() { impl_->clear(); }

}  // namespace memkv
