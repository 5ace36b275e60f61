/// The file of a credential appears whole, can be read by its owner only, and never replaces another file.

#include "wire/credential_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace memkv::wire {
namespace {

namespace fs = std::filesystem;

class CredentialFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string made = testing::TempDir() + "memkv-test-credential-XXXXXX";
    ASSERT_NE(mkdtemp(made.data()), nullptr);
    dir_ = made;
  }
  void TearDown() override { fs::remove_all(dir_); }
  std::string file() const { return dir_ + "/memkv.key"; }
  auto files() const { return std::distance(fs::directory_iterator(dir_), {}); }

  std::string dir_;
};

TEST_F(CredentialFileTest, ItIsReadBackAndForItsUserAlone) {
  const Secret secret = make_secret();
  const mode_t before = ::umask(0);
  EXPECT_EQ(write_credential_file(file(), secret), 0);
  ::umask(before);
  EXPECT_EQ(*parse_secret("@" + file()), secret);
  struct stat info {};
  ASSERT_EQ(::stat(file().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(info.st_nlink, 1u);
  EXPECT_EQ(files(), 1) << "nothing else is left in the folder";
}

TEST_F(CredentialFileTest, WhatIsThereStays) {
  std::ofstream(file()) << "somebody's";
  EXPECT_EQ(write_credential_file(file(), make_secret()), EEXIST);
  EXPECT_EQ(fs::file_size(file()), 10u);
  fs::remove(file());
  fs::create_symlink(dir_ + "/nowhere", file());
  EXPECT_EQ(write_credential_file(file(), make_secret()), EEXIST);
  EXPECT_FALSE(fs::exists(dir_ + "/nowhere")) << "a link is not followed";
  EXPECT_EQ(files(), 1);
}

TEST_F(CredentialFileTest, WhatIsThereIsFoundInAFolderThatTakesNoFile) {
  EXPECT_EQ(write_credential_file("/proc/version", make_secret()), EEXIST);
}

TEST_F(CredentialFileTest, WhatFailsIsToldAndLeavesNothing) {
  EXPECT_EQ(write_credential_file(dir_ + "/gone/memkv.key", make_secret()), ENOENT);
  std::ofstream(dir_ + "/memkv.key." + std::to_string(getpid())) << "half of one";
  EXPECT_EQ(write_credential_file(file(), make_secret()), 0);
  EXPECT_EQ(files(), 1);
}

}  // namespace
}  // namespace memkv::wire
