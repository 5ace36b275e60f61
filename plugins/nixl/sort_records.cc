#include "sort_records.h"

#include <array>
#include <cstddef>
#include <utility>

namespace memkv::nixl {
namespace {

constexpr size_t kInsertionMax = 32;  // below, 256 counters cost more than the moves they save
constexpr unsigned kLowBytes = sizeof(SortRecord::low);
constexpr unsigned kBytes = kLowBytes + sizeof(SortRecord::high);

bool is_sorted(const std::vector<SortRecord>& records) {
  for (size_t i = 1; i < records.size(); ++i) {
    if (records[i] < records[i - 1]) return false;
  }
  return true;
}

void insertion_sort(std::vector<SortRecord>& records) {
  for (size_t i = 1; i < records.size(); ++i) {
    const SortRecord moved = records[i];
    size_t at = i;
    for (; at > 0 && moved < records[at - 1]; --at) records[at] = records[at - 1];
    records[at] = moved;
  }
}

/// Bits that are not the same in all records.
SortRecord differing(const std::vector<SortRecord>& records) {
  SortRecord bits;
  for (const SortRecord& record : records) {
    bits.low |= record.low ^ records[0].low;
    bits.high |= record.high ^ records[0].high;
  }
  return bits;
}

/// Byte `n` of a record's sort key, counted from the least significant one.
size_t byte_of(const SortRecord& record, unsigned n) {
  return (n < kLowBytes ? record.low >> (8 * n) : uint64_t{record.high} >> (8 * (n - kLowBytes))) & 0xff;
}

/// Where each byte value's records begin.
std::array<uint32_t, 256> starts(const std::vector<SortRecord>& records, unsigned byte) {
  std::array<uint32_t, 256> at{};
  for (const SortRecord& record : records) ++at[byte_of(record, byte)];
  uint32_t sum = 0;
  for (uint32_t& count : at) sum += std::exchange(count, sum);
  return at;
}

void scatter(const std::vector<SortRecord>& from, unsigned byte, std::vector<SortRecord>& to) {
  auto at = starts(from, byte);
  for (const SortRecord& record : from) to[at[byte_of(record, byte)]++] = record;
}

void radix_sort(std::vector<SortRecord>& records, std::vector<SortRecord>& scratch) {
  const SortRecord bits = differing(records);
  scratch.resize(records.size());
  for (unsigned byte = 0; byte < kBytes; ++byte) {
    if (byte_of(bits, byte) == 0) continue;
    scatter(records, byte, scratch);
    records.swap(scratch);
  }
}

}  // namespace

bool sort_records(std::vector<SortRecord>& records, std::vector<SortRecord>& scratch) {
  if (is_sorted(records)) return false;
  if (records.size() <= kInsertionMax) {
    insertion_sort(records);
  } else {
    radix_sort(records, scratch);
  }
  return true;
}

}  // namespace memkv::nixl
