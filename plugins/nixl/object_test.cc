/// The shared object as a file: what it shows and what it asks of a machine.

#include <dlfcn.h>
#include <gmock/gmock.h>

#include <set>

#include "abi.h"
#include "tests/support/program_output.h"

namespace memkv::nixl {
namespace {

using test::last_words;
using test::output_of;
using testing::ElementsAre;
using testing::IsSubsetOf;

constexpr const char* kObject = MEMKV_NIXL_OBJECT;

/// The highest N of all PREFIX_2.N in the text.
int newest(const std::string& text, const std::string& prefix) {
  int highest = 0;
  for (size_t at = 0; (at = text.find(prefix, at)) != std::string::npos;) {
    at += prefix.size();
    highest = std::max(highest, std::atoi(text.c_str() + at));
  }
  return highest;
}

TEST(PluginObject, shows_its_two_entry_points_and_no_more) {
  const auto names = last_words(output_of({NM, "-D", "--defined-only", kObject}), " ");
  EXPECT_THAT(names, ElementsAre("nixl_plugin_fini", "nixl_plugin_init"));
}

TEST(PluginObject, needs_libc_libgcc_and_libcrypto_alone) {
  EXPECT_THAT(last_words(output_of({READELF, "-d", kObject}), "(NEEDED)"),
              IsSubsetOf({"[libcrypto.so.3]", "[libc.so.6]", "[libgcc_s.so.1]", "[ld-linux-x86-64.so.2]"}));
}

TEST(PluginObject, loads_from_glibc_2_34_on_and_asks_no_libstdcxx) {
  const std::string symbols = output_of({OBJDUMP, "-T", kObject});
  EXPECT_LE(newest(symbols, "GLIBC_2."), 34);
  EXPECT_GT(newest(symbols, "GLIBC_2."), 0);
  EXPECT_EQ(symbols.find("GLIBCXX_"), std::string::npos);
}

TEST(PluginObject, is_loaded_as_nixl_loads_it) {
  void* object = dlopen(kObject, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  ASSERT_NE(object, nullptr) << dlerror();
  using Init = const abi::Plugin* (*)();
  const auto init = reinterpret_cast<Init>(dlsym(object, "nixl_plugin_init"));
  ASSERT_NE(init, nullptr);
  const abi::Plugin* plugin = init();
  EXPECT_EQ(plugin->version, 1);
  EXPECT_STREQ(plugin->name(), "MEMKV");
  EXPECT_STRNE(plugin->plugin_version(), "");
  EXPECT_THAT(plugin->memories(), ElementsAre(abi::Memory::kDram, abi::Memory::kVram, abi::Memory::kObject));
  EXPECT_EQ(plugin->options().count("servers"), 1u);
  abi::Params params{{"no_such", "x"}};
  abi::InitParams bad;
  bad.params = &params;
  EXPECT_EQ(plugin->create(&bad), nullptr);
}

}  // namespace
}  // namespace memkv::nixl
