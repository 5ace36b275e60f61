#include "engine/blocks.h"

#include <algorithm>

#include "base/assert.h"
#include "base/checksum.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kIndexEntriesMin = 64;

uint32_t chunks_of(const Entry& e) { return e.has(kHead) ? chunk_count(e.checksum()) : 0; }

}  // namespace

bool lies_in(Place place, const Log& log, uint64_t epoch) {
  return place.drive == log.config().slice.drive_index &&
         log.segments().epoch_at(place.pack * format::kPackBytes) == epoch;
}

Blocks::Blocks(const StoreOptions& options, Drives& drives, StoreCounters& counters)
    : options_(options),
      drives_(drives),
      counters_(counters),
      index_(std::max(options.index_entries_max, kIndexEntriesMin)) {}

uint16_t Blocks::namespace_index(uint64_t namespace_id) {
  for (size_t i = 0; i < namespaces_.size(); ++i) {
    if (namespaces_[i].id == namespace_id) return static_cast<uint16_t>(i);
  }
  MEMKV_ASSERT(namespaces_.size() < UINT16_MAX, "an entry has 16 bits for it");
  namespaces_.push_back({namespace_id, 0, 0});
  return static_cast<uint16_t>(namespaces_.size() - 1);
}

Entry* Blocks::find_record(const format::RecordHeader& header, Place place) {
  const Digest digest{header.digest[0], header.digest[1]};
  const bool chunk = header.kind == format::RecordKind::kChunk;
  Entry* e = index_.find(chunk ? chunk_digest(digest, header.chunk_number) : digest);
  return e != nullptr && e->sequence() == header.sequence && e->place() == place ? e : nullptr;
}

Entry* Blocks::find_usable(Digest digest) {
  Entry* e = index_.find(digest);
  if (e == nullptr) return nullptr;
  if (drives_.usable_log(e->place().drive) != nullptr) return e;
  drop(digest, &StoreCounters::dropped_drive_out);
  return nullptr;
}

Entry* Blocks::find_usable_chunk(Digest block, uint32_t chunk) {
  Entry* c = index_.find(chunk_digest(block, chunk));
  if (c == nullptr || drives_.usable_log(c->place().drive) != nullptr) return c;
  drop(block, &StoreCounters::dropped_drive_out);
  return nullptr;
}

bool Blocks::waits_for_drive(Digest digest) const {
  const Entry* e = drives_.any_lags() ? find(digest) : nullptr;
  if (e == nullptr) return false;
  bool waits = drives_.lags(e->place().drive);
  for (uint32_t n = 0, count = chunks_of(*e); n < count && !waits; ++n) {
    const Entry* c = find_chunk(digest, n);
    waits = c != nullptr && drives_.lags(c->place().drive);
  }
  return waits;
}

void Blocks::erase(Entry* entry) {
  MEMKV_ASSERT(counters_.bytes_used >= entry->length());
  counters_.bytes_used -= entry->length();
  index_.erase(entry);
}

void Blocks::erase_chunks(Digest block, uint32_t begin, uint32_t end) {
  for (uint32_t n = begin; n < end; ++n) {
    if (Entry* c = index_.find(chunk_digest(block, n))) erase(c);
  }
}

void Blocks::drop(Digest digest, Counter counter) {
  Entry* e = index_.find(digest);
  if (e == nullptr) return;
  MEMKV_ASSERT(!e->has(kChunk) && counters_.blocks > 0);
  if (e->has(kHead)) {
    erase_chunks(digest, 0, chunks_of(*e));
    e = index_.find(digest);
  }
  erase(e);
  --counters_.blocks;
  if (counter != nullptr) ++(counters_.*counter);
}

Entry* Blocks::install(Digest digest, uint16_t namespace_index, const RecordRef& ref, uint16_t flags,
                       uint32_t expiry_s) {
  bool fresh = false;
  const auto found = index_.find_or_insert(digest, namespace_index, fresh);
  if (!found) return nullptr;
  Entry* e = *found;
  if (!fresh) counters_.bytes_used -= e->length();
  e->set_place(ref.place);
  e->set_sequence(ref.sequence);
  e->set_checksum(ref.checksum);
  e->set_length(ref.length);
  e->set_expiry_s(expiry_s);
  e->set(kHead, (flags & kHead) != 0);
  e->set(kChunk, (flags & kChunk) != 0);
  e->set(kHasHoles, ref.has_holes);
  e->set(kHit, false);
  counters_.bytes_used += ref.length;
  return e;
}

bool Blocks::install_block(Digest digest, const RecordRef& ref, bool head, uint64_t namespace_id, uint32_t expiry_s,
                           uint64_t block_bytes, std::span<const ChunkRefs::value_type> chunks) {
  const uint16_t ns = namespace_index(namespace_id);
  if (ref.sequence < namespaces_[ns].flushed) return true;  // flushed on its way
  const Entry* old = find(digest);
  if (old == nullptr) ++counters_.blocks;
  if (old != nullptr) erase_chunks(digest, head ? chunk_count(block_bytes) : 0, chunks_of(*old));
  bool ok = true;
  for (const auto& [n, c] : chunks) ok = ok && install(chunk_digest(digest, n), ns, c, kChunk, expiry_s) != nullptr;
  RecordRef entry = ref;
  if (head) entry.checksum = block_bytes;
  ok = ok && install(digest, ns, entry, head ? kHead : 0, expiry_s) != nullptr;
  if (ok) return true;
  ++counters_.dropped_index_full;
  for (const auto& [n, c] : chunks) erase_chunks(digest, n, n + 1);
  if (find(digest) == nullptr)
    --counters_.blocks;
  else
    drop(digest, nullptr);
  return false;
}

