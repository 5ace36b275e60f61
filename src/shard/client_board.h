#pragma once
/// Who is connected to a worker, for people: written by the worker, read by whoever makes a status.

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

#include "memkv/types.h"
#include "shard/known_clients.h"

namespace memkv::shard {

/// What a client calls itself in HELLO. It is for people alone and proves nothing. Printable ASCII: any other byte is
/// shown as '?', and what does not fit is cut.
struct ClientName {
  static constexpr size_t kBytesMax = 63;
  std::array<char, kBytesMax> text{};
  uint8_t size = 0;

  static ClientName of(std::string_view told);
  std::string_view view() const { return {text.data(), size}; }
};

/// A place for each connection. Each entry is read whole; together they may be of several moments.
class ClientBoard {
 public:
  struct Entry {
    uint64_t namespace_id = 0;
    ClientId client{};
    ClientName name;
    Transport transport = Transport::kTcp;
    std::array<uint8_t, 7> reserved{};
  };
  static_assert(sizeof(Entry) == 96 && sizeof(Entry) % sizeof(uint64_t) == 0);

  explicit ClientBoard(size_t places);
  static uint64_t bytes_a_place() { return sizeof(Place) + sizeof(uint32_t); }

  /// Thread: worker. There is always room: connections come from a pool of as many.
  uint32_t add(const Entry& entry);
  void remove(uint32_t place);
  size_t in_use() const { return places_.size() - free_.size(); }
  /// Thread: any. Appends the connections of one namespace.
  void collect(uint64_t namespace_id, std::vector<Entry>& out) const;

 private:
  static constexpr size_t kWords = sizeof(Entry) / sizeof(uint64_t);
  /// `version` is odd while the words change. The words are written with release and read with acquire: a reader that
  /// has met a new word sees the odd version behind it.
  struct Place {
    std::atomic<uint32_t> version{0};
    std::atomic<bool> used{false};
    std::array<std::atomic<uint64_t>, kWords> words{};
  };
  static bool read(const Place& place, Entry& entry);

  std::vector<Place> places_;
  std::vector<uint32_t> free_;  ///< the last one is taken next: places in use stay at the front
};

}  // namespace memkv::shard
