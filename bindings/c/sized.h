#pragma once
/// Structs that begin with their size. Programs and libraries of different age can so exchange them.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "status.h"

namespace memkv::c {

/// Checks the size that a caller gave: it must be that of the first version (`first_bytes`) or of a later one.
inline Checked check_size(const char* name, size_t size, size_t first_bytes) {
  if (size >= first_bytes) return {};
  return invalid(std::string(name) + ": struct_size is " + std::to_string(size) + ", and the smallest there is has " +
                 std::to_string(first_bytes) + " bytes: zero the struct and set struct_size to its sizeof");
}

/// Reads a caller's struct. Fields that an older one lacks are zero. Fields that a newer one has in addition must be
/// zero.
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

/// Fills in a caller's struct as far as it goes. What it has in addition to `from` becomes zero.
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
