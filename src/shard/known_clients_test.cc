#include "shard/known_clients.h"

#include <gtest/gtest.h>

namespace memkv::shard {
namespace {

constexpr ClientId kOne = {1, 2, 3}, kTwo = {1, 2, 4};  // these two share a bucket

TEST(KnownClients, AreTheSameFromTheFirstConnectionToTheLast) {
  KnownClients clients(4);
  KnownClient& one = clients.join(7, kOne);
  KnownClient& two = clients.join(7, kTwo);
  EXPECT_NE(&one, &two);
  EXPECT_EQ(&clients.join(7, kOne), &one);
  EXPECT_EQ(one.connections, 2u);
  EXPECT_EQ(clients.count(), 2u);
  clients.leave(one);
  EXPECT_EQ(&clients.join(7, kOne), &one) << "a connection of it was open all the time";
  clients.leave(one);
  clients.leave(one);
  EXPECT_EQ(clients.count(), 1u);
  clients.leave(two);
  EXPECT_EQ(clients.count(), 0u);
}

TEST(KnownClients, OfTwoNamespacesAreNeverTheSame) {
  KnownClients clients(2);
  KnownClient& one = clients.join(7, kOne);
  KnownClient& other = clients.join(8, kOne);
  EXPECT_NE(&one, &other);
  clients.leave(one);
  EXPECT_EQ(other.connections, 1u);
  clients.leave(other);
}

}  // namespace
}  // namespace memkv::shard
