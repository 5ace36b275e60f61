#include "engine/room_extents.h"

#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"
#include "engine/record_ref.h"

namespace memkv::engine {
namespace {

/// What a record takes of the header.
uint32_t record_bytes(uint32_t payload_bytes, size_t key_bytes) {
  return format::record_header_bytes(key_bytes, base::grain_count(payload_bytes), 0);
}

}  // namespace

RoomExtents::RoomExtents(const LogConfig& config, Segments& segments, ExtentWriter& extents)
    : config_(config), segments_(segments), extents_(extents) {}

uint32_t RoomExtents::sectors_for(uint32_t bytes, size_t key_bytes) const {
  if (!joins_last(bytes, key_bytes)) return 1 + sectors_of(bytes);
  return sectors_of(payload_start(last_.end, bytes) + bytes) - sectors_of(last_.end);
}

/// Only while nothing stands behind it, and its header's sector has room for one more record.
bool RoomExtents::joins_last(uint32_t bytes, size_t key_bytes) const {
  const bool at_end = last_.epoch == segments_.newest() && last_.sector + sectors_of(last_.end) == extents_.sector();
  if (!at_end || bytes > kLoneOver) return false;
  return last_.promised_bytes + record_bytes(bytes, key_bytes) <= base::kSectorBytes - sizeof(Draft) &&
         payload_start(last_.end, bytes) + bytes <= kExtentBufferBytes;
}

RoomExtents::Draft RoomExtents::begin() {
  Draft draft;
  draft.epoch = segments_.newest();
  draft.sector = extents_.sector();
  draft.header_bytes = draft.promised_bytes = sizeof(format::ExtentHeader);
  draft.end = base::kSectorBytes;
  return draft;
}

RoomExtents::Room RoomExtents::open(uint32_t bytes, size_t key_bytes) {
  MEMKV_ASSERT(bytes > 0 && bytes <= base::kChunkBytes);
  const bool joins = joins_last(bytes, key_bytes);
  Draft draft = joins ? last_ : begin();
  const uint64_t start = payload_start(draft.end, bytes);
  const uint64_t place = segments_.place_of_sector(draft.epoch, draft.sector);
  std::byte* view = config_.slice.device->view(place, base::align_up(start + bytes, base::kSectorBytes));
  if (view == nullptr) return {};
  draft.end = static_cast<uint32_t>(start + bytes);
  draft.promised_bytes += record_bytes(bytes, key_bytes);
  ++draft.rooms;
  extents_.skip(draft.sector + sectors_of(draft.end) - extents_.sector());
  segments_.open_room(draft.epoch);
  if (bytes > kLoneOver) {
    store(draft);
  } else {
    if (!joins && last_.rooms > 0) put_aside(last_);
    last_ = draft;
  }
  return {view + start, draft.sector, draft.epoch};
}

void RoomExtents::fill(Append& a) {
  Draft draft = load(a.reserved_epoch, a.reserved_sector);
  MEMKV_ASSERT(draft.rooms > 0 && a.payload != nullptr);
  std::byte* header = header_of(draft);
  const auto place = static_cast<uint64_t>(a.payload - header);
  MEMKV_ASSERT(place % format::kPackBytes == 0 && place + a.header.payload_bytes <= draft.end, "it lies in its room");
  a.header.payload_place = static_cast<uint32_t>(place / format::kPackBytes);
  format::ExtentBuilder builder({header, base::kSectorBytes}, draft.header_bytes, draft.records);
  MEMKV_ASSERT(builder.append(a.header, a.key, a.sums, a.ranges));
  draft.header_bytes = builder.used();
  draft.records = builder.record_count();
  MEMKV_ASSERT(draft.header_bytes <= draft.promised_bytes, "room was taken for a shorter key");
  write_header(draft);
  store(draft);
  const uint64_t offset = segments_.place_of_sector(draft.epoch, draft.sector) + place;
  a.place = {config_.slice.drive_index, offset / format::kPackBytes};
  a.epoch = draft.epoch;
}

void RoomExtents::close(uint64_t epoch, uint64_t sector) {
  Draft draft = load(epoch, sector);
  MEMKV_ASSERT(draft.rooms > 0, "it was closed before");
  --draft.rooms;
  if (draft.rooms == 0) finish(draft);
  if (draft.rooms > 0 || is_last(epoch, sector)) store(draft);
}

std::byte* RoomExtents::header_of(const Draft& draft) const {
  return config_.slice.device->view(segments_.place_of_sector(draft.epoch, draft.sector), base::kSectorBytes);
}

RoomExtents::Draft RoomExtents::load(uint64_t epoch, uint64_t sector) const {
  if (is_last(epoch, sector)) return last_;
  Draft draft;
  draft.epoch = epoch;
  draft.sector = static_cast<uint32_t>(sector);
  std::memcpy(&draft, header_of(draft) + base::kSectorBytes - sizeof draft, sizeof draft);
  MEMKV_ASSERT(draft.epoch == epoch && draft.sector == sector, "no room of it is open");
  return draft;
}

void RoomExtents::store(const Draft& draft) {
  if (is_last(draft.epoch, draft.sector)) {
    last_ = draft;
  } else {
    put_aside(draft);
  }
}

/// Behind the records of its own header.
void RoomExtents::put_aside(const Draft& draft) const {
  MEMKV_ASSERT(draft.rooms > 0, "nobody would come for it");
  std::memcpy(header_of(draft) + base::kSectorBytes - sizeof draft, &draft, sizeof draft);
}

format::ExtentHeader RoomExtents::extent_header(const Draft& draft) {
  format::ExtentHeader h{};
  h.epoch = draft.epoch;
  h.sector_in_segment = draft.sector;
  h.header_bytes = base::kSectorBytes;
  h.extent_bytes = sectors_of(draft.end) * base::kSectorBytes;
  return h;
}

/// Without its checksum, for whoever looks for the key of a record meanwhile.
void RoomExtents::write_header(const Draft& draft) const {
  format::ExtentHeader h = extent_header(draft);
  h.magic = format::kExtentMagic;
  h.record_count = draft.records;
  std::memcpy(header_of(draft), &h, sizeof h);
}

/// What is in the header's sector behind the records is cleared, and all of it is hashed: now a walk over the segment may
/// come, and passes what rooms that were given back have left.
void RoomExtents::finish(const Draft& draft) const {
  format::ExtentBuilder builder({header_of(draft), base::kSectorBytes}, draft.header_bytes, draft.records);
  builder.finish(extent_header(draft), extents_.seed());
}

}  // namespace memkv::engine
