#include "engine/segments.h"

#include <algorithm>

#include "base/assert.h"
#include "base/sizes.h"
#include "engine/test_rules.h"
#include "format/layout.h"

namespace memkv::engine {

Segments::Segments(const DriveSlice& slice)
    : first_place_(slice.offset_bytes + format::segment_offset(slice.segment_bytes, 0)),
      bytes_(slice.segment_bytes),
      segments_(format::segment_count(slice.size_bytes, slice.segment_bytes)) {
  MEMKV_ASSERT(!segments_.empty());
}

void Segments::start(uint64_t newest, uint64_t oldest) {
  MEMKV_ASSERT(newest + 1 >= oldest && newest - oldest + 1 <= count());
  newest_ = newest;
  oldest_ = oldest;
}

uint32_t Segments::sectors() const { return static_cast<uint32_t>(bytes_ / base::kSectorBytes); }

uint64_t Segments::usable_bytes() const { return count() * (bytes_ - 2 * base::kSectorBytes); }

uint64_t Segments::place_of(uint64_t epoch) const { return first_place_ + epoch % count() * bytes_; }

uint64_t Segments::place_of_sector(uint64_t epoch, uint32_t sector) const {
  return place_of(epoch) + uint64_t{sector} * base::kSectorBytes;
}

uint64_t Segments::number_of(uint64_t drive_offset) const {
  if (drive_offset < first_place_) return count();
  return std::min((drive_offset - first_place_) / bytes_, count());
}

uint64_t Segments::epoch_at(uint64_t drive_offset) const {
  if (drive_offset < first_place_ || newest_ == 0) return 0;
  const uint64_t place = (drive_offset - first_place_) / bytes_;
  if (place >= count()) return 0;
  // The one live epoch that is congruent to the place.
  const uint64_t n = count();
  const uint64_t epoch = newest_ - (newest_ % n + n - place) % n;
  return epoch >= oldest_ && epoch <= newest_ ? epoch : 0;
}

void Segments::open_next() {
  MEMKV_ASSERT(free() > 0);
  ++newest_;
  at(newest_) = {};
}

void Segments::free_oldest() {
  MEMKV_ASSERT(can_free());
  MEMKV_ASSERT(at(oldest_).pins == 0 || !rules().freed_waits);
  MEMKV_ASSERT(at(oldest_).rooms == 0);
  at(oldest_) = {};
  ++oldest_;
}

bool Segments::unpin(uint64_t epoch) {
  MEMKV_ASSERT(at(epoch).pins > 0);
  return --at(epoch).pins == 0 && epoch == oldest_;
}

bool Segments::close_room(uint64_t epoch) {
  MEMKV_ASSERT(at(epoch).rooms > 0);
  return --at(epoch).rooms == 0 && epoch == oldest_;
}

bool Segments::oldest_waits() const {
  const Segment& oldest = at(oldest_);
  return oldest.rooms > 0 || (oldest.decided && oldest.pins > 0);
}

}  // namespace memkv::engine
