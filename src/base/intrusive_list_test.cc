#include "base/intrusive_list.h"

#include <gtest/gtest.h>

#include <deque>
#include <list>
#include <vector>

#include "base/random.h"

namespace memkv::base {
namespace {

struct Item {
  int value = 0;
  ListLink<Item> link;
  ListLink<Item> other_link;
  QueueLink<Item> queue_link;
};
using List = IntrusiveList<Item, &Item::link>;
using OtherList = IntrusiveList<Item, &Item::other_link>;
using Queue = IntrusiveQueue<Item, &Item::queue_link>;

std::vector<int> values(const List& list) {
  std::vector<int> out;
  for (Item& item : list) out.push_back(item.value);
  return out;
}

TEST(IntrusiveList, keeps_order) {
  Item a{.value = 1}, b{.value = 2}, c{.value = 3}, d{.value = 4};
  List list;
  list.push_back(b);
  list.push_back(c);
  list.push_back(d);
  list.push_front(a);
  EXPECT_EQ(values(list), (std::vector{1, 2, 3, 4}));
  EXPECT_EQ(list.size(), 4u);
  list.remove(c);
  EXPECT_EQ(values(list), (std::vector{1, 2, 4}));
  EXPECT_EQ(list.pop_front(), &a);
  EXPECT_EQ(list.back(), &d);
  EXPECT_FALSE(a.link.linked());
}

TEST(IntrusiveList, one_element_in_two_lists) {
  Item a{.value = 1};
  List list;
  OtherList other;
  list.push_back(a);
  other.push_back(a);
  list.remove(a);
  EXPECT_TRUE(other.contains(a));
  EXPECT_FALSE(list.contains(a));
}

TEST(IntrusiveList, the_current_element_may_go_while_iterating) {
  std::deque<Item> items(6);
  List list;
  for (int i = 0; i < 6; ++i) {
    items[static_cast<size_t>(i)].value = i;
    list.push_back(items[static_cast<size_t>(i)]);
  }
  for (Item& item : list) {
    if (item.value % 2 == 0) list.remove(item);
  }
  EXPECT_EQ(values(list), (std::vector{1, 3, 5}));
}

TEST(IntrusiveList, same_as_std_list_under_random_operations) {
  Random random(11);
  std::deque<Item> items(32);
  for (int i = 0; i < 32; ++i) items[static_cast<size_t>(i)].value = i;
  List list;
  std::list<int> model;
  for (int round = 0; round < 5000; ++round) {
    Item& item = items[random.below(items.size())];
    if (list.contains(item)) {
      list.remove(item);
      model.remove(item.value);
    } else if (random.chance(1, 2)) {
      list.push_back(item);
      model.push_back(item.value);
    } else {
      list.push_front(item);
      model.push_front(item.value);
    }
    ASSERT_EQ(list.size(), model.size());
    ASSERT_EQ(values(list), std::vector<int>(model.begin(), model.end()));
  }
}

TEST(IntrusiveListDeathTest, misuse_aborts) {
  Item a;
  List list, second;
  list.push_back(a);
  EXPECT_DEATH(second.push_back(a), "already in a list");
  EXPECT_DEATH(second.remove(a), "not in");
  EXPECT_DEATH(
      {
        List outer;
        Item inner;
        outer.push_back(inner);
      },
      "destroyed while in a list");
}

TEST(IntrusiveQueue, first_in_first_out) {
  Item a, b, c;
  Queue queue;
  EXPECT_EQ(queue.pop_front(), nullptr);
  queue.push_back(a);
  queue.push_back(b);
  queue.push_front(c);
  EXPECT_EQ(queue.pop_front(), &c);
  EXPECT_EQ(queue.pop_front(), &a);
  EXPECT_EQ(queue.pop_front(), &b);
  EXPECT_TRUE(queue.empty());
  queue.push_front(a);
  queue.push_back(b);
  EXPECT_EQ(queue.pop_front(), &a);
  EXPECT_EQ(queue.front(), &b);
}

}  // namespace
}  // namespace memkv::base
