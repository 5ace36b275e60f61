/// Planted bugs that show only in the stories made for them, with several servers, or with shm. Each search begins at a
/// seed that finds its bug today, so it is short. When runs change it goes on from there, as far as `./dev sim --bugs`
/// would.

#include "sim/bugs.h"

#include <gtest/gtest.h>

namespace memkv::sim {
namespace {

TEST(PlantedBugs, what_a_start_had_no_room_for_comes_back) { EXPECT_TRUE(find_bugs(78, 1, "", "index")); }

TEST(PlantedBugs, a_segments_former_round_is_taken_for_live) { EXPECT_TRUE(find_bugs(212, 1, "", "place")); }

TEST(PlantedBugs, a_timer_frees_a_slot_that_a_drive_has) { EXPECT_TRUE(find_bugs(348, 1, "", "timer")); }

TEST(PlantedBugs, a_read_asks_another_server_of_the_list) { EXPECT_TRUE(find_bugs(1, 1, "", "owner")); }

TEST(PlantedBugs, a_server_that_is_gone_takes_ops_of_others_along) { EXPECT_TRUE(find_bugs(1, 1, "", "beside")); }

TEST(PlantedBugs, over_shm_a_given_up_change_undoes_a_newer_one) { EXPECT_TRUE(find_bugs(2491, 1, "", "shm-order")); }

TEST(PlantedBugs, a_window_that_is_kept_does_not_count) { EXPECT_TRUE(find_bugs(3275, 1, "", "windows")); }

TEST(PlantedBugs, a_slot_is_used_again_while_a_nic_sends_it) { EXPECT_TRUE(find_bugs(1, 1, "", "placed")); }

}  // namespace
}  // namespace memkv::sim
