#include "apart_reads.h"

#include <algorithm>

namespace memkv::nixl {

ApartReads::Read::Read(uint32_t descriptor, const Descriptor& one, const Target& target, LocalMovers& movers)
    : op{.offset = one.offset, .length = one.length, .key = one.key},
      piece{one.place, one.length, descriptor},
      staged(descriptor, op, std::span(&piece, 1), target, movers) {}

void ApartReads::clear() {
  descriptors_.clear();
  batch_.clear();
  batch_descriptors_.clear();
  staged_.clear();
}

void ApartReads::take(uint32_t op) {
  const size_t first = descriptors_.size();
  for (const LocalPiece& piece : plan_.pieces_of(op)) descriptors_.push_back(piece.descriptor);
  for (const Copy& copy : plan_.copies_of(op)) descriptors_.push_back(copy.descriptor);
  const auto begin = descriptors_.begin() + static_cast<ptrdiff_t>(first);
  std::sort(begin, descriptors_.end());
  descriptors_.erase(std::unique(begin, descriptors_.end()), descriptors_.end());
  if (descriptors_.size() == first + 1) descriptors_.pop_back();  // it was alone
  for (size_t i = first; i < descriptors_.size(); i++) add(descriptors_[i], plan_.target(op));
}

void ApartReads::add(uint32_t descriptor, const Target& target) {
  const Descriptor& one = plan_.descriptor(descriptor);
  if (one.place.kind == MemoryKind::kHost) {
    batch_.get(target.key->text, Scatter(reinterpret_cast<void*>(one.place.address), one.length), one.offset);
    batch_descriptors_.push_back(descriptor);
    return;
  }
  reads_.resize(plan_.descriptor_count());
  auto& read = reads_[descriptor];
  if (!read) read = std::make_unique<Read>(descriptor, one, target, movers_);
  staged_.push_back(&read->staged);
}

}  // namespace memkv::nixl
