#include "engine/index.h"

#include <sys/mman.h>

#include <new>

#include "base/assert.h"

namespace memkv::engine {

namespace {

// Bijective, so that different inputs stay different (the finalizer of MurmurHash3).
uint64_t mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdu;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53u;
  x ^= x >> 33;
  return x;
}

constexpr uint64_t kHugePage = 2u << 20;

}  // namespace

Digest chunk_digest(Digest block, uint32_t n) {
  const uint64_t number = uint64_t{n} + 1;
  return {mix(block.lo + number * 0x9E3779B97F4A7C15u), mix(block.hi ^ number)};
}

void Entry::set_sequence(uint64_t sequence) {
  MEMKV_ASSERT(sequence < uint64_t{1} << 48);
  base::store_u48(sequence_, sequence);
}

void Entry::set_place(Place place) {
  MEMKV_ASSERT(place.drive < 64 && place.pack <= kPlacePackMax);
  base::store_u48(place_, uint64_t{place.drive} << 42 | place.pack);
}

Index::Index(uint64_t entries_max) : entries_max_(entries_max), slot_count_((entries_max * 4 + 2) / 3 + 1) {
  MEMKV_ASSERT(entries_max > 0);
  void* memory = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  if (bytes() >= kHugePage) madvise(memory, bytes(), MADV_HUGEPAGE);  // a hint
  madvise(memory, bytes(), MADV_POPULATE_WRITE);                      // no put pays for a page; a hint too
  slots_ = static_cast<Entry*>(memory);
}

Index::~Index() { munmap(slots_, bytes()); }

uint64_t Index::displacement(uint64_t slot) const {
  const uint64_t from = home(slots_[slot].digest_);
  return slot >= from ? slot - from : slot + slot_count_ - from;
}

Entry* Index::find(Digest digest) {
  uint64_t slot = home(digest);
  for (uint64_t distance = 0;; ++distance) {
    Entry& entry = slots_[slot];
    if (!entry.used()) return nullptr;
    if (entry.digest_ == digest) return &entry;
    if (displacement(slot) < distance) return nullptr;
    slot = after(slot);
  }
}

Result<Entry*> Index::insert(Digest digest, uint16_t namespace_index) {
  bool fresh = false;
  auto entry = find_or_insert(digest, namespace_index, fresh);
  MEMKV_ASSERT(fresh || !entry, "insert of a digest that is there");
  return entry;
}

Result<Entry*> Index::find_or_insert(Digest digest, uint16_t namespace_index, bool& fresh) {
  uint64_t slot = home(digest);
  fresh = false;
  for (uint64_t distance = 0; slots_[slot].used() && displacement(slot) >= distance; ++distance) {
    if (slots_[slot].digest_ == digest) return &slots_[slot];
    slot = after(slot);
  }
  auto entry = insert_at(slot, digest, namespace_index);
  fresh = entry.ok();
  return entry;
}

Result<Entry*> Index::insert_at(uint64_t slot, Digest digest, uint16_t namespace_index) {
  if (size_ == entries_max_) return Error{Status::kNoSpace, 0, "index is full"};
  open_gap(slot);
  Entry& entry = slots_[slot];
  entry = Entry{};
  entry.digest_ = digest;
  entry.flags_ = Entry::kUsed;
  entry.namespace_ = namespace_index;
  ++size_;
  if (sizes_.size() <= namespace_index) sizes_.resize(namespace_index + 1u, 0);
  ++sizes_[namespace_index];
  return &entry;
}

void Index::open_gap(uint64_t slot) {
  uint64_t free_slot = slot;
  while (slots_[free_slot].used()) free_slot = after(free_slot);
  while (free_slot != slot) {
    const uint64_t before = free_slot == 0 ? slot_count_ - 1 : free_slot - 1;
    slots_[free_slot] = slots_[before];
    free_slot = before;
  }
}

void Index::erase(Entry* entry) {
  MEMKV_ASSERT(entry >= slots_ && entry < slots_ + slot_count_ && entry->used());
  MEMKV_ASSERT(sizes_[entry->namespace_] > 0);
  --sizes_[entry->namespace_];
  uint64_t slot = static_cast<uint64_t>(entry - slots_);
  for (uint64_t behind = after(slot); slots_[behind].used() && displacement(behind) > 0; behind = after(behind)) {
    slots_[slot] = slots_[behind];
    slot = behind;
  }
  slots_[slot].flags_ = 0;
  --size_;
}

Entry* Index::next(uint64_t& cursor, uint64_t end) {
  while (cursor < end) {
    Entry& entry = slots_[cursor++];
    if (entry.used()) return &entry;
  }
  return nullptr;
}

}  // namespace memkv::engine
