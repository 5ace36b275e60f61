#include "engine/buffers.h"

#include <algorithm>
#include <new>

#include "base/assert.h"

namespace memkv::engine {
namespace {

constexpr size_t kExtentsMin = 16, kExtentsMax = 32;  // small records under way; 8 a drive
constexpr size_t kExtentsADrive = 8;
constexpr size_t kMergesADrive = 2, kMergesMax = 4;

size_t extents_for(size_t drives) { return std::clamp(kExtentsADrive * drives, kExtentsMin, kExtentsMax); }

size_t merges_for(size_t drives) { return std::clamp(kMergesADrive * drives, kMergesADrive, kMergesMax); }

}  // namespace

uint64_t Buffers::bytes_for(size_t drives) {
  return extents_for(drives) * kExtentBufferBytes + merges_for(drives) * kBigBufferBytes;
}

Buffers::Buffers(size_t drives) : extents_(extents_for(drives)), merges_(merges_for(drives)) {
  auto memory = io::HugeMemory::make(bytes_for(drives), /*prefault=*/true);
  if (!memory) throw std::bad_alloc();
  memory_ = std::move(*memory);
  for (size_t i = 0; i < extents_; ++i) free_extents_.push_back(memory_.data() + i * kExtentBufferBytes);
  std::byte* merges = memory_.data() + extents_ * kExtentBufferBytes;
  for (size_t i = 0; i < merges_; ++i) free_merges_.push_back(merges + i * kBigBufferBytes + base::kSectorBytes);
}

std::byte* Buffers::take_extent() {
  if (free_extents_.empty()) return nullptr;
  std::byte* buffer = free_extents_.back();
  free_extents_.pop_back();
  return buffer;
}

void Buffers::give_extent(std::byte* buffer) {
  MEMKV_ASSERT(buffer != nullptr && free_extents_.size() < extents_, "more came back than went out");
  free_extents_.push_back(buffer);
}

std::byte* Buffers::take_merge() {
  MEMKV_ASSERT(!free_merges_.empty(), "who takes one asks before");
  std::byte* data = free_merges_.back();
  free_merges_.pop_back();
  return data;
}

void Buffers::give_merge(std::byte* data) {
  MEMKV_ASSERT(data != nullptr && free_merges_.size() < merges_, "more came back than went out");
  free_merges_.push_back(data);
}

}  // namespace memkv::engine
