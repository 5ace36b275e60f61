/// Which credentials of the local server are trusted, and that the credential stays the same.

#include "wire/local_credential.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace memkv::wire {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class LocalCredentialTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string made = testing::TempDir() + "memkv-test-local-XXXXXX";
    ASSERT_NE(mkdtemp(made.data()), nullptr);
    dir_ = made;
  }
  void TearDown() override { fs::remove_all(dir_); }
  std::string file() const { return dir_ + "/local.key"; }

  std::string dir_;
};

TEST_F(LocalCredentialTest, ItIsDrawnOnceAndForItsUserAlone) {
  const auto first = keep_local_credential(dir_);
  ASSERT_TRUE(first.ok()) << first.error().text;
  struct stat info {};
  ASSERT_EQ(::stat(file().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_FALSE(is_weak(*first));
  EXPECT_EQ(*keep_local_credential(dir_), *first);
  EXPECT_EQ(**read_local_credential({"/nowhere", dir_}), *first);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 1) << "nothing else is left in the folder";
}

TEST_F(LocalCredentialTest, NoFileIsNoCredential) {
  const auto found = read_local_credential({dir_, "/nowhere"});
  ASSERT_TRUE(found.ok());
  EXPECT_FALSE(*found);
}

TEST_F(LocalCredentialTest, WhatOthersMayReadOrReplaceIsNotBelieved) {
  ASSERT_TRUE(keep_local_credential(dir_).ok());
  ASSERT_EQ(::chmod(file().c_str(), 0640), 0);
  EXPECT_FALSE(*read_local_credential({dir_}));
  EXPECT_THAT(keep_local_credential(dir_).error().text, HasSubstr("remove it"));
}

TEST_F(LocalCredentialTest, ALinkIsNotFollowed) {
  ASSERT_TRUE(keep_local_credential(dir_).ok());
  fs::rename(file(), dir_ + "/elsewhere");
  fs::create_symlink(dir_ + "/elsewhere", file());
  EXPECT_FALSE(*read_local_credential({dir_}));
}

TEST_F(LocalCredentialTest, AFileOfSomethingElseIsAnErrorWithItsPath) {
  std::ofstream(file()) << "hello";
  ASSERT_EQ(::chmod(file().c_str(), 0600), 0);
  EXPECT_THAT(read_local_credential({dir_}).error().text, HasSubstr(file()));
  EXPECT_THAT(keep_local_credential(dir_).error().text, HasSubstr(file()));
}

TEST_F(LocalCredentialTest, AFolderThatCannotBeWrittenIsAnErrorWithItsPath) {
  EXPECT_THAT(keep_local_credential(dir_ + "/gone").error().text, HasSubstr(dir_ + "/gone"));
}

}  // namespace
}  // namespace memkv::wire
