#include "base/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace memkv::base {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }
int open_null() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

TEST(UniqueFd, closes_at_the_end) {
  int number;
  {
    UniqueFd fd(open_null());
    ASSERT_TRUE(fd);
    number = fd.get();
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(UniqueFd, moves_and_releases) {
  UniqueFd a(open_null());
  const int number = a.get();
  UniqueFd b(std::move(a));
  EXPECT_FALSE(a);  // NOLINT(bugprone-use-after-move): moved from is empty by contract
  EXPECT_EQ(b.get(), number);
  UniqueFd c(open_null());
  const int closed = c.get();
  c = std::move(b);
  EXPECT_EQ(c.get(), number);
  EXPECT_FALSE(is_open(closed));
  const int released = c.release();
  EXPECT_FALSE(c);
  EXPECT_TRUE(is_open(released));
  UniqueFd(released).reset();
  EXPECT_FALSE(is_open(released));
}

}  // namespace
}  // namespace memkv::base
