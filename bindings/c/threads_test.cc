/// Batches that complete while other threads wait, cancel, drain and close.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "memkv/memkv.h"
#include "objects.h"
#include "tests/support/server_process.h"

namespace memkv::c {
namespace {

constexpr int64_t kMinuteNs = 60'000'000'000;

class CApiThreads : public testing::Test {
 protected:
  CApiThreads() : server_(test::start_memory_server(dir_, "64MiB")) {
    const char* address = server_->address().c_str();
    memkv_options options{};
    options.struct_size = sizeof options;
    options.servers = &address;
    options.server_count = 1;
    options.io_contexts = 1;  // connected by the first put, so it stays connected when the server is stopped
    EXPECT_EQ(memkv_connect(&options, &client_), MEMKV_OK) << memkv_last_message();
    EXPECT_EQ(memkv_put(client_, "k", 1, block_, sizeof block_, 0, nullptr), MEMKV_OK) << memkv_last_message();
  }
  ~CApiThreads() override { memkv_close(client_); }

  /// One op of `kind` on the key "k", with a far deadline.
  memkv_batch one(uint32_t kind) {
    memkv_batch batch{};
    batch.struct_size = sizeof batch;
    batch.op_count = 1;
    batch.keys = &key_;
    batch.key_sizes = &key_size_;
    batch.piece_count = kind == MEMKV_OP_EXISTS ? 0 : 1;
    batch.pieces = &piece_;
    batch.piece_sizes = &size_;
    batch.kind = kind;
    batch.timeout_ns = kMinuteNs;
    return batch;
  }
  memkv_pending* submit(uint32_t kind, memkv_queue* queue = nullptr) {
    memkv_pending* pending = nullptr;
    const memkv_batch batch = one(kind);
    EXPECT_EQ(memkv_submit(client_, &batch, queue, 0, &pending), MEMKV_OK) << memkv_last_message();
    return pending;
  }
  size_t calls_inside() {
    const std::lock_guard lock(client_->mutex);
    return client_->calls;
  }
  static int32_t collected(memkv_pending* pending) {
    int32_t status = -1;
    memkv_results results{};
    results.struct_size = sizeof results;
    results.statuses = &status;
    EXPECT_EQ(memkv_collect(pending, &results), MEMKV_OK) << memkv_last_message();
    return status;
  }

