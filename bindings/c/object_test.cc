/// libmemkv.so as a file, and as a C program uses it.

#include <gmock/gmock.h>

#include <fstream>
#include <string>
#include <vector>

#include "tests/support/program_output.h"
#include "tests/support/server_process.h"

namespace memkv::c {
namespace {

using test::last_words;
using test::output_of;
using testing::IsSubsetOf;

constexpr const char* kObject = MEMKV_C_OBJECT;

/// Programs that were linked break if a symbol is removed or changes its version. So this list only grows.
TEST(CObject, shows_the_symbols_of_the_golden_list_and_no_more) {
  std::ifstream golden("tests/golden/c-api/symbols.txt");
  auto shown = last_words(output_of({NM, "-D", "--defined-only", kObject}), "");
  std::erase(shown, "MEMKV_1");  // some linkers show the version itself
  EXPECT_EQ(shown, last_words(golden, "memkv"));
}

TEST(CObject, needs_libc_libgcc_and_libcrypto_alone) {
  EXPECT_THAT(
      last_words(output_of({READELF, "-d", kObject}), "(NEEDED)"),
      IsSubsetOf({"[libcrypto.so.3]", "[libc.so.6]", "[libgcc_s.so.1]", "[libm.so.6]", "[ld-linux-x86-64.so.2]"}));
}

TEST(CObject, its_name_has_the_version_of_the_abi_and_it_stays_loaded) {
  const std::string text = output_of({READELF, "-d", kObject});
  EXPECT_NE(text.find("[libmemkv.so.1]"), std::string::npos) << text;
  EXPECT_NE(text.find("NODELETE"), std::string::npos) << text;
}

class CProgram : public testing::TestWithParam<const char*> {};

TEST_P(CProgram, in_c_gets_the_right_answers_from_every_call) {
  const test::TempDir dir;
  setenv("MEMKV_SHM_DIR", dir.path().c_str(), 1);
  setenv("MEMKV_TRANSPORT", GetParam(), 1);
  const auto server = test::start_memory_server(dir, "128MiB");
  EXPECT_EQ(output_of({MEMKV_C_PROGRAM, server->address()}), "ok\n");
  EXPECT_EQ(server->stop(), 0);
}
INSTANTIATE_TEST_SUITE_P(Transports, CProgram, testing::Values("tcp", "shm"));

}  // namespace
}  // namespace memkv::c
