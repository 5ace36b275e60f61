#include "counters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace memkv::nixl {
namespace {

using testing::HasSubstr;

TEST(Counters, rails_are_samples_of_one_metric) {
  std::array<RailCounters, 2> rails;
  rails[0] = {.device = "mlx5_0", .ops = 7, .bytes_in = 70, .bytes_out = 71, .failures = 6, .retry_errors = 1};
  rails[1] = {.device = "mlx5_\"1", .rnr_errors = 2, .access_errors = 3, .switches = 4};
  const std::string text = prometheus(rails, "a");
  EXPECT_THAT(text, HasSubstr("# TYPE memkv_nixl_rail_operations_total counter\n"
                              "memkv_nixl_rail_operations_total{agent=\"a\",device=\"mlx5_0\"} 7\n"
                              "memkv_nixl_rail_operations_total{agent=\"a\",device=\"mlx5_\\\"1\"} 0\n"));
  for (const char* sample :
       {"bytes_in_total{agent=\"a\",device=\"mlx5_0\"} 70\n", "bytes_out_total{agent=\"a\",device=\"mlx5_0\"} 71\n",
        "failures_total{agent=\"a\",device=\"mlx5_0\"} 6\n", "retry_errors_total{agent=\"a\",device=\"mlx5_0\"} 1\n",
        "rnr_errors_total{agent=\"a\",device=\"mlx5_\\\"1\"} 2\n",
        "access_errors_total{agent=\"a\",device=\"mlx5_\\\"1\"} 3\n",
        "switches_total{agent=\"a\",device=\"mlx5_\\\"1\"} 4\n"}) {
    EXPECT_THAT(text, HasSubstr(std::string("memkv_nixl_rail_") + sample));
  }
}

TEST(Counters, without_rails_nothing_is_said_of_them) {
  EXPECT_EQ(prometheus(std::span<const RailCounters>(), "a"), "");
}

}  // namespace
}  // namespace memkv::nixl