bool Blocks::restore_block(Digest digest, const RecordRef& ref, uint16_t namespace_index, uint32_t expiry_s) {
  MEMKV_ASSERT(namespace_index < namespaces_.size() && namespaces_[namespace_index].flushed == 0, "nothing served yet");
  const uint64_t before = index_.size();
  if (install(digest, namespace_index, ref, 0, expiry_s) == nullptr) {
    ++counters_.dropped_index_full;
    return false;
  }
  counters_.blocks += index_.size() - before;
  return true;
}

void Blocks::evict(Digest digest, Log& log) {
  log.evictions().note(digest);
  drop(digest, &StoreCounters::dropped_evicted);
}

/// The long way round, where a segment's headers do not say what is in it.
void Blocks::evict_all_in(Log& log, uint64_t epoch) {
  const auto inside = [&](const Entry* e) { return e != nullptr && lies_in(e->place(), log, epoch); };
  std::vector<Digest> gone;
  uint64_t cursor = 0;
  while (const Entry* e = index_.next(cursor)) {
    if (e->has(kChunk)) continue;
    bool lost = inside(e);
    for (uint32_t n = 0, count = chunks_of(*e); n < count && !lost; ++n) lost = inside(find_chunk(e->digest(), n));
    if (lost) gone.push_back(e->digest());
  }
  for (const Digest& d : gone) evict(d, log);
}

Blocks::Leftover Blocks::leftover_of(Digest digest, Place fresh, uint64_t namespace_id) {
  const Entry* old = find_usable(digest);
  Leftover left;
  left.elsewhere = old != nullptr && drives_.needs_own_tombstone(old->place(), fresh);
  if (left.elsewhere) left.place = old->place();
  left.gone = old == nullptr && may_return(digest, namespace_id);
  return left;
}

bool Blocks::may_return(Digest digest, uint64_t namespace_id) const {
  if (options_.memory_mode) return false;
  return flush_is_open(namespace_id) || drives_.evicted_may_return(digest);
}

void Blocks::begin_flush(uint64_t namespace_id, uint64_t sequence) {
  uint64_t& flushed = namespaces_[namespace_index(namespace_id)].flushed;
  MEMKV_ASSERT(sequence > flushed, "sequences grow");
  flushed = sequence;
}

void Blocks::drop_flushed(uint64_t namespace_id, uint64_t sequence) {
  std::vector<Digest> gone;
  uint64_t cursor = 0;
  const uint16_t index = namespace_index(namespace_id);
  while (const Entry* e = index_.next(cursor)) {
    if (!e->has(kChunk) && e->namespace_index() == index && e->sequence() < sequence) gone.push_back(e->digest());
  }
  for (const Digest& d : gone) drop(d, nullptr);
}

void Blocks::end_flush(uint64_t namespace_id, uint64_t sequence) {
  uint64_t& durable = namespaces_[namespace_index(namespace_id)].flushed_durably;
  durable = std::max(durable, sequence);
}

/// Blocks of the namespace have left the index, though a log may not have the flush: it is under way, or it failed.
bool Blocks::flush_is_open(uint64_t namespace_id) const {
  for (const Namespace& ns : namespaces_) {
    if (ns.id == namespace_id) return ns.flushed > ns.flushed_durably;
  }
  return false;
}

bool Blocks::stat(const BlockKey& key, BlockStat& out) {
  const Entry* e = find_usable(key.digest);
  if (e == nullptr) return false;
  out = {e->sequence(), block_bytes_of(*e), e->expiry_s(), has_holes(key.digest, *e)};
  return true;
}

bool Blocks::has_holes(Digest digest, const Entry& e) const {
  if (!e.has(kHead)) return e.has(kHasHoles);
  const uint64_t bytes = e.checksum();
  for (uint32_t n = 0, count = chunk_count(bytes); n < count; ++n) {
    const Entry* c = find_chunk(digest, n);
    const uint64_t full = std::min(bytes - n * base::kChunkBytes, base::kChunkBytes);
    if (c == nullptr || c->has(kHasHoles) || c->length() < full) return true;
  }
  return false;
}

bool Blocks::touch(const BlockKey& key) {
  Entry* e = find_usable(key.digest);
  if (e == nullptr) return false;
  e->set(kHit);
  return true;
}

uint64_t Blocks::list(uint64_t namespace_id, uint64_t cursor, uint32_t limit,
                      void (*visit)(void*, const Store::ListEntry&), void* context) {
  uint32_t found = 0;
  const uint64_t end = std::min(index_.slot_count(), cursor + Store::kListStepSlots);
  while (const Entry* e = index_.next(cursor, end)) {
    if (e->has(kChunk) || namespaces_[e->namespace_index()].id != namespace_id) continue;
    visit(context, {e->digest(), e->sequence(), block_bytes_of(*e)});
    if (++found == limit) return cursor;
  }
  return end < index_.slot_count() ? end : 0;
}

}  // namespace memkv::engine
