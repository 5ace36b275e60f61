/// How a caller waits for an I/O thread: no wake-up is lost, and a job may go as soon as it is done.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "base/pause.h"
#include "client/io_thread.h"

namespace memkv::client {
namespace {

/// Hands jobs to a thread that ends each, after as many turns as the round says: in the caller's polls, in its way to
/// sleep, in its sleep.
TEST(JobThreads, every_wait_ends_and_the_job_goes_at_once) {
  constexpr int kJobs = 20'000;
  std::atomic<Job*> handed{nullptr};
  std::thread ends([&] {
    for (int i = 0; i < kJobs; i++) {
      Job* job = nullptr;
      while ((job = handed.exchange(nullptr, std::memory_order_acquire)) == nullptr) {
      }
      for (int turns = 0; turns < i % 512; turns++) base::relax_cpu();
      job->finish();
    }
  });
  int told = 0;
  for (int i = 0; i < kJobs; i++) {
    auto job = std::make_unique<Job>();
    job->on_done = {[](void* count) { ++*static_cast<int*>(count); }, &told};
    handed.store(job.get(), std::memory_order_release);
    ASSERT_TRUE(job->wait());
    ASSERT_EQ(told, i + 1) << "the callback comes before the end of the wait";
  }
  ends.join();
}

/// Such as a reader of a queue's event descriptor: what it is told of is done, so it does not wait.
TEST(JobThreads, who_is_told_by_the_callback_finds_the_job_done) {
  constexpr int kJobs = 5'000;
  std::atomic<Job*> handed{nullptr}, told{nullptr};
  std::thread ends([&] {
    for (int i = 0; i < kJobs; i++) {
      Job* job = nullptr;
      while ((job = handed.exchange(nullptr, std::memory_order_acquire)) == nullptr) {
      }
      job->finish();
    }
  });
  struct Told {
    std::atomic<Job*>& to;
    Job* job;
  };
  int not_done = 0;
  for (int i = 0; i < kJobs; i++) {
    Job job;
    Told context{told, &job};
    job.on_done = {[](void* at) { static_cast<Told*>(at)->to.store(static_cast<Told*>(at)->job); }, &context};
    handed.store(&job, std::memory_order_release);
    while (told.exchange(nullptr) == nullptr) {
    }
    if (!job.wait(0)) {
      not_done++;
      job.wait();
    }
  }
  ends.join();
  EXPECT_EQ(not_done, 0);
}

TEST(JobThreads, a_wait_ends_by_the_clock_and_a_later_one_sees_the_end) {
  Job job;
  EXPECT_FALSE(job.wait(0));
  EXPECT_FALSE(job.wait(200'000));
  job.finish();
  EXPECT_TRUE(job.wait(0));
}

TEST(JobThreads, several_wait_for_one_job) {
  for (int round = 0; round < 200; round++) {
    Job job;
    std::thread others[3];
    for (std::thread& other : others) other = std::thread([&] { EXPECT_TRUE(job.wait()); });
    if (round % 2 == 0) std::this_thread::yield();
    job.finish();
    for (std::thread& other : others) other.join();
  }
}

}  // namespace
}  // namespace memkv::client
