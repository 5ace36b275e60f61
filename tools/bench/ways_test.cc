#include "tools/bench/ways.h"

#include <gmock/gmock.h>

namespace memkv::bench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<std::vector<Way>, Message> ways(const std::string& transports, const std::string& rails) {
  TargetOptions options;
  options.transport = transports, options.rails = rails;
  return ways_of(options, {Transport::kAuto});
}

std::vector<std::string> words(const std::string& transports, const std::string& rails) {
  std::vector<std::string> words;
  const auto found = ways(transports, rails);
  EXPECT_TRUE(found.ok());
  for (const Way& way : found.value()) words.push_back(way.word());
  return words;
}

std::string error(const std::string& transports, const std::string& rails) {
  const auto found = ways(transports, rails);
  return found ? "none" : found.error().text;
}

TEST(Ways, transports_as_listed_once_each) {
  EXPECT_THAT(words("", ""), ElementsAre("auto"));
  EXPECT_THAT(words("tcp, shm,tcp,rdma", ""), ElementsAre("tcp", "shm", "rdma"));
  EXPECT_THAT(error("tcp,udp", ""), HasSubstr("unknown transport 'udp'"));
}

TEST(Ways, rails_are_those_of_rdma) {
  EXPECT_THAT(words("tcp,rdma,shm", "1,2"), ElementsAre("tcp", "rdma:1", "rdma:2", "shm"));
  EXPECT_THAT(words("rdma", "2,2"), ElementsAre("rdma:2"));
  EXPECT_EQ(error("tcp,shm", "2"), "--rails 2: only rdma has rails, and it is not in --transport tcp,shm");
  EXPECT_EQ(error("", "1,2"), "--rails 1,2: only rdma has rails, and it is not in --transport");
  for (const char* wrong : {"0", "9", "two", "1,-1", "1x"}) EXPECT_THAT(error("rdma", wrong), HasSubstr("from 1 to 8"));
}

TEST(Ways, names_for_headings) {
  const auto found = ways("tcp,rdma", "1,2,4").value();
  EXPECT_EQ(found[0].name(), "tcp");
  EXPECT_EQ(found[1].name(), "rdma, single rail");
  EXPECT_EQ(found[2].name(), "rdma, dual rail");
  EXPECT_EQ(found[3].name(), "rdma, 4 rails");
}

TEST(Ways, what_the_client_is_told) {
  ClientOptions client;
  Way{Transport::kRdma, 1, {"mlx5_0"}, false}.choose_in(client);
  EXPECT_EQ(client.transport, Transport::kRdma);
  EXPECT_THAT(client.rdma_devices, ElementsAre("mlx5_0"));
}

}  // namespace
}  // namespace memkv::bench
