#include <gtest/gtest.h>

#include "engine/store.h"

namespace memkv::engine {
namespace {

TEST(Keys, DigestDependsOnNamespaceKeyAndSecret) {
  const base::SipKey secret{1, 2};
  const Digest digest = digest_of(secret, 77, "key");
  EXPECT_EQ(digest, digest_of(secret, 77, "key"));
  EXPECT_NE(digest, digest_of(secret, 78, "key"));
  EXPECT_NE(digest, digest_of(secret, 77, "keys"));
  EXPECT_NE(digest, digest_of({1, 3}, 77, "key"));
}

TEST(Keys, ChecksumSeedsOfChunksDiffer) {
  EXPECT_NE(checksum_seed(77, "key", 0), checksum_seed(77, "key", 1));
  EXPECT_NE(checksum_seed(77, "key", 0), checksum_seed(78, "key", 0));
  EXPECT_EQ(checksum_seed(77, "key", 3) - checksum_seed(77, "key", 2), 0x9E3779B97F4A7C15u);
}

}  // namespace
}  // namespace memkv::engine
