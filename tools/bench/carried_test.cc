#include "tools/bench/carried.h"

#include <gmock/gmock.h>

namespace memkv::bench {
namespace {

using testing::ElementsAre;
using testing::Pair;

/// The part of a server's status that is counted.
std::string status_of(uint64_t tcp, uint64_t rdma, uint64_t first, uint64_t second, bool emulated = false) {
  Json status;
  status["service"]["payload_bytes_by_transport"] = {{"tcp", {{"in", tcp}, {"out", 0}}},
                                                     {"rdma", {{"in", rdma / 2}, {"out", rdma / 2}}}};
  status["rails"] = {{{"device", "n0"}, {"emulated", emulated}, {"bytes_in", first}, {"bytes_out", 0}},
                     {{"device", "n1"}, {"emulated", emulated}, {"bytes_in", 0}, {"bytes_out", second}}};
  return status.dump();
}

Carried of(const std::vector<std::string>& statuses) {
  Carried carried;
  for (const std::string& status : statuses) add_status(status, carried);
  return carried;
}

TEST(Carried, what_came_since_then) {
  Carried carried = of({status_of(100, 5000, 4000, 3000)});
  carried.take_off(of({status_of(100, 1000, 1000, 3000)}));
  EXPECT_EQ(carried.transports(), "rdma");
  EXPECT_EQ(carried.rails(), 1u);
  Json run;
  carried.tell(run, {"kv1"});
  EXPECT_EQ(run, Json::parse(R"({"transport": "rdma", "rails": 1, "bytes_by_transport": {"rdma": 4000, "tcp": 0},
                                 "bytes_by_rail": {"n0": 3000, "n1": 0}})"));
}

TEST(Carried, all_that_carried_something_the_most_first) {
  EXPECT_EQ(of({status_of(1000, 9000, 1, 1)}).transports(), "rdma+tcp");
  EXPECT_EQ(of({status_of(9000, 1000, 1, 1)}).transports(), "tcp+rdma");
  EXPECT_EQ(of({status_of(10, 9990, 1, 1)}).transports(), "rdma") << "less than a hundredth";
  EXPECT_EQ(of({status_of(0, 0, 0, 0)}).transports(), "?");
}

TEST(Carried, rails_are_those_of_one_server) {
  EXPECT_EQ(of({status_of(0, 100, 50, 50)}).rails(), 2u);
  EXPECT_EQ(of({status_of(0, 100, 100, 0), status_of(0, 100, 0, 100)}).rails(), 1u) << "one of each";
  EXPECT_EQ(of({status_of(100, 0, 50, 50)}).rails(), 0u) << "nothing went over rdma";
  EXPECT_EQ(of({status_of(0, 100, 9999, 1)}).rails(), 1u) << "a frame now and then";
}

TEST(Carried, rails_of_several_servers_are_told_apart) {
  Json run;
  of({status_of(0, 10, 1, 2), status_of(0, 10, 3, 4)}).tell(run, {"kv1", "kv2"});
  EXPECT_EQ(run["bytes_by_rail"], Json::parse(R"({"kv1/n0": 1, "kv1/n1": 2, "kv2/n0": 3, "kv2/n1": 4})"));
}

TEST(Carried, turns_add_up) {
  Carried sum = of({status_of(1, 2, 3, 4)});
  sum.add(of({status_of(10, 20, 30, 40)}));
  EXPECT_THAT(sum.by_transport, ElementsAre(Pair("rdma", 22), Pair("tcp", 11)));
  EXPECT_EQ(sum.by_rail.at(0).at("n1").bytes, 44u);
}

TEST(Carried, emulated_if_what_carried_is) {
  EXPECT_TRUE(of({status_of(0, 100, 50, 50, true)}).emulated());
  EXPECT_FALSE(of({status_of(0, 100, 50, 50, false)}).emulated());
  EXPECT_FALSE(of({status_of(100, 0, 0, 0, true)}).emulated()) << "the devices are there and idle";
}

TEST(Carried, a_server_that_started_anew_or_says_nothing_harms_nothing) {
  Carried carried = of({status_of(10, 10, 10, 10)});
  carried.take_off(of({status_of(999, 5, 999, 5)}));
  EXPECT_THAT(carried.by_transport, ElementsAre(Pair("rdma", 6), Pair("tcp", 0)));
  EXPECT_EQ(of({"", "{}", "[1]"}).transports(), "?");
}

}  // namespace
}  // namespace memkv::bench
