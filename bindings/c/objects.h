#pragma once
/// The objects behind the handles of the C ABI.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "memkv/client.h"
#include "memkv/memkv.h"
#include "status.h"

/// A batch from its submit until it is collected; then it is kept for the next one. Thread: whoever holds the handle.
/// The client's mutex guards `queue` and the list.
struct memkv_pending {
  explicit memkv_pending(memkv_client& of) : client(of) {}

  memkv_client& client;
  std::optional<memkv::Batch> batch;  ///< only while nothing is under way
  size_t op_count = 0;
  uint64_t tag = 0;
  std::optional<memkv::Client::Pending> under_way;

  bool used = false;              ///< somebody has its handle
  bool complete_early = false;    ///< it completed before its submit returned
  memkv_queue* queue = nullptr;   ///< the queue that it goes to when it is complete
  bool listed = false;            ///< it is in that queue's list
  memkv_pending* next = nullptr;  ///< the next one in that list
  memkv_pending* previous = nullptr;
};

/// The completed batches of a client, in the order of completion. Its descriptor counts 1 while the list is not empty.
/// The client's mutex guards it.
struct memkv_queue {
  memkv_queue(memkv_client& of, int descriptor) : client(of), fd(descriptor) {}
  ~memkv_queue();

  void push(memkv_pending& pending);
  void remove(memkv_pending& pending);

  memkv_client& client;
  const int fd;
  memkv_pending* first = nullptr;
  memkv_pending* last = nullptr;
};

/// A client. Calls enter and leave it, so that memkv_close() can wait for them. Thread: any.
struct memkv_client {
  explicit memkv_client(memkv::Client connected) : client(std::move(connected)) {}
  ~memkv_client();

  /// Takes an unused pending, with a batch to fill. `to` is the queue for its completion; it may be null.
  memkv_pending& take(memkv_queue* to);
  void give_back(memkv_pending& pending);
  /// Submits the filled batch of `pending`.
  void start(memkv_pending& pending, memkv::Deadline deadline);
  /// Cancels what is under way, and waits until every other call has left.
  void end_calls();
  /// For the child of a fork. Everything but descriptors belongs to the parent, and its mutex may be held by a thread
  /// that the child does not have.
  void close_descriptors();

  memkv::Client client;
  std::mutex mutex;
  std::condition_variable all_left;
  size_t calls = 0;
  bool closing = false;
  std::vector<std::unique_ptr<memkv_pending>> pendings;
  std::vector<memkv_pending*> unused;
  std::vector<std::unique_ptr<memkv_queue>> queues;
};

struct memkv_region {
  memkv::Region region;
};

namespace memkv::c {

/// A call inside a client, for as long as this lives. If ok() is false, the call must end with the status why().
class Entered {
 public:
  explicit Entered(memkv_client* client);
  ~Entered();
  Entered(const Entered&) = delete;
  Entered& operator=(const Entered&) = delete;
  bool ok() const { return client_ != nullptr; }
  int32_t why() const { return why_; }

 private:
  memkv_client* client_ = nullptr;
  int32_t why_ = MEMKV_OK;
};

/// A pending that goes back at the end, unless somebody got its handle.
class Lease {
 public:
  explicit Lease(memkv_client& client, memkv_queue* to = nullptr) : pending_(&client.take(to)) {}
  ~Lease() {
    if (pending_) pending_->client.give_back(*pending_);
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  memkv_pending& operator*() const { return *pending_; }
  memkv_pending* operator->() const { return pending_; }
  memkv_pending* keep() { return std::exchange(pending_, nullptr); }

 private:
  memkv_pending* pending_;
};

}  // namespace memkv::c
