/// Memory mode: room in a log that is filled in place.

#include "engine/store_impl.h"

namespace memkv::engine {

Reservation StoreImpl::reserve(uint32_t bytes) {
  if (!options_.memory_mode || closing_) return {};
  const uint64_t id = next_reservation_;
  for (size_t i = 0; i < logs_.size(); ++i) {
    Log* log = usable_log(static_cast<uint8_t>((id + i) % logs_.size()));
    if (log == nullptr) continue;
    const Log::Room room = log->reserve(bytes);
    if (room.data == nullptr) continue;
    ++next_reservation_;
    reservations_[id] = {log->config().slice.drive_index, room.epoch, room.sector, room.data};
    reserved_at_[room.data] = id;
    return {room.data, id};
  }
  reclaim_start();
  return {};
}

void StoreImpl::abandon(Reservation reservation) {
  const auto it = reservations_.find(reservation.id);
  if (it == reservations_.end()) return;
  const RoomOut room = it->second;
  reserved_at_.erase(room.data);
  reservations_.erase(it);
  log_of(room.drive)->close_room(room.epoch);
}

}  // namespace memkv::engine
