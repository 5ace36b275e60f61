#include "engine/op_pool.h"

#include "base/assert.h"

namespace memkv::engine {

OpPool::OpPool(Completions& completions, Tick& tick)
    : completions_(completions), tick_(tick), places_(new Place[kOpsMax]) {
  for (size_t i = 0; i < kOpsMax; ++i) {
    places_[i].next_free = free_;
    free_ = &places_[i];
  }
}

/// A store may go while ops are under way: after a power cut in a test they never end.
OpPool::~OpPool() {
  for (size_t i = 0; i < kOpsMax; ++i) {
    if (places_[i].op != nullptr) places_[i].op->~PooledOp();
  }
}

OpPool::Place* OpPool::take(StoreOp& op) {
  Place* place = free_;
  if (place == nullptr || tick_.closing()) {
    completions_.add(op, tick_.closing() ? Status::kCanceled : Status::kBusy);
    return nullptr;
  }
  free_ = place->next_free;
  ++used_;
  return place;
}

void OpPool::free(PooledOp& op) {
  auto* place = static_cast<Place*>(dynamic_cast<void*>(&op));  // its memory is the place's first member
  MEMKV_ASSERT(place->op == &op && used_ > 0, "it is freed once");
  op.~PooledOp();
  place->op = nullptr;
  place->next_free = free_;
  free_ = place;
  new_entries_ -= place->new_entries;
  if (--used_ == 0) tick_.ended();
}

}  // namespace memkv::engine
