/// One file hangs beside another, on the threads that do device I/O for epoll.

#include "io/device_threads.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_testing.h"
#include "base/unique_fd.h"
#include "io/test_ops.h"

namespace {

std::atomic<int> hung_fd{-1};

}  // namespace

/// Replaces libc's function: a descriptor that can be read at an offset never hangs by itself.
extern "C" ssize_t preadv(int fd, const iovec* pieces, int count, off_t offset) {
  while (hung_fd.load() == fd) hung_fd.wait(fd);
  return syscall(SYS_preadv, fd, pieces, count, offset, 0L);
}

namespace memkv::io {
namespace {

base::UniqueFd temporary_file() {
  std::string path = ::testing::TempDir() + "/memkv-threads-XXXXXX";
  base::UniqueFd fd(mkstemp(path.data()));
  EXPECT_EQ(ftruncate(fd.get(), 4096), 0);
  unlink(path.c_str());
  return fd;
}

TEST(DeviceThreads, AFileThatHangsLeavesThreadsToTheOthers) {
  auto reactor = std::move(*make_epoll_reactor({.kind = ReactorKind::kEpoll, .device_threads = 4}));
  const base::UniqueFd hung = temporary_file(), well = temporary_file();
  AlignedBytes bytes(4096);
  const iovec piece = bytes.piece();
  hung_fd = hung.get();
  std::vector<TestOp> waiting(20), others(20);
  for (TestOp& op : waiting) ASSERT_TRUE(reactor->read(op.op, hung.get(), 0, {&piece, 1}));
  for (TestOp& op : others) ASSERT_TRUE(reactor->read(op.op, well.get(), 0, {&piece, 1}));
  const auto run = [&](std::vector<TestOp>& ops) {
    for (int i = 0; i < 1000 && !std::all_of(ops.begin(), ops.end(), [](auto& op) { return op.count > 0; }); i++)
      reactor->run_once(1'000'000);
    for (TestOp& op : ops) EXPECT_EQ(op.result, 4096);
  };
  run(others);
  for (TestOp& op : waiting) EXPECT_EQ(op.count, 0);
  hung_fd = -1;
  hung_fd.notify_all();
  run(waiting);
}

TEST(DeviceThreads, OneThreadServesAllFiles) {
  auto reactor = std::move(*make_epoll_reactor({.kind = ReactorKind::kEpoll, .device_threads = 1}));
  const base::UniqueFd file = temporary_file();
  AlignedBytes bytes(4096);
  const iovec piece = bytes.piece();
  TestOp op;
  ASSERT_TRUE(reactor->read(op.op, file.get(), 0, {&piece, 1}));
  for (int i = 0; i < 1000 && op.count == 0; i++) reactor->run_once(1'000'000);
  EXPECT_EQ(op.result, 4096);
}

#if !defined(__SANITIZE_THREAD__)  // ThreadSanitizer starts threads of its own
int make_without_threads() {
  const ReactorOptions options{.kind = ReactorKind::kEpoll, .device_threads = 4};
  {
    const base::NoThreads none;
    const auto refused = make_epoll_reactor(options);
    if (refused || std::string_view(refused.error().what).find("no thread can be made") == std::string_view::npos)
      return 1;
    if (!make_epoll_reactor({.kind = ReactorKind::kEpoll, .device_threads = 0})) return 2;  // this one needs no threads
  }
  return make_epoll_reactor(options).ok() ? 0 : 3;
}

TEST(CaseC2Threads, a_reactor_without_device_threads_is_refused_and_the_next_one_works) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(_exit(make_without_threads()), testing::ExitedWithCode(0), "");
}
#endif

}  // namespace
}  // namespace memkv::io
