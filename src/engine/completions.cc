#include "engine/completions.h"

#include "base/assert.h"

namespace memkv::engine {

Completions::Completions(io::Reactor& reactor) : reactor_(reactor) {
  post_.on_done = on_post;
  post_.context = this;
}

void Completions::add(StoreOp& op, Status status) {
  MEMKV_ASSERT(op.on_done != nullptr);
  MEMKV_ASSERT(&op != tail_, "an op completes once");
  op.status = status;
  op.next = nullptr;
  (head_ == nullptr ? head_ : tail_->next) = &op;
  tail_ = &op;
  if (posted_) return;
  posted_ = true;
  MEMKV_ASSERT(reactor_.post(post_, 0).ok());
}

void Completions::on_post(io::IoOp& op, int32_t) {
  Completions& c = *static_cast<Completions*>(op.context);
  MEMKV_ASSERT(c.posted_ && c.head_ != nullptr);
  c.posted_ = false;
  StoreOp* next = c.head_;
  c.head_ = c.tail_ = nullptr;
  while (next != nullptr) {
    StoreOp* done = next;
    next = done->next;
    done->on_done(*done);
  }
}

}  // namespace memkv::engine
