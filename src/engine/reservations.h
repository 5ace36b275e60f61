#pragma once
/// Memory mode: room in a log that is filled in place.

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/drives.h"
#include "engine/store.h"

namespace memkv::engine {

/// Rooms that are out: each is found by where its bytes lie, since that is all that a put says of its payload. Rooms
/// come and go on the data path, so they stand in a table that grows only when more are out than ever before.
///
/// Owns the table. Knows the drives. Thread: worker.
class Reservations {
 public:
  struct Room {
    std::byte* data = nullptr;  ///< null: this place of the table is free
    uint64_t id = 0;
    uint64_t epoch = 0, sector = 0;
    uint8_t drive = 0;
  };

  explicit Reservations(Drives& drives);
  /// In turn on the drives; no data: none of them has room now.
  Reservation reserve(uint32_t bytes, size_t key_bytes);
  /// Gives the room back. One that was used already is not known any more: nothing is done.
  void abandon(const Reservation& reservation);
  /// The room that the payload lies in, which is used from now on; nothing: it lies elsewhere.
  std::optional<Room> use(const std::byte* payload);
  size_t count() const { return count_; }

 private:
  size_t home_of(const std::byte* data) const;
  Room* find(const std::byte* data);
  void insert(const Room& room);
  void erase(Room& room);
  void grow();

  Drives& drives_;
  std::vector<Room> rooms_;  // open addressing, at most half full; its size is a power of two
  size_t count_ = 0;
  uint64_t next_id_ = 1;
};

}  // namespace memkv::engine
