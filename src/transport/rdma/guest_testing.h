#pragma once
/// For tests: RDMA exists inside the guest (tools/guest.sh) and only there. Suites take their parameters from here:
/// outside they then have no tests at all, and inside nothing is skipped.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>
#include <vector>

namespace memkv::transport::rdma {

inline bool in_guest() {
  const char* guest = std::getenv("RXE_GUEST");
  return guest && std::string_view(guest) == "1";
}

template <typename T>
std::vector<T> only_in_guest(std::vector<T> values) {
  if (!in_guest()) values.clear();
  return values;
}

}  // namespace memkv::transport::rdma
