#pragma once
/// The large blocks that a connection is sending.

#include <cstddef>

#include "base/assert.h"
#include "base/intrusive_list.h"
#include "shard/op.h"
#include "wire/messages.h"

namespace memkv::shard {

inline constexpr uint32_t kUploadsPerConnectionMax = 64;

/// Uploads that were begun and neither committed nor aborted. Thread: worker.
class ConnectionUploads {
 public:
  explicit ConnectionUploads(Connection& connection) : connection_(connection) {}

  bool full() const { return uploads_.size() >= kUploadsPerConnectionMax; }
  bool empty() const { return uploads_.empty(); }
  void add(Upload& upload) {
    MEMKV_ASSERT(!full(), "start_begin() looks first");
    uploads_.push_back(upload);
  }
  void remove(Upload& upload) { uploads_.remove(upload); }
  /// Gives a chunk, commit or abort its upload; kInvalid: there is none that takes it.
  Status find(Op& op);
  /// True: the canceled op began an upload. Its id is on the way to somebody who will not use it.
  bool cancel(const wire::Cancel& canceled);
  /// All but those that are with the store.
  void abort_all();
  /// Ends those past their deadline, and those of which nothing came for long.
  void expire();

 private:
  Connection& connection_;
  base::IntrusiveList<Upload, &Upload::link> uploads_;
};

}  // namespace memkv::shard
