#pragma once
/// Structs that begin with their size, between programs and libraries of different age.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "status.h"

namespace memkv::c {

/// The size a caller gave is that of a version between the first one and whatever is to come. `first_bytes`: of the
/// first version.
inline Checked check_size(const char* name, size_t size, size_t first_bytes) {
  if (size >= first_bytes) return {};
  return invalid(std::string(name) + ": struct_size is " + std::to_string(size) + ", and the smallest there is has " +
                 std::to_string(first_bytes) + " bytes: zero the struct and set struct_size to its sizeof");
}

/// Reads a caller's struct: what an older one lacks is zero, and what a newer one has more must be.
template <typename T>
Checked read_sized(const char* name, const T* from, size_t first_bytes, T& to) {
  to = {};
  if (from == nullptr) return invalid(std::string(name) + " is NULL");
  size_t size = 0;
  std::memcpy(&size, from, sizeof size);
  if (auto checked = check_size(name, size, first_bytes); !checked) return checked;
  const auto* bytes = reinterpret_cast<const unsigned char*>(from);
  for (size_t at = sizeof(T); at < size; at++) {
    if (bytes[at] == 0) continue;
    return invalid(std::string(name) + ": byte " + std::to_string(at) +
                   " is set, which this library does not know: it is older than the header that the program was "
                   "compiled with");
  }
  std::memcpy(&to, from, std::min(size, sizeof(T)));
  return {};
}

/// Fills a caller's struct as far as it goes; what it has more than `from` becomes zero.
template <typename T>
Checked write_sized(const char* name, T* to, size_t first_bytes, T from) {
  if (to == nullptr) return invalid(std::string(name) + " is NULL");
  size_t size = 0;
  std::memcpy(&size, to, sizeof size);
  if (auto checked = check_size(name, size, first_bytes); !checked) return checked;
  from.struct_size = size;
  std::memcpy(to, &from, std::min(size, sizeof(T)));
  if (size > sizeof(T)) std::memset(reinterpret_cast<unsigned char*>(to) + sizeof(T), 0, size - sizeof(T));
  return {};
}

}  // namespace memkv::c
