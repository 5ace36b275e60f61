#include "engine/read_ahead.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace memkv::engine {

Sectors make_sectors(uint64_t bytes) {
  return Sectors(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{base::kSectorBytes})));
}

void ReadAhead::take_memory(Range& range) {
  if (spare_bytes_ >= range.bytes) {
    range.memory = std::move(spare_);
    range.memory_bytes = std::exchange(spare_bytes_, 0);
    return;
  }
  range.memory = make_sectors(range.bytes);
  range.memory_bytes = range.bytes;
}

/// False: the drive takes no more now.
bool ReadAhead::start(Range& range) {
  if (!range.memory) take_memory(range);
  range.piece = {range.memory.get(), range.bytes};
  range.io.context = &range;
  range.io.on_done = [](io::IoOp& op, int32_t result) {
    Range& done = *static_cast<Range*>(op.context);
    done.good = result >= 0;
    done.state = State::kDone;
  };
  const auto begun = log_.device().read(range.io, range.offset, {&range.piece, 1});
  if (!begun && begun.error().status == Status::kBusy) return false;
  range.state = begun ? State::kReads : State::kDone;
  bytes_ += range.bytes;
  return true;
}

void ReadAhead::start(uint64_t bytes_max) {
  for (size_t i = 0; i < std::min(ranges_.size(), kRangesAtOnce); ++i) {
    Range& range = ranges_[i];
    if (range.state != State::kWaits) continue;
    if (i > 0 && bytes_ + range.bytes > bytes_max) return;
    if (!start(range)) return;
  }
}

void ReadAhead::wait(Range& range) {
  while (range.state == State::kWaits && !start(range)) reactor_.run_once(1'000'000);
  while (range.state != State::kDone) reactor_.run_once(10'000'000);
}

const std::byte* ReadAhead::find(uint64_t offset, uint64_t bytes) {
  for (size_t i = 0; i < std::min<size_t>(ranges_.size(), 2); ++i) {
    Range& range = ranges_[i];
    if (!range.holds(offset, bytes)) continue;
    wait(range);
    return range.good ? range.memory.get() + (offset - range.offset) : nullptr;
  }
  return nullptr;
}

void ReadAhead::drop() {
  Range& range = ranges_.front();
  if (range.state == State::kReads) wait(range);
  if (range.state == State::kDone) bytes_ -= range.bytes;
  if (range.memory_bytes > spare_bytes_) {
    spare_ = std::move(range.memory);
    spare_bytes_ = range.memory_bytes;
  }
  ranges_.pop_front();
}

void ReadAhead::drop_all() {
  while (!ranges_.empty()) drop();
}

}  // namespace memkv::engine
