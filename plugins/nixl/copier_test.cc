#include "copier.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <thread>

#include "cuda_testing.h"
#include "tests/support/pattern.h"

namespace memkv::nixl {
namespace {

using Bytes = std::vector<unsigned char>;

constexpr auto kSoon = std::chrono::microseconds(50);

void wait_for(const CopyJob& job) {
  while (!job.done()) std::this_thread::sleep_for(kSoon);
}

void run(Copier& copier, CopyJob& job) {
  if (!copier.start(job)) wait_for(job);
}

/// One source and its copies on the host.
struct FanOut {
  FanOut(size_t bytes, size_t count) : source(test::pattern("source", 1, bytes)), targets(count, Bytes(bytes)) {
    for (Bytes& target : targets) copies.push_back({host_place(source.data()), host_place(target.data()), bytes});
  }
  bool all_right() const {
    return std::all_of(targets.begin(), targets.end(), [this](const Bytes& target) { return target == source; });
  }
  Bytes source;
  std::vector<Bytes> targets;
  std::vector<Copy> copies;
};

TEST(CopierThreads, one_source_reaches_fifteen_destinations) {
  Copier copier({.threads = 2});
  for (const size_t bytes : {1ul, 4096ul, 65537ul, 262144ul, 262145ul, 1048576ul + 13, 3000001ul}) {
    FanOut fan(bytes, 15);
    CopyJob job;
    job.copies = fan.copies;
    run(copier, job);
    EXPECT_TRUE(fan.all_right()) << bytes;
    EXPECT_EQ(job.error(), nullptr);
    EXPECT_FALSE(job.canceled());
  }
}

TEST(CopierThreads, a_small_job_is_done_when_start_returns) {
  Copier copier({.threads = 1, .inline_bytes_max = 4096});
  FanOut fan(256, 15);
  CopyJob job;
  job.copies = fan.copies;
  job.on_done = [](void*) { FAIL() << "told inside start()"; };
  EXPECT_TRUE(copier.start(job));
  EXPECT_TRUE(job.done());
  EXPECT_TRUE(fan.all_right());
}

TEST(CopierThreads, a_job_without_bytes_is_done_at_once) {
  Copier copier;
  const std::vector<Copy> copies(3);
  CopyJob job;
  EXPECT_TRUE(job.done());
  EXPECT_TRUE(copier.start(job));
  job.copies = copies;
  EXPECT_TRUE(copier.start(job));
  EXPECT_TRUE(job.done());
}

TEST(CopierThreads, the_end_is_told_once_and_after_it_is_visible) {
  Copier copier({.threads = 2, .inline_bytes_max = 0});
  FanOut fan(4 << 20, 8);
  struct Told {
    std::atomic<int> times{0};
    CopyJob job;
  } told;
  told.job.copies = fan.copies;
  told.job.context = &told;
  told.job.on_done = [](void* context) {
    auto& self = *static_cast<Told*>(context);
    EXPECT_TRUE(self.job.done());
    self.times.fetch_add(1);
  };
  int at_once = 0, rounds = 0;
  // On a busy machine the caller may find all of it done: then it is not told.
  while (rounds < 10 || (told.times.load() == 0 && rounds < 1000)) {
    const int round = ++rounds;
    if (copier.start(told.job)) ++at_once;
    while (told.times.load() + at_once < round) std::this_thread::sleep_for(kSoon);
    EXPECT_TRUE(fan.all_right());
  }
  EXPECT_EQ(told.times.load() + at_once, rounds);
  EXPECT_GT(told.times.load(), 0);
}

TEST(CopierThreads, after_cancel_and_done_no_destination_changes) {
  Copier copier({.threads = 2, .inline_bytes_max = 0});
  std::mt19937_64 random(20261126);
  int stopped_early = 0;
  for (int round = 0; round < 20; ++round) {
    FanOut fan(4 << 20, 15);
    CopyJob job;
    job.copies = fan.copies;
    copier.start(job);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    copier.cancel(job);
    wait_for(job);
    if (!fan.all_right()) ++stopped_early;
    for (Bytes& target : fan.targets) std::memset(target.data(), 0x5a, target.size());
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    for (const Bytes& target : fan.targets) {
      ASSERT_EQ(target[0], 0x5a);
      ASSERT_EQ(std::memcmp(target.data(), target.data() + 1, target.size() - 1), 0) << "round " << round;
    }
  }
  EXPECT_GT(stopped_early, 0) << "no cancel came in time to show anything";
}

TEST(CopierThreads, many_jobs_of_many_threads) {
  Copier copier({.threads = 2, .inline_bytes_max = 4096});
  std::vector<std::thread> users;
  for (int user = 0; user < 4; ++user) {
    users.emplace_back([&copier, user] {
      std::mt19937_64 random(static_cast<unsigned>(user));
      for (int round = 0; round < 60; ++round) {
        FanOut fan(1 + random() % 400000, 1 + random() % 5);
        CopyJob job;
        job.copies = fan.copies;
        const bool at_once = copier.start(job);
        if (!at_once && random() % 4 == 0) copier.cancel(job);
        wait_for(job);
        EXPECT_TRUE(job.canceled() || fan.all_right());
      }
    });
  }
  for (std::thread& user : users) user.join();
}

TEST(CopierThreads, destruction_waits_for_what_is_under_way) {
  FanOut fan(8 << 20, 4);
  CopyJob job;
  job.copies = fan.copies;
  {
    Copier copier({.threads = 1, .inline_bytes_max = 0});
    copier.start(job);
  }
  EXPECT_TRUE(job.done());
  EXPECT_TRUE(fan.all_right());
}

/// A copier with CUDA on the stand-in runtime.
class CopierCudaThreads : public testing::Test {
 protected:
  CopierCudaThreads() {
    fake_cuda();
    EXPECT_TRUE(copier.start_cuda().ok());
  }
  static constexpr size_t kBytes = (1 << 20) + 12345;
  Copier copier;
};

TEST_F(CopierCudaThreads, from_the_host_to_a_device_and_back_and_between_devices) {
  const Bytes source = test::pattern("vram", 1, kBytes);
  DeviceMemory first(kBytes, 0);
  DeviceMemory same(kBytes, 0);
  DeviceMemory other(kBytes, 1);
  Bytes back(kBytes);
  for (const auto& [from, to] : {std::pair(host_place(source.data()), first.place()),
                                 {first.place(), same.place()},
                                 {same.place(), other.place()},
                                 {other.place(), host_place(back.data())}}) {
    const Copy copy{from, to, kBytes};
    CopyJob job;
    job.copies = {&copy, 1};
    run(copier, job);
    ASSERT_EQ(job.error(), nullptr);
  }
  EXPECT_EQ(first.bytes(), source);
  EXPECT_EQ(other.bytes(), source);
  EXPECT_EQ(back, source);
  EXPECT_LE(fake_counts().largest_copy_bytes, kCopyPieceBytesMax);
}

TEST_F(CopierCudaThreads, one_job_may_mix_host_and_devices) {
  const Bytes source = test::pattern("mixed", 1, kBytes);
  DeviceMemory first(kBytes, 0);
  DeviceMemory second(kBytes, 1);
  Bytes host(kBytes);
  const Copy copies[] = {{host_place(source.data()), first.place(), kBytes},
                         {host_place(source.data()), host_place(host.data()), kBytes},
                         {host_place(source.data()), first.place(), 0},
                         {host_place(source.data()), second.place(), kBytes}};
  CopyJob job;
  job.copies = copies;
  run(copier, job);
  EXPECT_EQ(job.error(), nullptr);
  EXPECT_EQ(first.bytes(), source);
  EXPECT_EQ(second.bytes(), source);
  EXPECT_EQ(host, source);
}

TEST_F(CopierCudaThreads, the_callers_device_and_context_are_left_alone) {
  fake_cuda().SetDevice(0);
  DeviceMemory target(4096, 0);
  const Bytes source = test::pattern("quiet", 1, 4096);
  std::thread stranger([&] {
    const Copy copy{host_place(source.data()), target.place(), 4096};
    CopyJob job;
    job.copies = {&copy, 1};
    run(copier, job);
    int device = -1;
    fake_cuda().GetDevice(&device);
    EXPECT_EQ(device, 0);
  });
  stranger.join();
  EXPECT_EQ(target.bytes(), source);
}

TEST_F(CopierCudaThreads, a_capture_of_somebody_else_goes_on) {
  DeviceMemory target(kBytes, 0);
  const Bytes source = test::pattern("capture", 1, kBytes);
  const Copy copy{host_place(source.data()), target.place(), kBytes};
  CopyJob job;
  job.copies = {&copy, 1};
  fake_cuda().capturing(1);
  run(copier, job);
  fake_cuda().capturing(0);
  EXPECT_EQ(job.error(), nullptr);
  EXPECT_EQ(fake_counts().captures_broken, 0u);
  EXPECT_EQ(target.bytes(), source);
}

TEST_F(CopierCudaThreads, a_canceled_job_asks_for_no_more_than_its_window) {
  constexpr size_t kLarge = 32 << 20;
  DeviceMemory target(kLarge, 0);
  Bytes source = test::pattern("cancel", 1, kLarge);
  ASSERT_TRUE(copier.cuda()->pin(source.data(), source.size(), 0).ok());
  const uint64_t before = fake_counts().bytes;
  const Copy copy{host_place(source.data()), target.place(), kLarge};
  CopyJob job;
  job.copies = {&copy, 1};
  {
    const HeldStreams held;
    ASSERT_FALSE(copier.start(job));
    while (fake_counts().queued == 0) std::this_thread::sleep_for(kSoon);
    copier.cancel(job);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_FALSE(job.done()) << "copies are under way still";
  }
  wait_for(job);
  EXPECT_TRUE(job.canceled());
  EXPECT_LE(fake_counts().bytes - before, 8u << 20);
  fake_cuda().write(reinterpret_cast<void*>(target.place().address), Bytes(16, 0x5a).data(), 16);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  EXPECT_EQ(target.bytes()[3], 0x5a);
  copier.cuda()->unpin(source.data());
}

TEST_F(CopierCudaThreads, what_the_runtime_refuses_fails_the_job_and_not_the_next) {
  DeviceMemory target(kBytes, 0);
  const Bytes source = test::pattern("fail", 1, kBytes);
  const Copy copy{host_place(source.data()), target.place(), kBytes};
  CopyJob job;
  job.copies = {&copy, 1};
  for (const char* call : {"MemcpyAsync", "EventRecord", "EventQuery"}) {
    const FailingCall failing(call, 2);
    run(copier, job);
    EXPECT_STREQ(job.error(), "out of memory") << call;
  }
  run(copier, job);
  EXPECT_EQ(job.error(), nullptr);
  EXPECT_EQ(target.bytes(), source);
}

TEST_F(CopierCudaThreads, memory_is_looked_up) {
  DeviceMemory memory(4096, 1);
  const Bytes host(16);
  EXPECT_EQ(copier.cuda()->device_of(memory.place().address + 100, 1).value(), 1u);
  EXPECT_EQ(copier.cuda()->device_of(memory.place().address, 0).value(), 1u) << "the memory knows better";
  EXPECT_EQ(copier.cuda()->device_of(reinterpret_cast<uintptr_t>(host.data()), 0).error().status, Status::kInvalid);
  EXPECT_EQ(copier.cuda()->device_of(memory.place().address, 7).error().status, Status::kInvalid);
}

TEST_F(CopierCudaThreads, jobs_of_many_threads_to_two_devices_overlap) {
  fake_cuda().delay_us(20);
  std::vector<std::thread> users;
  for (unsigned user = 0; user < 4; ++user) {
    users.emplace_back([this, user] {
      std::mt19937_64 random(user);
      DeviceMemory target(600000, user % 2);
      for (int round = 0; round < 10; ++round) {
        const size_t bytes = 1 + random() % 600000;
        const Bytes source = test::pattern("many", random(), bytes);
        const Copy copy{host_place(source.data()), target.place(), bytes};
        CopyJob job;
        job.copies = {&copy, 1};
        run(copier, job);
        ASSERT_EQ(std::memcmp(target.bytes().data(), source.data(), bytes), 0);
      }
    });
  }
  for (std::thread& user : users) user.join();
  fake_cuda().delay_us(0);
}

TEST(CudaThreads, all_is_given_back_and_a_device_that_nobody_names_gets_no_context) {
  fake_cuda();
  const auto before = fake_counts();
  {
    Copier copier;
    ASSERT_TRUE(copier.start_cuda().ok());
    EXPECT_EQ(copier.start_cuda().value(), copier.cuda());
    void* memory = nullptr;
    fake_cuda().SetDevice(1);
    ASSERT_EQ(fake_cuda().Malloc(&memory, 4096), 0);
    const auto used = fake_counts();
    EXPECT_EQ(copier.cuda()->device_of(reinterpret_cast<uintptr_t>(memory), 1).value(), 1u);
    EXPECT_EQ(fake_counts().contexts[0], used.contexts[0]);
    fake_cuda().Free(memory);
  }
  EXPECT_EQ(fake_counts().streams, before.streams);
  EXPECT_EQ(fake_counts().events, before.events);
}

}  // namespace
}  // namespace memkv::nixl
