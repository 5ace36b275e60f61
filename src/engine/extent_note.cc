#include "engine/extent_note.h"

#include <algorithm>

namespace memkv::engine {

void ExtentNote::set(uint32_t sector, std::span<const format::NoteEntry> entries) {
  sector_ = entries.size() <= kEntriesMax ? sector : 0;
  count_ = sector_ == 0 ? 0 : entries.size();
  std::copy_n(entries.begin(), count_, entries_.begin());
}

/// A flush kills more than a note can name, and so may too many records: then nothing is told.
void ExtentNote::take(uint32_t sector, const Append* records) {
  sector_ = sector;
  count_ = 0;
  for (const Append* a = records; a != nullptr && sector_ != 0; a = a->next) {
    if (a->header.kind == format::RecordKind::kChunk) continue;
    if (a->header.kind == format::RecordKind::kFlush || count_ == kEntriesMax) {
      sector_ = 0;
    } else {
      entries_[count_++] = {{a->header.digest[0], a->header.digest[1]}, a->header.sequence};
    }
  }
}

uint32_t ExtentNote::bytes() const {
  return sector_ == 0 ? 0 : static_cast<uint32_t>(sizeof(format::ExtentNote) + count_ * sizeof(format::NoteEntry));
}

void ExtentNote::add_to(format::ExtentBuilder& builder) const {
  if (sector_ != 0) (void)builder.note(sector_, {entries_.data(), count_});
}

}  // namespace memkv::engine