  test::TempDir dir_;
  std::unique_ptr<test::ServerProcess> server_;
  memkv_client* client_ = nullptr;
  char block_[4096] = {};
  const void* key_ = "k";
  size_t key_size_ = 1;
  void* piece_ = block_;
  size_t size_ = sizeof block_;
};

TEST_F(CApiThreads, a_wait_ends_by_its_own_clock_and_a_cancel_ends_the_batch) {
  server_->freeze();
  memkv_pending* get = submit(MEMKV_OP_GET);
  memkv_pending* put = submit(MEMKV_OP_PUT);
  EXPECT_EQ(memkv_wait(get, 0), MEMKV_BUSY);
  EXPECT_EQ(memkv_wait(get, 2'000'000), MEMKV_BUSY);
  std::thread other([&] { EXPECT_EQ(memkv_wait(get, -1), MEMKV_OK); });
  EXPECT_EQ(memkv_cancel(get), MEMKV_OK);
  other.join();
  EXPECT_EQ(collected(get), MEMKV_CANCELED);
  EXPECT_EQ(memkv_cancel(put), MEMKV_OK);
  EXPECT_EQ(collected(put), MEMKV_UNKNOWN) << "it has left";
  server_->thaw();
}

TEST_F(CApiThreads, a_close_ends_the_calls_of_other_threads_first) {
  server_->freeze();
  std::vector<std::thread> threads;
  std::array<int32_t, 3> statuses{};
  memkv_pending* pending = submit(MEMKV_OP_GET);
  memkv_client* client = client_;
  threads.emplace_back([&] { statuses[0] = memkv_get(client, "k", 1, block_, 1, 0, kMinuteNs, nullptr); });
  threads.emplace_back([&] {
    memkv_results results{};
    results.struct_size = sizeof results;
    results.statuses = &statuses[1];
    const memkv_batch batch = one(MEMKV_OP_EXISTS);
    EXPECT_EQ(memkv_run(client, &batch, &results), MEMKV_OK) << memkv_last_message();
  });
  threads.emplace_back([&] { statuses[2] = memkv_wait(pending, -1); });
  while (calls_inside() < 3) sched_yield();
  memkv_close(std::exchange(client_, nullptr));
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(statuses, (std::array<int32_t, 3>{MEMKV_CANCELED, MEMKV_CANCELED, MEMKV_OK}));
  server_->thaw();
}

TEST_F(CApiThreads, many_submit_and_others_drain_each_batch_once) {
  constexpr int kThreads = 3, kBatches = 200;
  memkv_queue* queue = nullptr;
  ASSERT_EQ(memkv_queue_open(client_, &queue), MEMKV_OK);
  std::atomic<int> drained{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++) {
    threads.emplace_back([&] {
      for (int i = 0; i < kBatches; i++) submit(i % 3 == 0 ? MEMKV_OP_EXISTS : MEMKV_OP_PUT, queue);
    });
  }
  for (int t = 0; t < 2; t++) {
    threads.emplace_back([&] {
      pollfd fd{memkv_queue_fd(queue), POLLIN, 0};
      while (drained < kThreads * kBatches) {
        poll(&fd, 1, 10);  // the other thread may have taken the last one
        while (memkv_pending* pending = memkv_queue_next(queue)) {
          EXPECT_EQ(collected(pending), MEMKV_OK);
          drained++;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(drained, kThreads * kBatches);
  EXPECT_EQ(memkv_queue_next(queue), nullptr);
}

TEST_F(CApiThreads, a_descriptor_that_was_read_empty_tells_of_the_next_batch) {
  memkv_queue* queue = nullptr;
  ASSERT_EQ(memkv_queue_open(client_, &queue), MEMKV_OK);
  pollfd fd{memkv_queue_fd(queue), POLLIN, 0};
  std::array<memkv_pending*, 2> pendings{};
  for (auto& pending : pendings) {
    pending = submit(MEMKV_OP_PUT, queue);
    EXPECT_EQ(memkv_wait(pending, -1), MEMKV_OK);
    EXPECT_EQ(poll(&fd, 1, 1000), 1);
    uint64_t count = 0;
    EXPECT_EQ(read(fd.fd, &count, sizeof count), ssize_t{sizeof count});
    EXPECT_EQ(poll(&fd, 1, 0), 0);
  }
  for (memkv_pending* pending : pendings) {
    EXPECT_EQ(memkv_queue_next(queue), pending);
    EXPECT_EQ(collected(pending), MEMKV_OK);
  }
  EXPECT_EQ(memkv_queue_next(queue), nullptr);
}

TEST_F(CApiThreads, the_descriptor_is_readable_while_the_queue_has_something) {
  memkv_queue* queue = nullptr;
  memkv_queue* other = nullptr;
  ASSERT_EQ(memkv_queue_open(client_, &queue), MEMKV_OK);
  ASSERT_EQ(memkv_queue_open(client_, &other), MEMKV_OK);
  pollfd fd{memkv_queue_fd(queue), POLLIN, 0};
  std::array<memkv_pending*, 3> pendings{};
  for (auto& pending : pendings) {
    pending = submit(MEMKV_OP_PUT, queue);
    EXPECT_EQ(memkv_wait(pending, -1), MEMKV_OK);
  }
  EXPECT_EQ(poll(&fd, 1, 0), 1);
  EXPECT_EQ(collected(pendings[1]), MEMKV_OK) << "collected by its handle, it leaves the queue";
  EXPECT_EQ(memkv_queue_next(queue), pendings[0]);
  EXPECT_EQ(poll(&fd, 1, 0), 1);
  EXPECT_EQ(memkv_queue_next(queue), pendings[2]);
  EXPECT_EQ(poll(&fd, 1, 0), 0);
  EXPECT_EQ(memkv_queue_next(queue), nullptr);
  EXPECT_EQ(collected(pendings[0]), MEMKV_OK);
  EXPECT_EQ(collected(pendings[2]), MEMKV_OK);

  memkv_pending* late = submit(MEMKV_OP_PUT, other);
  memkv_queue_close(other);
  EXPECT_EQ(memkv_wait(late, -1), MEMKV_OK) << "it goes on without its queue";
  EXPECT_EQ(collected(late), MEMKV_OK);
  memkv_queue_close(queue);
}

TEST_F(CApiThreads, a_batch_has_its_deadline) {
  server_->freeze();
  memkv_batch batch = one(MEMKV_OP_GET);
  batch.timeout_ns = 20'000'000;
  int32_t status = -1;
  memkv_results results{};
  results.struct_size = sizeof results;
  results.statuses = &status;
  EXPECT_EQ(memkv_run(client_, &batch, &results), MEMKV_OK);
  EXPECT_EQ(status, MEMKV_DEADLINE);
  EXPECT_EQ(memkv_get(client_, "k", 1, block_, 1, 0, 20'000'000, nullptr), MEMKV_DEADLINE);
  EXPECT_THAT(memkv_last_message(), testing::HasSubstr("deadline"));
  server_->thaw();
}

}  // namespace
}  // namespace memkv::c
