#include "client/client_identity.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace memkv::client {
namespace {

TEST(ClientIdentity, IsOneForTheWholeProcess) {
  EXPECT_EQ(&process_identity(), &process_identity());
  EXPECT_NE(process_identity().id, ClientIdentity().id);
}

TEST(ClientIdentity, IsAnotherOneInTheChildOfAFork) {
  const ClientIdentity& parent = process_identity();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const ClientIdentity& own = process_identity();
    _exit(own.id != parent.id && &own == &process_identity() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(&process_identity(), &parent);
}

}  // namespace
}  // namespace memkv::client
