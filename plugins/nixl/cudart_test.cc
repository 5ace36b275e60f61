#include "cudart.h"

#include <gtest/gtest.h>

#include <fstream>

#include "cuda_testing.h"

namespace memkv::nixl {
namespace {

/// Runs `body` in a process that has loaded nothing yet; it returns 0 when all is right.
template <typename F>
void in_fresh_process(const F& body) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";  // the program again, not a fork of this one
  EXPECT_EXIT(std::exit(body()), testing::ExitedWithCode(0), "");
}

bool maps_mention(const std::string& word) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(word) != std::string::npos) return true;
  }
  return false;
}

TEST(CudartDeathTest, a_runtime_that_is_not_there_is_told_with_its_name) {
  in_fresh_process([] {
    setenv("MEMKV_CUDART", "/no/such/libcudart.so", 1);
    const auto loaded = load_cuda_runtime();
    return !loaded.ok() && loaded.error().text.find("/no/such/libcudart.so") != std::string::npos ? 0 : 1;
  });
}

TEST(CudartDeathTest, a_library_that_is_no_cuda_runtime_is_told) {
  in_fresh_process([] {
    setenv("MEMKV_CUDART", "libm.so.6", 1);
    const auto loaded = load_cuda_runtime();
    return !loaded.ok() && loaded.error().text.find("has no cudaGetDeviceCount") != std::string::npos ? 0 : 1;
  });
}

TEST(CudartDeathTest, a_machine_without_devices_is_told_in_the_words_of_the_runtime_and_may_get_one) {
  in_fresh_process([] {
    setenv("MEMKV_CUDART", FAKE_CUDART, 1);
    fake_cuda().fail("GetDeviceCount", 100);
    const auto loaded = load_cuda_runtime();
    if (loaded.ok() || loaded.error().text.find("no device") == std::string::npos) return 1;
    fake_cuda().fail("GetDeviceCount", 0);
    return load_cuda_runtime().ok() ? 0 : 2;
  });
}

TEST(CudartDeathTest, nothing_is_loaded_before_it_is_asked_for_and_no_context_is_made_by_loading) {
  in_fresh_process([] {
    setenv("MEMKV_CUDART", FAKE_CUDART, 1);
    if (maps_mention("cudart")) return 1;
    if (!load_cuda_runtime().ok() || !maps_mention("cudart")) return 2;
    const auto counts = fake_counts();
    return counts.contexts[0] + counts.contexts[1];
  });
}

TEST(CudartDeathTest, loading_twice_gives_the_same_table) {
  fake_cuda();
  EXPECT_EQ(load_cuda_runtime().value(), load_cuda_runtime().value());
}

TEST(CudartDeathTest, the_host_cannot_touch_device_memory) {
  DeviceMemory memory(4096);
  EXPECT_DEATH(*reinterpret_cast<volatile char*>(memory.place().address) = 1, "");
}

}  // namespace
}  // namespace memkv::nixl
