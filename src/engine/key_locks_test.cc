/// Changes of one key take turns.

#include "engine/key_locks.h"

#include <gtest/gtest.h>

#include <string>

namespace memkv::engine {
namespace {

constexpr uint64_t kOtherBucketLap = 4096;  // keys this far apart share a bucket

struct Change : KeyLocks::Holder {
  Change(std::string& order, char name) : order_(order), name_(name) {}
  void on_locked() override { order_ += name_; }
  std::string& order_;
  char name_;
};

TEST(KeyLocks, OneHolderATimeInTheOrderOfTheirComing) {
  std::string order;
  KeyLocks locks;
  Change a(order, 'a'), b(order, 'b'), c(order, 'c');
  locks.lock(a, {1, 2});
  locks.lock(b, {1, 2});
  locks.lock(c, {1, 2});
  EXPECT_EQ(order, "a");
  EXPECT_FALSE(b.holds_lock());
  locks.unlock(a);
  EXPECT_EQ(order, "ab");
  locks.unlock(b);
  locks.unlock(c);
  EXPECT_EQ(order, "abc");
}

TEST(KeyLocks, KeysOfOneBucketDoNotWaitForEachOther) {
  std::string order;
  KeyLocks locks;
  Change a(order, 'a'), b(order, 'b'), c(order, 'c'), d(order, 'd');
  locks.lock(a, {1, 2});
  locks.lock(b, {1 + kOtherBucketLap, 2});
  locks.lock(c, {1, 3});
  locks.lock(d, {1, 2});
  EXPECT_EQ(order, "abc");
  locks.unlock(b);
  locks.unlock(a);
  EXPECT_EQ(order, "abcd");
  locks.unlock(c);
  locks.unlock(d);
  locks.lock(a, {1, 2});
  EXPECT_TRUE(a.holds_lock());
  locks.unlock(a);
}

}  // namespace
}  // namespace memkv::engine
