/// Batches, single ops and events.

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "columns.h"
#include "objects.h"
#include "sized.h"

using memkv::Batch;
using memkv::Deadline;
using memkv::Outcome;
using memkv::Status;
using namespace memkv::c;

namespace {

/// Checks the batch and submits it.
int32_t submit(const memkv_batch* batch, uint64_t tag, const Lease& lease) {
  memkv_batch columns;
  if (auto read = read_batch(batch, columns); !read) return failed(read.error());
  fill(columns, *lease->batch);
  lease->tag = tag;
  lease->client.start(*lease, Deadline(columns.timeout_ns));
  return MEMKV_OK;
}

int32_t write_outcome(const Outcome& from, memkv_outcome* to) {
  if (to == nullptr) return MEMKV_OK;
  const memkv_outcome outcome{.struct_size = 0,
                              .status = static_cast<int32_t>(from.status),
                              .exists = from.exists,
                              .unreachable = from.unreachable,
                              .reserved = 0,
                              .bytes = from.bytes,
                              .block_bytes = from.block_bytes,
                              .generation = from.generation};
  const auto written = write_sized("memkv_outcome", to, sizeof(memkv_outcome), outcome);
  return written ? MEMKV_OK : failed(written.error());
}

/// Runs one op, from its arguments to its status. `add` puts it into the batch.
template <typename Add>
int32_t run_one(memkv_client* client, const void* key, size_t key_size, const void* data, size_t size,
                int64_t timeout_ns, memkv_outcome* outcome, Add add) {
  return guarded([&] {
    const Entered entered(client);
    if (!entered.ok()) return entered.why();
    if (key == nullptr && key_size > 0) return failed(Status::kInvalid, "the key is NULL");
    if (data == nullptr && size > 0) return failed(Status::kInvalid, "the memory is NULL");
    if (timeout_ns < 0) return failed(Status::kInvalid, "timeout_ns is negative");
    if (outcome) {  // a wrong struct is reported before anything is done
      if (const int32_t wrong = write_outcome({}, outcome); wrong != MEMKV_OK) return wrong;
    }
    const Lease lease(*client);
    add(*lease->batch, std::string_view(static_cast<const char*>(key), key_size));
    client->start(*lease, Deadline(timeout_ns));
    const Outcome& done = lease->under_way->wait().front();
    write_outcome(done, outcome);
    return told(done.status);
  });
}

}  // namespace

