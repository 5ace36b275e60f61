#include "copy_job.h"

#include <emmintrin.h>

#include <algorithm>
#include <cstring>

namespace memkv::nixl {
namespace {

/// Of a job: from here on its destinations do not stay in the caches anyway.
constexpr uint64_t kStreamBytesMin = 32u << 20;

uint32_t pieces_of(uint64_t bytes) {
  return static_cast<uint32_t>((bytes + kCopyPieceBytesMax - 1) / kCopyPieceBytesMax);
}

/// Stores that pass the caches by: they do not first read what they overwrite.
void stream_copy(char* to, const char* from, uint64_t bytes) {
  const uint64_t head = std::min<uint64_t>(-reinterpret_cast<uintptr_t>(to) % sizeof(__m128i), bytes);
  std::memcpy(to, from, head);
  uint64_t at = head;
  for (; at + sizeof(__m128i) <= bytes; at += sizeof(__m128i)) {
    const __m128i word = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at));
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + at), word);
  }
  std::memcpy(to + at, from + at, bytes - at);
  _mm_sfence();
}

}  // namespace

void CopyJob::prepare() {
  groups_.clear();
  pieces_ = 0;
  host_bytes_ = 0;
  has_device_copies_ = false;
  error_ = nullptr;
  next_piece_.store(0, std::memory_order_relaxed);
  holders_.store(1, std::memory_order_relaxed);
  canceled_.store(false, std::memory_order_relaxed);
  done_.store(false, std::memory_order_relaxed);
  for (uint32_t i = 0; i < copies.size(); ++i) group(i);
}

void CopyJob::group(uint32_t index) {
  const Copy& copy = copies[index];
  if (copy.length == 0) return;
  if (!on_host(copy)) {
    has_device_copies_ = true;
    return;
  }
  host_bytes_ += copy.length;
  if (!groups_.empty()) {
    Group& last = groups_.back();
    const Copy& first = copies[last.first_copy];
    if (last.first_copy + last.copies == index && first.from == copy.from && first.length == copy.length) {
      ++last.copies;
      return;
    }
  }
  groups_.push_back({index, 1, pieces_});
  pieces_ += pieces_of(copy.length);
}

void CopyJob::run_host() {
  size_t at = 0;
  for (;;) {
    const uint32_t piece = next_piece_.fetch_add(1, std::memory_order_relaxed);
    if (piece >= pieces_) return;
    while (at + 1 < groups_.size() && groups_[at + 1].first_piece <= piece) ++at;
    run_piece(groups_[at], piece - groups_[at].first_piece);
  }
}

void CopyJob::run_piece(const Group& group, uint32_t piece) const {
  const uint64_t offset = piece * kCopyPieceBytesMax;
  const uint64_t bytes = std::min(kCopyPieceBytesMax, copies[group.first_copy].length - offset);
  for (const Copy& copy : copies.subspan(group.first_copy, group.copies)) {
    if (canceled()) return;
    auto* to = reinterpret_cast<char*>(copy.to.address + offset);
    const auto* from = reinterpret_cast<const char*>(copy.from.address + offset);
    host_bytes_ >= kStreamBytesMin ? stream_copy(to, from, bytes) : static_cast<void>(std::memcpy(to, from, bytes));
  }
}

void CopyJob::leave_and_tell() {
  const auto tell = on_done;
  void* const whom = context;
  if (!leave()) return;
  done_.store(true, std::memory_order_release);
  // From here on the job is its owner's.
  if (tell) tell(whom);
}

}  // namespace memkv::nixl
