#include "wire/handshake.h"

#include <gtest/gtest.h>
#include <openssl/crypto.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "base/bytes.h"

namespace memkv::wire {
namespace {

TEST(CaseA6, weak_credentials_are_refused_and_not_repeated) {
  std::string counting;
  for (int i = 0; i < 32; ++i) counting += "0123456789abcdef"[i / 16] + std::string(1, "0123456789abcdef"[i % 16]);
  std::string twice, eight;
  for (int i = 0; i < 32; ++i) twice += "5a";
  for (int i = 0; i < 4; ++i) eight += "0123456789abcdef";
  for (const std::string& weak : {std::string(64, '0'), std::string(64, 'F'), twice, eight, counting,
                                  std::string(63, '0') + "1", std::string(32, '1') + std::string(32, '2')}) {
    const auto parsed = parse_secret(weak);
    ASSERT_FALSE(parsed.ok()) << weak;
    EXPECT_NE(parsed.error().text.find("weak"), std::string::npos);
    EXPECT_EQ(parsed.error().text.find(weak), std::string::npos);
  }
}

TEST(CaseA6, what_is_drawn_at_random_is_not_weak) {
  for (int i = 0; i < 10'000; ++i) ASSERT_FALSE(is_weak(make_secret()));
}

TEST(CaseA6, no_credential_is_weak_so_that_none_equals_it) { EXPECT_TRUE(is_weak(Secret{})); }

/// exit() runs the clean-up of libcrypto, and of a program that uses it too, while our threads still shake hands.
TEST(Handshake, goes_on_when_exit_has_torn_libcrypto_down) {
  Secret secret;
  secret.fill(7);
  const std::string hello = "hello", reply = "reply";
  const auto proofs = [&] {
    const Agreement agreement =
        agree(secret, base::as_bytes(std::string_view(hello)), base::as_bytes(std::string_view(reply)));
    return std::pair(agreement.server_proof, agreement.client_proof);
  };
  const auto before = proofs();
  const auto torn_down = [&] {
    OPENSSL_cleanup();
    _exit(proofs() == before ? 0 : 1);
  };
  EXPECT_EXIT(torn_down(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace memkv::wire
