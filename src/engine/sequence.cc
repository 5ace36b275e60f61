/// Sequence numbers and their durable reservation (rule 6).

#include <cstdlib>
#include <cstring>
#include <deque>

#include "base/log.h"
#include "engine/recovery.h"
#include "engine/store_impl.h"

namespace memkv::engine {

uint64_t StoreImpl::next_sequence() {
  MEMKV_ASSERT(sequence_ < kSequenceMax && sequence_ < sequence_end_, "the sequence reservation ran out");
  if (!options_.memory_mode && sequence_end_ - sequence_ == kSequenceReservation / 2) extend_reservation();
  return sequence_++;
}

namespace {

/// The anchors of one new reservation on their way to the drives. Rare: once in 2^23 changes.
struct AnchorWrite {
  uint64_t sequence_end = 0;
  size_t left = 0;
  bool any = false;
  uint64_t* reserved = nullptr;
  size_t* in_flight = nullptr;
  struct One {
    io::IoOp io;
    iovec piece{};
    std::byte* block = nullptr;
    AnchorWrite* all = nullptr;
  };
  std::deque<One> writes;

  static void on_done(io::IoOp& op, int32_t result) {
    One& one = *static_cast<One*>(op.context);
    AnchorWrite* all = one.all;
    std::free(one.block);
    all->any |= result >= 0;
    if (--all->left > 0) return;
    if (all->any) *all->reserved = all->sequence_end;
    --*all->in_flight;
    delete all;
  }
};

}  // namespace

/// Rule 6, long before the range runs out: the next range is durable before its first number is used.
void StoreImpl::extend_reservation() {
  auto* all = new AnchorWrite;
  all->sequence_end = sequence_end_ + kSequenceReservation;
  all->reserved = &sequence_end_;
  all->in_flight = &anchors_in_flight_;
  ++anchors_in_flight_;
  all->left = 1;
  for (auto& log : logs_) {
    if (!log || log->out()) continue;
    auto& one = all->writes.emplace_back();
    one.all = all;
    one.block = static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, kBlockBytes));
    const Anchor a = Recovery(*this).make_anchor(*log, all->sequence_end);
    std::memcpy(one.block, &a, sizeof a);
    one.piece = {one.block, kBlockBytes};
    one.io.context = &one;
    one.io.on_done = AnchorWrite::on_done;
    ++all->left;
    const uint64_t offset = Recovery::anchor_offset(*log, all->sequence_end);
    if (!log->device().write(one.io, offset, {&one.piece, 1}, log->config().slice.dsync)) {
      std::free(one.block);
      --all->left;
      all->writes.pop_back();
    }
  }
  if (--all->left == 0) {
    MEMKV_LOG(kError, "shard {}: no drive takes the sequence reservation", options_.shard);
    --anchors_in_flight_;
    delete all;
  }
}

}  // namespace memkv::engine
