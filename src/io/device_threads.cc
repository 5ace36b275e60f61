#include "io/device_threads.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "base/thread.h"

namespace memkv::io {

DeviceThreads::DeviceThreads(uint32_t threads, Waker& waker) : waker_(waker) {
  for (uint32_t i = 0; i < threads; i++) {
    {
      std::lock_guard lock(mutex_);
      serving_.push_back(-1);
    }
    auto thread = base::start_thread("memkv-device", [this, i] { run(i); });
    if (!thread) {
      std::lock_guard lock(mutex_);
      serving_.pop_back();
      break;
    }
    threads_.push_back(std::move(*thread));
  }
}

DeviceThreads::~DeviceThreads() {
  {
    std::lock_guard lock(mutex_);
    MEMKV_ASSERT(queued_.empty());
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void DeviceThreads::submit(IoOp& op) {
  MEMKV_ASSERT(!threads_.empty(), "without a thread nobody would ever do it");
  op.place = IoOp::Place::kReady;
  {
    std::lock_guard lock(mutex_);
    queued_.push(op);
  }
  work_.notify_one();
}

bool DeviceThreads::withdraw(IoOp& op) {
  std::lock_guard lock(mutex_);
  if (op.place != IoOp::Place::kReady) return false;
  queued_.remove(op);
  return true;
}

void DeviceThreads::take_done(OpQueue& into) {
  MEMKV_ASSERT(into.empty());
  std::lock_guard lock(mutex_);
  any_done_.store(false);
  into.swap(done_);
}

/// Takes the first op whose file is not yet served by all threads but one. The last thread stays free for other files,
/// so that one drive that hangs cannot stop all of them.
IoOp* DeviceThreads::take() {
  const size_t a_file_max = std::max<size_t>(serving_.size() - 1, 1);
  for (IoOp* op = queued_.front(); op != nullptr; op = op->next) {
    if (static_cast<size_t>(std::count(serving_.begin(), serving_.end(), op->fd)) >= a_file_max) continue;
    queued_.remove(*op);
    return op;
  }
  return nullptr;
}

void DeviceThreads::run(size_t thread) {
  std::unique_lock lock(mutex_);
  while (true) {
    IoOp* op = nullptr;
    work_.wait(lock, [&] { return (op = take()) != nullptr || stopping_; });
    if (op == nullptr) return;
    op->place = IoOp::Place::kThread;
    serving_[thread] = op->fd;
    lock.unlock();
    const int32_t result = perform(*op);
    lock.lock();
    serving_[thread] = -1;
    op->result = result;
    done_.push(*op);
    any_done_.store(true);
    waker_.notify();
  }
}

int32_t DeviceThreads::perform(const IoOp& op) {
  const iovec* pieces = op.message.msg_iov;
  const int count = static_cast<int>(op.message.msg_iovlen);
  const auto offset = static_cast<off_t>(op.offset);
  ssize_t moved = -1;
  do {
    switch (op.kind) {
      case IoOp::Kind::kRead:
        moved = preadv(op.fd, pieces, count, offset);
        break;
      case IoOp::Kind::kWrite:
        moved = pwritev2(op.fd, pieces, count, offset, op.dsync ? RWF_DSYNC : 0);
        break;
      case IoOp::Kind::kSync:
        moved = fdatasync(op.fd);
        break;
      default:
        MEMKV_ASSERT(false);
    }
  } while (moved < 0 && errno == EINTR);
  return moved < 0 ? -errno : static_cast<int32_t>(moved);
}

}  // namespace memkv::io
