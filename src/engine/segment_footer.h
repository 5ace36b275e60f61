#pragma once
/// The footer of the segment that is being written.

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>

#include "base/bytes.h"
#include "engine/store.h"
#include "format/format_check.h"

namespace memkv::engine {

/// Gathers an entry for each record of the segment while extents are acknowledged, and reserves the room that those in
/// flight will take.
///
/// Owns the footer's memory, and the copy that is written. Part of a Log. Thread: worker.
class SegmentFooter {
 public:
  explicit SegmentFooter(uint64_t segment_bytes);

  /// A new segment: no entries.
  void restart();
  /// A footer with so many bytes of entries more would still fit; its size is in `footer_bytes`.
  bool fits(uint32_t more, uint32_t& footer_bytes) const;
  void reserve(uint32_t entry_bytes) { used_ += entry_bytes; }
  void give_back(uint32_t entry_bytes);
  /// A record that is acknowledged, whose room is reserved. The payload is given of a head record alone.
  bool add(const format::RecordHeader& entry, base::Bytes head_payload);
  void saw_sequence(uint64_t sequence);
  /// All extents of the segment are complete: the whole footer, in memory that a drive takes.
  base::MutBytes finish(format::FooterTrailer trailer, uint64_t seed);

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  const uint32_t capacity_;
  std::unique_ptr<std::byte[]> memory_;
  std::optional<format::FooterBuilder> builder_;
  uint32_t used_ = 0;  // by entries acknowledged and in flight
  uint64_t sequence_max_ = 0;
  std::unique_ptr<std::byte, Free> written_;  // the copy on its way, aligned
};

}  // namespace memkv::engine
