#pragma once
/// First in, first out, without memory of its own: to start a job allocates nothing, however many wait.

#include "base/assert.h"
#include "copy_job.h"

namespace memkv::nixl {

/// `kNext` is the member of a job that links it here; a job stands in as many queues as it has such members.
/// Thread: one at a time.
template <CopyJob* CopyJob::*kNext>
class CopyJobQueue {
 public:
  bool empty() const { return first_ == nullptr; }
  CopyJob& front() const { return *first_; }

  void push(CopyJob& job) {
    job.*kNext = nullptr;
    (last_ ? last_->*kNext : first_) = &job;
    last_ = &job;
  }

  CopyJob& pop() {
    MEMKV_ASSERT(!empty(), "there is a job to pop");
    CopyJob& job = *first_;
    remove(job);
    return job;
  }

  bool contains(const CopyJob& job) const {
    const CopyJob* at = first_;
    while (at && at != &job) at = at->*kNext;
    return at != nullptr;
  }

  /// False: it was not here.
  bool remove(CopyJob& job) {
    CopyJob* before = nullptr;
    CopyJob* at = first_;
    for (; at && at != &job; at = at->*kNext) before = at;
    if (!at) return false;
    (before ? before->*kNext : first_) = job.*kNext;
    if (last_ == &job) last_ = before;
    return true;
  }

 private:
  CopyJob* first_ = nullptr;
  CopyJob* last_ = nullptr;
};

}  // namespace memkv::nixl
