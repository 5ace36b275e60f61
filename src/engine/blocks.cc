/// What the index knows: blocks, the records behind them, namespaces.

#include <algorithm>

#include "base/checksum.h"
#include "engine/store_impl.h"

namespace memkv::engine {

uint16_t StoreImpl::namespace_index(uint64_t id) {
  for (size_t i = 0; i < namespaces_.size(); ++i) {
    if (namespaces_[i] == id) return static_cast<uint16_t>(i);
  }
  namespaces_.push_back(id);
  flushed_.push_back(0);
  flushed_durably_.push_back(0);
  return static_cast<uint16_t>(namespaces_.size() - 1);
}

RecordRef StoreImpl::ref_of(const Entry& e) const {
  return {e.place(), e.sequence(), e.checksum(), e.length(), e.has(kHasHoles)};
}

Entry* StoreImpl::live(Digest digest) {
  Entry* e = index_.find(digest);
  if (e == nullptr) return nullptr;
  if (usable_log(e->place().drive) != nullptr) return e;
  drop_block(digest, counters_.dropped_drive_out);
  return nullptr;
}

Entry* StoreImpl::live_chunk(Digest digest, uint32_t chunk) {
  Entry* c = index_.find(chunk_digest(digest, chunk));
  if (c == nullptr || usable_log(c->place().drive) != nullptr) return c;
  drop_block(digest, counters_.dropped_drive_out);
  return nullptr;
}

void StoreImpl::erase_chunks(Digest digest, uint64_t block_bytes) {
  for (uint32_t n = 0, count = chunk_count(block_bytes); n < count; ++n) {
    if (Entry* c = index_.find(chunk_digest(digest, n))) {
      counters_.bytes_used -= c->length();
      index_.erase(c);
    }
  }
}

void StoreImpl::drop_block(Digest digest, uint64_t& counter) {
  Entry* e = index_.find(digest);
  if (e == nullptr) return;
  if (e->has(kHead)) {
    erase_chunks(digest, e->checksum());
    e = index_.find(digest);
  }
  counters_.bytes_used -= e->length();
  --counters_.blocks;
  ++counter;
  index_.erase(e);
}

Entry* StoreImpl::install(Digest digest, uint64_t ns, const RecordRef& ref, uint16_t flags, uint32_t expiry_s) {
  Entry* e = index_.find(digest);
  if (e != nullptr) {
    counters_.bytes_used -= e->length();
  } else {
    auto made = index_.insert(digest, namespace_index(ns));
    if (!made) return nullptr;
    e = *made;
  }
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

/// The one step in which a new version becomes the block: its head (or whole record) and all its chunks. False: the
/// index has no room for it, and no version of the block is there any more.
bool StoreImpl::install_block(OpState& st, const RecordRef& ref, bool head, uint64_t ns, uint32_t expiry_s,
                              uint64_t block_bytes, std::span<const std::pair<uint32_t, RecordRef>> chunks) {
  if (ref.sequence < flushed_[namespace_index(ns)]) return true;  // flushed on its way
  const Entry* old = index_.find(st.digest);
  if (old == nullptr) ++counters_.blocks;
  if (old != nullptr && old->has(kHead)) {
    const uint32_t before = chunk_count(old->checksum());
    const uint32_t now = head ? chunk_count(block_bytes) : 0;
    for (uint32_t n = now; n < before; ++n) {
      if (Entry* c = index_.find(chunk_digest(st.digest, n))) {
        counters_.bytes_used -= c->length();
        index_.erase(c);
      }
    }
  }
  bool ok = true;
  for (const auto& [n, c] : chunks) ok = ok && install(chunk_digest(st.digest, n), ns, c, kChunk, expiry_s) != nullptr;
  RecordRef entry = ref;
  if (head) entry.checksum = block_bytes;
  ok = ok && install(st.digest, ns, entry, head ? kHead : 0, expiry_s) != nullptr;
  if (ok) return true;
  uint64_t not_counted = 0;
  ++counters_.dropped_index_full;
  for (const auto& [n, c] : chunks) {
    if (Entry* e = index_.find(chunk_digest(st.digest, n))) {
      counters_.bytes_used -= e->length();
      index_.erase(e);
    }
  }
  if (index_.find(st.digest) == nullptr)
    --counters_.blocks;
  else
    drop_block(st.digest, not_counted);
  return false;
}

bool StoreImpl::exists(const BlockKey& key) { return live(key.digest) != nullptr; }

bool StoreImpl::stat(const BlockKey& key, BlockStat& out) {
  const Entry* e = live(key.digest);
  if (e == nullptr) return false;
  out = {e->sequence(), block_bytes_of(*e), e->expiry_s(), has_holes(key.digest, *e)};
  return true;
}

bool StoreImpl::has_holes(Digest digest, const Entry& e) const {
  if (!e.has(kHead)) return e.has(kHasHoles);
  const uint64_t bytes = e.checksum();
  for (uint32_t n = 0, count = chunk_count(bytes); n < count; ++n) {
    const Entry* c = index_.find(chunk_digest(digest, n));
    const uint64_t full = std::min(bytes - n * base::kChunkBytes, base::kChunkBytes);
    if (c == nullptr || c->has(kHasHoles) || c->length() < full) return true;
  }
  return false;
}

bool StoreImpl::touch(const BlockKey& key) {
  Entry* e = live(key.digest);
  if (e == nullptr) return false;
  e->set(kHit);
  return true;
}

uint64_t StoreImpl::list(uint64_t ns, uint64_t cursor, uint32_t limit, void (*visit)(void*, const ListEntry&),
                         void* context) {
  uint32_t found = 0;
  const uint64_t end = std::min(index_.slot_count(), cursor + kListStepSlots);
  while (const Entry* e = index_.next(cursor, end)) {
    if (e->has(kChunk) || namespaces_[e->namespace_index()] != ns) continue;
    visit(context, {e->digest(), e->sequence(), block_bytes_of(*e)});
    if (++found == limit) return cursor;
  }
  return end < index_.slot_count() ? end : 0;
}

}  // namespace memkv::engine
