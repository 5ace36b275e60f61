#include "io/mailbox.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace memkv::io {
namespace {

TEST(Mailbox, KeepsOrderAndItsLimit) {
  Mailbox<int> box(4, nullptr);
  EXPECT_FALSE(box.pop());
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < 4; i++) EXPECT_TRUE(box.push(i));
    EXPECT_FALSE(box.push(9));
    for (int i = 0; i < 4; i++) EXPECT_EQ(box.pop(), i);
    EXPECT_FALSE(box.pop());
  }
}

TEST(Mailbox, RefusedItemsStayWithThePusherAndPoppedOnesLeaveNothing) {
  Mailbox<std::shared_ptr<int>> box(2, nullptr);
  auto item = std::make_shared<int>(1);
  EXPECT_TRUE(box.push(item));
  EXPECT_TRUE(box.push(item));
  auto third = item;
  EXPECT_FALSE(box.push(std::move(third)));
  EXPECT_NE(third, nullptr);
  EXPECT_EQ(item.use_count(), 4);
  EXPECT_TRUE(box.pop());
  EXPECT_EQ(item.use_count(), 3);
}

TEST(MailboxThreads, ManyPushersOneReactor) {
  constexpr uint64_t kPushers = 3, kEach = 20'000;
  auto reactor = std::move(make_reactor({}, nullptr)).value();
  struct Item {
    uint64_t pusher, number;
  };
  struct Owner {
    Mailbox<Item> box;
    std::vector<uint64_t> next = std::vector<uint64_t>(kPushers, 0);
    uint64_t total = 0;
    void drain() {
      while (auto item = box.pop()) {
        ASSERT_EQ(item->number, next[item->pusher]++);
        total++;
      }
    }
  } owner{{64, reactor.get()}};
  reactor->set_on_wake([](void* context) { static_cast<Owner*>(context)->drain(); }, &owner);
  std::vector<std::thread> pushers;
  for (uint64_t p = 0; p < kPushers; p++) {
    pushers.emplace_back([&, p] {
      for (uint64_t i = 0; i < kEach; i++) {
        while (!owner.box.push({p, i})) std::this_thread::yield();
      }
    });
  }
  // The waits are long, so one lost wake would make the test hang here.
  while (owner.total < kPushers * kEach) reactor->run_once(60'000'000'000);
  for (auto& pusher : pushers) pusher.join();
  EXPECT_FALSE(owner.box.pop());
}

}  // namespace
}  // namespace memkv::io
