#include "shard/client_board.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace memkv::shard {

ClientName ClientName::of(std::string_view told) {
  ClientName name;
  name.size = static_cast<uint8_t>(std::min(told.size(), kBytesMax));
  const auto shown = [](char c) { return c >= ' ' && c <= '~' ? c : '?'; };
  std::transform(told.begin(), told.begin() + name.size, name.text.begin(), shown);
  return name;
}

ClientBoard::ClientBoard(size_t places) : places_(places) {
  free_.reserve(places);
  for (size_t i = places; i > 0; i--) free_.push_back(static_cast<uint32_t>(i - 1));
}

uint32_t ClientBoard::add(const Entry& entry) {
  MEMKV_ASSERT(!free_.empty(), "more connections than places");
  const uint32_t at = free_.back();
  free_.pop_back();
  const auto words = std::bit_cast<std::array<uint64_t, kWords>>(entry);
  Place& place = places_[at];
  const uint32_t version = place.version.load(std::memory_order_relaxed);
  place.version.store(version + 1, std::memory_order_relaxed);
  for (size_t i = 0; i < kWords; i++) place.words[i].store(words[i], std::memory_order_release);
  place.version.store(version + 2, std::memory_order_release);
  place.used.store(true, std::memory_order_release);
  return at;
}

void ClientBoard::remove(uint32_t place) {
  MEMKV_ASSERT(place < places_.size() && places_[place].used.load(std::memory_order_relaxed), "no such entry");
  places_[place].used.store(false, std::memory_order_release);
  free_.push_back(place);
}

/// False: it is being written, and so was not there when the question came.
bool ClientBoard::read(const Place& place, Entry& entry) {
  if (!place.used.load(std::memory_order_acquire)) return false;
  const uint32_t version = place.version.load(std::memory_order_acquire);
  std::array<uint64_t, kWords> words;
  for (size_t i = 0; i < kWords; i++) words[i] = place.words[i].load(std::memory_order_acquire);
  if (version % 2 != 0 || place.version.load(std::memory_order_relaxed) != version) return false;
  entry = std::bit_cast<Entry>(words);
  return true;
}

void ClientBoard::collect(uint64_t namespace_id, std::vector<Entry>& out) const {
  Entry entry;
  for (const Place& place : places_) {
    if (read(place, entry) && entry.namespace_id == namespace_id) out.push_back(entry);
  }
}

}  // namespace memkv::shard
