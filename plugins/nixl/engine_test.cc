/// The backend against a real server: what comes of transfers.

#include "engine_rig_testing.h"

namespace memkv::nixl::test {
namespace {

TEST_F(EngineTest, what_is_written_is_read_again) {
  Agent agent(params());
  ASSERT_TRUE(agent.made());
  for (const size_t bytes : {size_t{1}, size_t{4096}, size_t{1} << 20, (size_t{5} << 20) + 17}) {
    const std::string key = "block" + std::to_string(bytes);
    auto out = pattern(bytes, 1);
    std::vector<char> in(bytes);
    EXPECT_EQ(agent.write({{out.data(), bytes, key}}), Status::kSuccess);
    EXPECT_EQ(agent.read({{in.data(), bytes, key}}), Status::kSuccess);
    EXPECT_EQ(in, out);
  }
}

}  // namespace
}  // namespace memkv::nixl::test
