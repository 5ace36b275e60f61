#pragma once
/// What the handles of the C ABI point to.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "memkv/client.h"
#include "memkv/memkv.h"
#include "status.h"

/// A batch from its submit to its collection, then kept for the next one. Thread: who holds the handle, but for `queue`
/// and the list, which the client's mutex guards.
struct memkv_pending {
  explicit memkv_pending(memkv_client& of) : client(of) {}

  memkv_client& client;
  std::optional<memkv::Batch> batch;  ///< while nothing is under way
  size_t op_count = 0;
  uint64_t tag = 0;
  std::optional<memkv::Client::Pending> under_way;

  bool used = false;              ///< somebody has its handle
  bool complete_early = false;    ///< before its submit had returned
  memkv_queue* queue = nullptr;   ///< where it goes when it is complete
  bool listed = false;            ///< it is in the queue's list
  memkv_pending* next = nullptr;  ///< in that list
  memkv_pending* previous = nullptr;
};

/// Completed batches of a client, first come first. Its descriptor counts 1 while the list is not empty. The client's
/// mutex guards it.
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

/// Calls enter it and leave it, so that a close can wait for them. Thread: any.
struct memkv_client {
  explicit memkv_client(memkv::Client connected) : client(std::move(connected)) {}
  ~memkv_client();

  /// One that is unused, with a batch to fill. `to`: where it goes when it is complete; may be null.
  memkv_pending& take(memkv_queue* to);
  void give_back(memkv_pending& pending);
  /// The filled batch of `pending` leaves.
  void start(memkv_pending& pending, memkv::Deadline deadline);
  /// Cancels what is under way and waits until every other call has left.
  void end_calls();
  /// In the child of a fork: everything but descriptors is the parent's, and its mutex may be held by nobody.
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

/// A call inside a client, from here to its end. ok() = it may go on; else why() is its status.
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

/// A pending that goes back, unless somebody gets its handle.
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
