#include "objects.h"

#include <unistd.h>

#include <algorithm>

using memkv::Status;

// The queue.

memkv_queue::~memkv_queue() { ::close(fd); }

void memkv_queue::push(memkv_pending& pending) {
  pending.listed = true;
  pending.next = nullptr;
  pending.previous = last;
  (last ? last->next : first) = &pending;
  last = &pending;
  const uint64_t one = 1;  // for each completion: some event loops read a descriptor empty before they look
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof one);
}

void memkv_queue::remove(memkv_pending& pending) {
  (pending.previous ? pending.previous->next : first) = pending.next;
  (pending.next ? pending.next->previous : last) = pending.previous;
  pending.listed = false;
  pending.next = pending.previous = nullptr;
  if (first) return;
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t taken = read(fd, &count, sizeof count);
}

// The client.

/// Ends what nobody collected: the destructor of a Pending waits until its memory is quiet. The I/O threads still run.
memkv_client::~memkv_client() {
  for (const auto& pending : pendings) pending->under_way.reset();
}

memkv_pending& memkv_client::take(memkv_queue* to) {
  const std::lock_guard lock(mutex);
  if (unused.empty()) {
    unused.reserve(pendings.size() + 1);  // room for all, in case all come back
    pendings.push_back(std::make_unique<memkv_pending>(*this));
    unused.push_back(pendings.back().get());
  }
  memkv_pending& pending = *unused.back();
  if (!pending.batch) pending.batch.emplace();
  unused.pop_back();
  pending.used = true;
  pending.queue = to;
  return pending;
}

void memkv_client::give_back(memkv_pending& pending) {
  if (pending.under_way) {
    pending.under_way->wait();
    pending.batch = pending.under_way->take_batch();
  }
  if (pending.batch) pending.batch->clear();
  const std::lock_guard lock(mutex);
  pending.under_way.reset();
  if (pending.listed) pending.queue->remove(pending);
  pending.queue = nullptr;
  pending.complete_early = pending.used = false;
  unused.push_back(&pending);
}

void memkv_client::start(memkv_pending& pending, memkv::Deadline deadline) {
  memkv::Batch leaving = std::move(*pending.batch);
  pending.batch.reset();
  pending.op_count = leaving.size();
  memkv::Client::OnDone on_done;
  if (pending.queue) {
    on_done.context = &pending;
    on_done.fn = [](void* context) {
      auto& done = *static_cast<memkv_pending*>(context);
      const std::lock_guard lock(done.client.mutex);
      if (!done.under_way)
        done.complete_early = true;
      else if (done.queue)
        done.queue->push(done);
    };
  }
  auto submitted = client.submit(std::move(leaving), deadline, on_done);
  const std::lock_guard lock(mutex);
  pending.under_way.emplace(std::move(submitted));
  if (closing) pending.under_way->cancel();
  if (pending.complete_early && pending.queue) pending.queue->push(pending);
}

void memkv_client::end_calls() {
  std::unique_lock lock(mutex);
  closing = true;
  for (const auto& pending : pendings) {
    if (pending->used && pending->under_way) pending->under_way->cancel();
  }
  all_left.wait(lock, [this] { return calls == 0; });
}

void memkv_client::close_descriptors() {
  for (const auto& queue : queues) ::close(queue->fd);
}

namespace memkv::c {

Entered::Entered(memkv_client* client) {
  if (client == nullptr) {
    why_ = failed(Status::kInvalid, "the client is NULL");
  } else if (client->client.forked()) {
    why_ = failed(Status::kForked, kForkedText);
  } else {
    const std::lock_guard lock(client->mutex);
    if (client->closing) {
      why_ = failed(Status::kCanceled, "the client is being closed");
      return;
    }
    client->calls++;
    client_ = client;
  }
}

/// It signals under the lock, since the thread that closes may free the client as soon as the lock is free.
Entered::~Entered() {
  if (client_ == nullptr) return;
  const std::lock_guard lock(client_->mutex);
  if (--client_->calls == 0 && client_->closing) client_->all_left.notify_all();
}

}  // namespace memkv::c
