#include "engine/segment_footer.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "base/assert.h"
#include "base/sizes.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kFooterBytesMax = 1 << 20;

uint32_t capacity_for(uint64_t segment_bytes) {
  return static_cast<uint32_t>(base::align_down(std::min(kFooterBytesMax, segment_bytes / 4), base::kSectorBytes));
}

}  // namespace

SegmentFooter::SegmentFooter(uint64_t segment_bytes)
    : capacity_(capacity_for(segment_bytes)),
      memory_(new std::byte[capacity_]),
      written_(static_cast<std::byte*>(std::aligned_alloc(base::kSectorBytes, capacity_))) {
  if (!written_) throw std::bad_alloc();
  restart();
}

void SegmentFooter::restart() {
  builder_.emplace(base::MutBytes(memory_.get(), capacity_));
  used_ = 0;
  sequence_max_ = 0;
}

bool SegmentFooter::fits(uint32_t more, uint32_t& footer_bytes) const {
  footer_bytes = format::footer_bytes_for(used_ + more);
  return footer_bytes <= capacity_;
}

void SegmentFooter::give_back(uint32_t entry_bytes) {
  MEMKV_ASSERT(used_ >= entry_bytes);
  used_ -= entry_bytes;
}

bool SegmentFooter::add(const format::RecordHeader& entry, base::Bytes head_payload) {
  return builder_->append(entry, head_payload);
}

void SegmentFooter::saw_sequence(uint64_t sequence) { sequence_max_ = std::max(sequence_max_, sequence); }

base::MutBytes SegmentFooter::finish(format::FooterTrailer trailer, uint64_t seed) {
  trailer.sequence_max = sequence_max_;
  const base::Bytes bytes = builder_->finish(trailer, seed);
  std::memcpy(written_.get(), bytes.data(), bytes.size());
  return {written_.get(), bytes.size()};
}

}  // namespace memkv::engine
