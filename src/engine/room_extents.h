#pragma once
/// Memory mode: extents whose payloads are received where they stay.

#include <cstddef>
#include <cstdint>

#include "engine/append.h"
#include "engine/extent_writer.h"
#include "engine/segments.h"

namespace memkv::engine {

/// Makes extents of rooms. A room is the place of one payload; its record goes into the extent's header when the payload
/// is there. Small rooms that are taken one after another share an extent, so they share a header, which is hashed when
/// no room of the extent is open: once for all puts of a frame.
///
/// Borrows the segments and the log's end. Part of a Log. Thread: worker.
class RoomExtents {
 public:
  struct Room {
    std::byte* data = nullptr;
    uint64_t sector = 0;  ///< of the extent's header
    uint64_t epoch = 0;
  };
  RoomExtents(const LogConfig& config, Segments& segments, ExtentWriter& extents);

  /// Sectors of the newest segment that a room would take.
  uint32_t sectors_for(uint32_t bytes, size_t key_bytes) const;
  /// There are that many. No data: the device has no view of them.
  Room open(uint32_t bytes, size_t key_bytes);
  /// The payload is there. The room stays open until its record is in the index.
  void fill(Append& append);
  /// The room's record is in the index, or there will be none.
  void close(uint64_t epoch, uint64_t sector);

 private:
  /// An extent in the making.
  struct Draft {
    uint64_t epoch = 0;
    uint32_t sector = 0;
    uint32_t rooms = 0;           ///< open
    uint32_t header_bytes = 0;    ///< that are written
    uint32_t promised_bytes = 0;  ///< of the header, to all rooms
    uint32_t end = 0;             ///< of the last payload, from the extent's start
    uint16_t records = 0;
  };
  bool is_last(uint64_t epoch, uint64_t sector) const { return last_.epoch == epoch && last_.sector == sector; }
  bool joins_last(uint32_t bytes, size_t key_bytes) const;
  Draft begin();
  std::byte* header_of(const Draft& draft) const;
  Draft load(uint64_t epoch, uint64_t sector) const;
  void store(const Draft& draft);
  void put_aside(const Draft& draft) const;
  static format::ExtentHeader extent_header(const Draft& draft);
  void write_header(const Draft& draft) const;
  void finish(const Draft& draft) const;

  const LogConfig& config_;
  Segments& segments_;
  ExtentWriter& extents_;
  Draft
      last_;  ///< the small rooms that come next join it; of other extents with open rooms the draft is in their header
};

}  // namespace memkv::engine