extern "C" {

int32_t memkv_put(memkv_client* client, const void* key, size_t key_size, const void* data, size_t size,
                  int64_t timeout_ns, memkv_outcome* outcome) {
  return run_one(client, key, key_size, data, size, timeout_ns, outcome, [&](Batch& batch, std::string_view k) {
    batch.put(k, {data, size});
  });
}

int32_t memkv_put_if_absent(memkv_client* client, const void* key, size_t key_size, const void* data, size_t size,
                            int64_t timeout_ns, memkv_outcome* outcome) {
  return run_one(client, key, key_size, data, size, timeout_ns, outcome, [&](Batch& batch, std::string_view k) {
    batch.put_if_absent(k, {data, size});
  });
}

int32_t memkv_write(memkv_client* client, const void* key, size_t key_size, const void* data, size_t size,
                    uint64_t offset, int64_t timeout_ns, memkv_outcome* outcome) {
  return run_one(client, key, key_size, data, size, timeout_ns, outcome, [&](Batch& batch, std::string_view k) {
    batch.write(k, {data, size}, offset);
  });
}

int32_t memkv_get(memkv_client* client, const void* key, size_t key_size, void* data, size_t size, uint64_t offset,
                  int64_t timeout_ns, memkv_outcome* outcome) {
  return run_one(client, key, key_size, data, size, timeout_ns, outcome, [&](Batch& batch, std::string_view k) {
    batch.get(k, {data, size}, offset);
  });
}

int32_t memkv_exists(memkv_client* client, const void* key, size_t key_size, int64_t timeout_ns,
                     memkv_outcome* outcome) {
  return run_one(client, key, key_size, nullptr, 0, timeout_ns, outcome,
                 [](Batch& batch, std::string_view k) { batch.exists(k); });
}

int32_t memkv_remove(memkv_client* client, const void* key, size_t key_size, int64_t timeout_ns,
                     memkv_outcome* outcome) {
  return run_one(client, key, key_size, nullptr, 0, timeout_ns, outcome,
                 [](Batch& batch, std::string_view k) { batch.remove(k); });
}

int32_t memkv_touch(memkv_client* client, const void* key, size_t key_size, int64_t timeout_ns,
                    memkv_outcome* outcome) {
  return run_one(client, key, key_size, nullptr, 0, timeout_ns, outcome,
                 [](Batch& batch, std::string_view k) { batch.touch(k); });
}

int32_t memkv_stat(memkv_client* client, const void* key, size_t key_size, int64_t timeout_ns, memkv_outcome* outcome) {
  return run_one(client, key, key_size, nullptr, 0, timeout_ns, outcome,
                 [](Batch& batch, std::string_view k) { batch.stat(k); });
}

int32_t memkv_prefetch(memkv_client* client, const void* key, size_t key_size, int64_t timeout_ns,
                       memkv_outcome* outcome) {
  return run_one(client, key, key_size, nullptr, 0, timeout_ns, outcome,
                 [](Batch& batch, std::string_view k) { batch.prefetch(k); });
}

int32_t memkv_run(memkv_client* client, const memkv_batch* batch, const memkv_results* results) {
  return guarded([&] {
    const Entered entered(client);
    if (!entered.ok()) return entered.why();
    memkv_results columns;
    if (auto read = read_results(results, columns); !read) return failed(read.error());
    const Lease lease(*client);
    if (const int32_t wrong = submit(batch, 0, lease); wrong != MEMKV_OK) return wrong;
    write(lease->under_way->wait(), columns);
    return int32_t{MEMKV_OK};
  });
}

int32_t memkv_submit(memkv_client* client, const memkv_batch* batch, memkv_queue* queue, uint64_t tag,
                     memkv_pending** pending) {
  return guarded([&] {
    const Entered entered(client);
    if (!entered.ok()) return entered.why();
    if (pending == nullptr) return failed(Status::kInvalid, "memkv_submit needs a place for the pending");
    if (queue && &queue->client != client) return failed(Status::kInvalid, "the queue is another client's");
    *pending = nullptr;
    Lease lease(*client, queue);
    if (const int32_t wrong = submit(batch, tag, lease); wrong != MEMKV_OK) return wrong;
    // A thread that drains the queue may already have the pending, and may even have collected it.
    *pending = lease.keep();
    return int32_t{MEMKV_OK};
  });
}

uint64_t memkv_pending_tag(const memkv_pending* pending) { return pending ? pending->tag : 0; }
size_t memkv_pending_op_count(const memkv_pending* pending) { return pending ? pending->op_count : 0; }

int32_t memkv_wait(memkv_pending* pending, int64_t timeout_ns) {
  return guarded([&] {
    if (pending == nullptr) return failed(Status::kInvalid, "the pending is NULL");
    const Entered entered(&pending->client);
    if (!entered.ok()) return entered.why();
    if (timeout_ns < 0) {
      pending->under_way->wait();
    } else if (!pending->under_way->wait_for(Deadline(timeout_ns))) {
      return failed(Status::kBusy, "the batch is still under way");
    }
    return int32_t{MEMKV_OK};
  });
}

int32_t memkv_cancel(memkv_pending* pending) {
  return guarded([&] {
    if (pending == nullptr) return failed(Status::kInvalid, "the pending is NULL");
    const Entered entered(&pending->client);
    if (!entered.ok()) return entered.why();
    pending->under_way->cancel();
    return int32_t{MEMKV_OK};
  });
}

int32_t memkv_collect(memkv_pending* pending, const memkv_results* results) {
  return guarded([&] {
    if (pending == nullptr) return failed(Status::kInvalid, "the pending is NULL");
    const Entered entered(&pending->client);
    if (!entered.ok()) return entered.why();
    memkv_results columns;
    if (auto read = read_results(results, columns); !read) return failed(read.error());
    write(pending->under_way->wait(), columns);
    pending->client.give_back(*pending);
    return int32_t{MEMKV_OK};
  });
}

int32_t memkv_queue_open(memkv_client* client, memkv_queue** queue) {
  return guarded([&] {
    const Entered entered(client);
    if (!entered.ok()) return entered.why();
    if (queue == nullptr) return failed(Status::kInvalid, "memkv_queue_open needs a place for the queue");
    *queue = nullptr;
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
      return failed(Status::kIo,
                    "no event descriptor is to be had: " + std::string(std::strerror(errno)) + ": see ulimit -n");
    }
    auto opened = std::make_unique<memkv_queue>(*client, fd);
    const std::lock_guard lock(client->mutex);
    client->queues.push_back(std::move(opened));
    *queue = client->queues.back().get();
    return int32_t{MEMKV_OK};
  });
}

int memkv_queue_fd(const memkv_queue* queue) { return queue && !queue->client.client.forked() ? queue->fd : -1; }

memkv_pending* memkv_queue_next(memkv_queue* queue) {
  memkv_pending* next = nullptr;
  guarded([&] {
    if (queue == nullptr) return failed(Status::kInvalid, "the queue is NULL");
    const Entered entered(&queue->client);
    if (!entered.ok()) return entered.why();
    const std::lock_guard lock(queue->client.mutex);
    next = queue->first;
    if (next) queue->remove(*next);
    return int32_t{MEMKV_OK};
  });
  return next;
}

void memkv_queue_close(memkv_queue* queue) {
  if (queue == nullptr) return;
  guarded([&] {
    memkv_client& client = queue->client;
    const Entered entered(&client);
    if (!entered.ok()) return entered.why();
    const std::lock_guard lock(client.mutex);
    for (const auto& pending : client.pendings) {
      if (pending->queue != queue) continue;
      if (pending->listed) queue->remove(*pending);
      pending->queue = nullptr;
    }
    const auto is_it = [&](const auto& other) { return other.get() == queue; };
    client.queues.erase(std::find_if(client.queues.begin(), client.queues.end(), is_it));
    return int32_t{MEMKV_OK};
  });
}
}
