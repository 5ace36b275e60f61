#include "io/congestion.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>

namespace memkv::io {
namespace {

/// Makes setsockopt(TCP_CONGESTION) fail with `error` for the rest of this process: ENOENT as on a kernel without the
/// algorithm, EPERM as on one that does not permit it.
bool forbid_congestion(uint32_t error) {
  std::array<sock_filter, 6> filter = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TCP_CONGESTION, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

int child_chooses(uint32_t error, const char* reason) {
  if (!forbid_congestion(error)) return 77;
  auto fallen = choose_congestion("", "network.congestion");
  if (!fallen || !fallen->name.empty()) return 1;
  if (fallen->note.find(reason) == std::string::npos || fallen->note.find('\n') != std::string::npos) return 2;
  if (fallen->note.find("'cubic'") == std::string::npos) return 3;
  auto demanded = choose_congestion("cubic", "network.congestion");
  if (demanded || demanded.error().status != Status::kInvalid) return 4;
  if (demanded.error().text.find("network.congestion: ") != 0) return 5;
  if (demanded.error().text.find(reason) == std::string::npos) return 6;
  auto system = choose_congestion("system", "network.congestion");
  return system && system->name.empty() && system->note.empty() ? 0 : 7;
}

class CaseC4 : public ::testing::TestWithParam<std::pair<uint32_t, const char*>> {};
INSTANTIATE_TEST_SUITE_P(Errors, CaseC4,
                         ::testing::Values(std::pair{EPERM, "not permitted"}, std::pair{ENOENT, "not offered"},
                                           std::pair{EOPNOTSUPP, "cannot be set"}));

TEST_P(CaseC4, the_default_gives_way_and_a_stated_name_is_refused_with_the_reason) {
  const pid_t child = fork();
  if (child == 0) _exit(child_chooses(GetParam().first, GetParam().second));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Congestion, a_name_that_the_system_has_is_taken) {
  auto chosen = choose_congestion("reno", "--congestion");
  ASSERT_TRUE(chosen) << chosen.error().text;
  EXPECT_EQ(chosen->name, "reno");
  EXPECT_TRUE(chosen->note.empty());
}

TEST(Congestion, a_name_that_no_system_has_is_told) {
  auto chosen = choose_congestion("nonsense", "--congestion");
  ASSERT_FALSE(chosen);
  EXPECT_EQ(chosen.error().text.find("--congestion: TCP congestion control 'nonsense' is not offered"), 0u)
      << chosen.error().text;
}

}  // namespace
}  // namespace memkv::io
