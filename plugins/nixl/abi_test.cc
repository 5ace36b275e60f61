#include "abi.h"

#include <gtest/gtest.h>

#include <cstring>

namespace memkv::nixl::abi {
namespace {

/// The vtable slot that a pointer to a virtual member function names (Itanium C++ ABI: 1 + 8 * slot).
template <typename Method>
size_t slot(Method method) {
  uintptr_t words[2];
  static_assert(sizeof method == sizeof words);
  std::memcpy(words, &method, sizeof words);
  EXPECT_EQ(words[0] % 8, 1u) << "not virtual";
  return words[0] / 8;
}

TEST(Abi, methods_stand_in_the_slots_that_nixl_calls) {
  EXPECT_EQ(slot(&Backend::supportsRemote), 2u);
  EXPECT_EQ(slot(&Backend::supportsLocal), 3u);
  EXPECT_EQ(slot(&Backend::supportsNotif), 4u);
  EXPECT_EQ(slot(&Backend::getSupportedMems), 5u);
  EXPECT_EQ(slot(&Backend::registerMem), 6u);
  EXPECT_EQ(slot(&Backend::deregisterMem), 7u);
  EXPECT_EQ(slot(&Backend::connect), 8u);
  EXPECT_EQ(slot(&Backend::disconnect), 9u);
  EXPECT_EQ(slot(&Backend::unloadMD), 10u);
  EXPECT_EQ(slot(&Backend::prepXfer), 11u);
  EXPECT_EQ(slot(&Backend::postXfer), 12u);
  EXPECT_EQ(slot(&Backend::checkXfer), 13u);
  EXPECT_EQ(slot(&Backend::releaseReqH), 14u);
  EXPECT_EQ(slot(&Backend::prepRemoteMemView), 15u);
  EXPECT_EQ(slot(&Backend::prepLocalMemView), 16u);
  EXPECT_EQ(slot(&Backend::releaseMemView), 17u);
  EXPECT_EQ(slot(&Backend::getPublicData), 18u);
  EXPECT_EQ(slot(&Backend::getConnInfo), 19u);
  EXPECT_EQ(slot(&Backend::loadRemoteConnInfo), 20u);
  EXPECT_EQ(slot(&Backend::loadRemoteMD), 21u);
  EXPECT_EQ(slot(&Backend::loadLocalMD), 22u);
  EXPECT_EQ(slot(&Backend::getNotifs), 23u);
  EXPECT_EQ(slot(&Backend::genNotif), 24u);
  EXPECT_EQ(slot(&Backend::queryMem), 25u);
  EXPECT_EQ(slot(&Backend::estimateXferCost), 26u);
}

}  // namespace
}  // namespace memkv::nixl::abi
