#include "engine/found_records.h"

#include <utility>

#include "base/assert.h"

namespace memkv::engine {
namespace {

constexpr size_t kDamagedHead = ~size_t{0};

}  // namespace

void FoundRecords::expect(uint64_t records) {
  MEMKV_ASSERT(blocks_and_chunks_ == 0 && heads_.empty(), "nothing was added yet");
  const uint64_t partitions = std::bit_ceil(records / kPartitionRecords + 1);
  bits_ = std::min<uint32_t>(static_cast<uint32_t>(std::countr_zero(partitions)), kPartitionBits);
  partitions_ = std::vector<Partition>(size_t{1} << bits_);
}

void FoundRecords::add_piece(Partition& to) {
  to.pieces.push_back(std::make_unique_for_overwrite<FoundRecord[]>(kPieceRecords));
  to.next = to.pieces.back().get();
  to.end = to.next + kPieceRecords;
}

void FoundRecords::add_head(FoundRecord record, base::Bytes payload) {
  const auto view = format::parse_head(payload);
  record.set_head(view ? heads_.size() : kDamagedHead);
  add(record);
  if (!view) return;
  heads_.push_back(view->head.block_bytes);
  heads_.push_back(view->head.chunk_count);
  for (uint32_t i = 0; i < view->head.chunk_count; ++i) heads_.push_back(view->sequence(i));
}

FoundRecords::Head FoundRecords::head(const FoundRecord& record) const {
  MEMKV_ASSERT(record.kind() == FoundRecord::Kind::kHead);
  Head head;
  head.damaged = record.head() == kDamagedHead;
  if (head.damaged) return head;
  const size_t at = record.head();
  head.block_bytes = heads_[at];
  for (uint64_t i = 0; i < heads_[at + 1]; ++i) head.chunks.push_back(heads_[at + 2 + i]);
  return head;
}

uint32_t FoundRecords::find_number_of(uint64_t namespace_id) {
  const auto [it, fresh] = namespace_numbers_.emplace(namespace_id, static_cast<uint32_t>(namespaces_.size()));
  if (fresh) namespaces_.push_back(namespace_id);
  MEMKV_ASSERT(namespaces_.size() <= FoundRecord::kNamespaceMax, "each takes a record of its own");
  return it->second;
}

void FoundRecords::clear() {
  partitions_ = std::vector<Partition>(1);
  heads_ = {};
  ranked_ = {};
  sorted_ = {};
  bucket_ends_ = {};
}

// --- order -----------------------------------------------------------------------------------------------------------

bool FoundRecords::before(const Ranked& a, const Ranked& b) {
  if (a.lo != b.lo) return a.lo < b.lo;
  const uint64_t a_hi = a.record->digest().hi, b_hi = b.record->digest().hi;
  return a_hi != b_hi ? a_hi < b_hi : a.number < b.number;
}

/// Digests are random, so dealing them out to as many buckets as there are records nearly sorts them.
void FoundRecords::rank(const Partition& partition) {
  const auto bucket_bits = static_cast<uint32_t>(std::bit_width(partition.count()));
  const auto bucket_of = [&](const FoundRecord& r) { return bits_of(r.digest().lo, bits_, bucket_bits); };
  const auto for_each = [&](auto&& visit) {
    for (const auto& piece : partition.pieces) {
      const FoundRecord* const end = &piece == &partition.pieces.back() ? partition.next : piece.get() + kPieceRecords;
      for (const FoundRecord* r = piece.get(); r != end; ++r) visit(*r);
    }
  };
  bucket_ends_.assign(size_t{1} << bucket_bits, 0);
  for_each([&](const FoundRecord& r) { ++bucket_ends_[bucket_of(r)]; });
  uint32_t begin = 0;
  for (uint32_t& end : bucket_ends_) begin += std::exchange(end, begin);
  ranked_.resize(partition.count());
  uint32_t number = 0;
  for_each([&](const FoundRecord& r) { ranked_[bucket_ends_[bucket_of(r)]++] = {r.digest().lo, &r, number++}; });
}

void FoundRecords::sort(const Partition& partition) {
  sorted_.resize(partition.count());
  if (sorted_.empty()) return;
  rank(partition);
  size_t begin = 0;
  for (const size_t end : bucket_ends_) {
    if (end - begin > 1) std::sort(ranked_.data() + begin, ranked_.data() + end, before);
    begin = end;
  }
  MEMKV_ASSERT(begin == sorted_.size(), "every record is in a bucket");
  for (size_t n = 0; n < sorted_.size(); ++n) sorted_[n] = ranked_[n].record;
}

}  // namespace memkv::engine
