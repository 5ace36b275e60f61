#include "engine/reservations.h"

#include <utility>

#include "base/assert.h"
#include "base/random.h"

namespace memkv::engine {
namespace {

constexpr size_t kRoomsAtStart = 1024;

}  // namespace

Reservations::Reservations(Drives& drives) : drives_(drives), rooms_(kRoomsAtStart) {}

Reservation Reservations::reserve(uint32_t bytes, size_t key_bytes) {
  const uint64_t id = next_id_;
  for (size_t i = 0; i < drives_.count(); ++i) {
    Log* log = drives_.usable_log(static_cast<uint8_t>((id + i) % drives_.count()));
    if (log == nullptr) continue;
    const Log::Room room = log->reserve(bytes, key_bytes);
    if (room.data == nullptr) continue;
    ++next_id_;
    insert({room.data, id, room.epoch, room.sector, log->config().slice.drive_index});
    return {room.data, id};
  }
  return {};
}

void Reservations::abandon(const Reservation& reservation) {
  Room* found = find(reservation.data);
  if (found == nullptr || found->id != reservation.id) return;
  const Room room = *found;
  erase(*found);
  drives_.log_of(room.drive)->close_room(room.epoch, room.sector);
}

std::optional<Reservations::Room> Reservations::use(const std::byte* payload) {
  Room* found = find(payload);
  if (found == nullptr) return {};
  const Room room = *found;
  erase(*found);
  return room;
}

size_t Reservations::home_of(const std::byte* data) const {
  return base::mix64(reinterpret_cast<uintptr_t>(data)) & (rooms_.size() - 1);
}

Reservations::Room* Reservations::find(const std::byte* data) {
  if (count_ == 0 || data == nullptr) return nullptr;
  for (size_t at = home_of(data); rooms_[at].data != nullptr; at = (at + 1) & (rooms_.size() - 1)) {
    if (rooms_[at].data == data) return &rooms_[at];
  }
  return nullptr;
}

void Reservations::insert(const Room& room) {
  MEMKV_ASSERT(room.data != nullptr);
  if (2 * (count_ + 1) > rooms_.size()) grow();
  size_t at = home_of(room.data);
  for (; rooms_[at].data != nullptr; at = (at + 1) & (rooms_.size() - 1))
    MEMKV_ASSERT(rooms_[at].data != room.data, "a log gives a room once");
  rooms_[at] = room;
  ++count_;
}

/// Those behind it that stand away from their home move up, so that they are still found.
void Reservations::erase(Room& room) {
  const size_t mask = rooms_.size() - 1;
  size_t hole = static_cast<size_t>(&room - rooms_.data());
  for (size_t at = (hole + 1) & mask; rooms_[at].data != nullptr; at = (at + 1) & mask) {
    const size_t home = home_of(rooms_[at].data);
    if (((at - home) & mask) < ((at - hole) & mask)) continue;  // its home lies behind the hole
    rooms_[hole] = rooms_[at];
    hole = at;
  }
  rooms_[hole] = {};
  --count_;
}

void Reservations::grow() {
  const std::vector<Room> before = std::exchange(rooms_, std::vector<Room>(2 * rooms_.size()));
  count_ = 0;
  for (const Room& room : before) {
    if (room.data != nullptr) insert(room);
  }
}

}  // namespace memkv::engine
