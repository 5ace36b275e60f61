#include "engine/tier.h"

#include <algorithm>
#include <new>

#include "base/assert.h"
#include "base/bytes.h"
#include "engine/record_load.h"

namespace memkv::engine {
namespace {

/// Of memory, with what is known of it.
uint32_t sectors_for(uint64_t bytes, uint64_t entry_bytes, uint64_t sectors_an_entry) {
  const uint64_t each = base::kSectorBytes + TierRoom::kBytesEach + entry_bytes / sectors_an_entry + 1;
  return static_cast<uint32_t>(std::min<uint64_t>(bytes / each, UINT32_MAX / 2 - 1));
}

constexpr uint64_t kEntryBytes = sizeof(TierEntry) + sizeof(uint32_t) + TierMemories::kBytesEach;

}  // namespace

Tier::Tier(uint64_t bytes, StoreCounters& counters)
    : counters_(counters),
      sectors_(sectors_for(bytes, kEntryBytes, kSectorsAnEntry)),
      room_(sectors_),
      memories_(sectors_ / kSectorsAnEntry),
      entries_(sectors_ / kSectorsAnEntry),
      table_(entries_.size(), kNone) {
  if (!on()) return;
  auto memory = io::HugeMemory::make(uint64_t{sectors_} * base::kSectorBytes, /*prefault=*/true);
  if (!memory) throw std::bad_alloc();
  memory_ = std::move(*memory);
  for (uint32_t i = static_cast<uint32_t>(entries_.size()); i-- > 0;) {
    entries_[i].next_in_table = free_entry_;
    free_entry_ = i;
  }
}

Tier::~Tier() {
  first_.clear();  // entries may be held: after a power cut in a test reads never end
  main_.clear();
}

/// Sequences alone nearly tell records apart: chunks of one commit differ in their place. Spread over all bits.
uint64_t Tier::name_of(const RecordRef& r) {
  constexpr uint64_t kOdd1 = 0x9e3779b97f4a7c15, kOdd2 = 0xc2b2ae3d27d4eb4f;
  uint64_t name = (r.sequence * kOdd1) ^ ((r.place.pack << 6 | r.place.drive) * kOdd2);
  name ^= name >> 32;
  return name * kOdd1 ^ name >> 29;
}

/// As long as the tier is not full, as if its records to come were as long as those that it has.
uint32_t Tier::window() const {
  const uint64_t all = entries_.size();
  const uint64_t full = room_.used() == 0 ? all : (first_.size() + main_.size()) * sectors_ / room_.used();
  return static_cast<uint32_t>(names_remembered(std::min(all, full)));
}

/// A lone record lies behind a sector for its header; of others all sectors are read that they touch.
uint32_t Tier::sectors_of(const RecordRef& record) {
  const GrainSpan all{0, base::align_up(uint64_t{record.length}, base::kSectorBytes)};
  return static_cast<uint32_t>(load_bytes(record, all) / base::kSectorBytes) + (record.lone() ? 1 : 0);
}

std::byte* Tier::buffer_of(const TierEntry& entry) const {
  const uint64_t header = entry.record.lone() ? base::kSectorBytes : 0;
  return memory_.data() + uint64_t{entry.first_sector} * base::kSectorBytes + header;
}

TierEntry* Tier::find(const RecordRef& record) {
  for (uint32_t i = bucket_of(record); i != kNone; i = entries_[i].next_in_table) {
    TierEntry& e = entries_[i];
    if (e.record.sequence != record.sequence || e.record.place != record.place) continue;
    MEMKV_ASSERT(e.record.checksum == record.checksum && e.record.length == record.length, "a record never changes");
    return &e;
  }
  return nullptr;
}

bool Tier::serves(const RecordRef& record, bool whole) {
  if (find(record) != nullptr) return true;
  const uint64_t name = name_of(record);
  const bool remembered = memories_.has(name, window());
  promised_ = remembered ? name : 0;
  if (decide_entrance({.whole = whole, .remembered = remembered}) == TierEntrance::kPass) return false;
  return make_room(sectors_of(record));
}

TierEntry* Tier::take(const RecordRef& record, bool whole) {
  MEMKV_ASSERT(!record.has_holes && record.length > 0);
  const uint64_t name = name_of(record);
  const bool remembered = promised_ == name || memories_.has(name, window());
  const TierEntrance way = decide_entrance({.whole = whole, .remembered = remembered});
  if (way == TierEntrance::kPass) {
    memories_.add(name);
    return nullptr;
  }
  if (!make_room(sectors_of(record))) return nullptr;
  (void)memories_.take(name, window());
  promised_ = 0;
  return &add(record, way == TierEntrance::kMain ? TierQueue::kMain : TierQueue::kFirst);
}

TierEntry* Tier::take_ahead(const RecordRef& record) {
  MEMKV_ASSERT(on() && !record.has_holes && record.length > 0);
  const TierEntrance way = decide_entrance({.whole = true, .ahead = true});
  if (!make_room(sectors_of(record))) return nullptr;
  TierEntry& e = add(record, way == TierEntrance::kMain ? TierQueue::kMain : TierQueue::kFirst);
  e.ahead = true;
  e.remembered = memories_.take(name_of(record), window());
  return &e;
}

/// Room was made for it.
TierEntry& Tier::add(const RecordRef& record, TierQueue queue) {
  TierEntry& e = entries_[free_entry_];
  free_entry_ = e.next_in_table;
  MEMKV_ASSERT(e.state == TierEntry::State::kFree && e.holders == 0);
  e.state = TierEntry::State::kReading;
  e.ahead = e.remembered = false;
  e.record = record;
  e.first_sector = room_.take(sectors_of(record));
  e.holders = 1;
  ++holds_;
  e.in_table = true;
  uint32_t& bucket = bucket_of(record);
  e.next_in_table = bucket;
  bucket = static_cast<uint32_t>(&e - entries_.data());
  enter(e, queue);
  return e;
}

void Tier::end_read(TierEntry& entry, bool good) {
  MEMKV_ASSERT(entry.state == TierEntry::State::kReading && entry.holders > 0);
  entry.state = good ? TierEntry::State::kResident : TierEntry::State::kFailed;
  if (!good && entry.in_table) take_out(entry);
  while (TierWait* wait = entry.waits.pop_front()) wait->then();
}

void Tier::hold(TierEntry& entry) {
  MEMKV_ASSERT(entry.in_table, "found a moment ago");
  ++entry.holders;
  ++holds_;
  const bool counts = !entry.ahead || first_read_counts(entry.remembered);
  if (entry.ahead) ++counters_.tier_prefetches_used;
  entry.ahead = false;
  if (counts && entry.reads < kTierReadsMax) ++entry.reads;
}

void Tier::release(TierEntry& entry) {
  MEMKV_ASSERT(entry.holders > 0 && holds_ > 0, "held by nobody");
  --holds_;
  if (--entry.holders == 0 && !entry.in_table) free(entry);
}

void Tier::forget(const RecordRef& record) {
  if (!on()) return;
  if (TierEntry* entry = find(record)) take_out(*entry);
}

/// False: too much of the tier is in use, or lies so that no run is long enough; the get goes without it.
bool Tier::make_room(uint32_t sectors) {
  for (uint32_t turns = 0; free_entry_ == kNone || !room_.fits(sectors); ++turns) {
    if (turns == kTurnsMax) return false;
    Queue& queue = queue_of(queue_to_shrink(first_sectors_, main_sectors_));
    TierEntry* first = queue.empty() ? (first_.empty() ? main_.front() : first_.front()) : queue.front();
    if (first == nullptr) return false;  // what there is has left the table, and is being sent
    give_turn(*first);
  }
  return true;
}

void Tier::give_turn(TierEntry& e) {
  const TierVerdict verdict =
      decide_turn({.queue = e.queue, .reads = e.reads, .in_use = e.holders > 0, .ahead = e.ahead});
  if (verdict == TierVerdict::kStay || verdict == TierVerdict::kPromote) {
    const uint8_t reads = e.reads;
    const TierQueue queue = verdict == TierVerdict::kPromote ? TierQueue::kMain : e.queue;
    leave_queue(e);
    enter(e, queue);
    if (verdict == TierVerdict::kStay) e.reads = reads > 0 && e.holders == 0 ? reads - 1 : reads;
    return;
  }
  if (verdict == TierVerdict::kRemember) memories_.add(name_of(e.record));
  ++counters_.tier_evictions;
  take_out(e);
}

void Tier::enter(TierEntry& entry, TierQueue queue) {
  entry.queue = queue;
  entry.reads = 0;
  queue_of(queue).push_back(entry);
  (queue == TierQueue::kFirst ? first_sectors_ : main_sectors_) += room_.run_at(entry.first_sector);
}

void Tier::leave_queue(TierEntry& entry) {
  queue_of(entry.queue).remove(entry);
  (entry.queue == TierQueue::kFirst ? first_sectors_ : main_sectors_) -= room_.run_at(entry.first_sector);
}

/// Nobody finds it from now on; its memory is free when nobody holds it.
void Tier::take_out(TierEntry& entry) {
  MEMKV_ASSERT(entry.in_table);
  uint32_t* at = &bucket_of(entry.record);
  while (&entries_[*at] != &entry) at = &entries_[*at].next_in_table;
  *at = entry.next_in_table;
  leave_queue(entry);
  entry.in_table = false;
  if (entry.ahead) ++counters_.tier_prefetches_wasted;
  if (entry.holders == 0) free(entry);
}

void Tier::free(TierEntry& entry) {
  MEMKV_ASSERT(!entry.in_table && entry.holders == 0 && entry.waits.empty());
  room_.give(entry.first_sector);
  entry.state = TierEntry::State::kFree;
  entry.next_in_table = free_entry_;
  free_entry_ = static_cast<uint32_t>(&entry - entries_.data());
}

}  // namespace memkv::engine
