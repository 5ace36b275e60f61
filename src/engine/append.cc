#include "engine/append.h"

#include "base/assert.h"

namespace memkv::engine {

void AppendQueue::push(Append& a) {
  a.next = nullptr;
  (head == nullptr ? head : tail->next) = &a;
  tail = &a;
  bytes += a.header.payload_bytes;
}

Append* AppendQueue::pop() {
  Append* a = head;
  if (a == nullptr) return nullptr;
  head = a->next;
  if (head == nullptr) tail = nullptr;
  a->next = nullptr;
  MEMKV_ASSERT(bytes >= a->header.payload_bytes);
  bytes -= a->header.payload_bytes;
  return a;
}

void AppendQueue::prepend(AppendQueue& other) {
  if (other.empty()) return;
  other.tail->next = head;
  if (head == nullptr) tail = other.tail;
  head = other.head;
  bytes += other.bytes;
  other = {};
}

FinishedAppends::FinishedAppends(io::Reactor& reactor, Owner& owner) : reactor_(reactor), owner_(owner) {
  post_.context = this;
  post_.on_done = on_post;
}

FinishedAppends::~FinishedAppends() { MEMKV_ASSERT(!post_.pending()); }

void FinishedAppends::add(Append& append, Status status) {
  append.status = status;
  queue_.push(append);
  pump_soon();
}

void FinishedAppends::pump_soon() {
  if (posted_) return;
  posted_ = true;
  MEMKV_ASSERT(reactor_.post(post_, 0).ok());
}

void FinishedAppends::add_all(AppendQueue& appends, Status status) {
  while (Append* a = appends.pop()) add(*a, status);
}

void FinishedAppends::on_post(io::IoOp& op, int32_t) {
  FinishedAppends& f = *static_cast<FinishedAppends*>(op.context);
  MEMKV_ASSERT(f.posted_);
  f.posted_ = false;
  AppendQueue done = f.queue_;
  f.queue_ = {};
  while (Append* a = done.pop()) {
    const uint64_t room_epoch = a->reserved_epoch, room_sector = a->reserved_sector;
    a->on_done(*a);
    if (room_sector != 0) f.owner_.close_room(room_epoch, room_sector);
  }
  f.owner_.pump();
}

}  // namespace memkv::engine
