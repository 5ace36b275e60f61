#pragma once
/// What the next extent says of the last one.

#include <array>
#include <cstdint>
#include <span>

#include "engine/append.h"
#include "format/format_check.h"

namespace memkv::engine {

/// The records of the last extent that replace or kill others: should that extent be lost, recovery learns from the next
/// one which blocks it must not show again.
///
/// Part of an ExtentWriter. Thread: worker.
class ExtentNote {
 public:
  /// Of the extent at `sector`, as recovery read it. Sector 0: there is none.
  void set(uint32_t sector, std::span<const format::NoteEntry> entries);
  void take(uint32_t sector, const Append* records);
  /// Nothing is told of the last extent.
  void forget() { sector_ = 0; }
  void add_to(format::ExtentBuilder& builder) const;
  /// That add_to() takes of the header.
  uint32_t bytes() const;

 private:
  static constexpr size_t kEntriesMax = 128;
  std::array<format::NoteEntry, kEntriesMax> entries_{};
  size_t count_ = 0;
  uint32_t sector_ = 0;  // of the extent; 0: nothing is told of it
};

}  // namespace memkv::engine
