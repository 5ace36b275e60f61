/// Exports GPU memory as a dma-buf, with the stand-in for the CUDA driver.

#include "transport/rdma/dmabuf.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/fake_cudart/fake_cudart.h"

namespace memkv::transport::rdma {
namespace {

using memkv::test::FakeCudart;
using testing::HasSubstr;

class DmaBufTest : public testing::Test {
 protected:
  static constexpr size_t kBytes = 1 << 20;
  DmaBufTest() {
    setenv("MEMKV_CUDART", FAKE_CUDART, 0);
    cuda().SetDevice(0);
    cuda().Malloc(&memory_, kBytes);
  }
  ~DmaBufTest() override { cuda().Free(memory_); }
  static const FakeCudart& cuda() { return FakeCudart::get(); }
  char* at(size_t offset) const { return static_cast<char*>(memory_) + offset; }
  static void expect_failure(const Result<DmaBuf, Message>& result, Status status, const char* text) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().status, status);
    EXPECT_THAT(result.error().text, HasSubstr(text));
  }

  void* memory_ = nullptr;
};

TEST_F(DmaBufTest, TheDescriptorIsOfTheMemory) {
  const auto exported = export_gpu_memory(memory_, kBytes, 0);
  ASSERT_TRUE(exported.ok()) << exported.error().text;
  EXPECT_EQ(exported->offset, 0u);
  const std::string text = "written by the device";
  cuda().write(at(5000), text.data(), text.size());
  std::string seen(text.size(), 0);
  ASSERT_EQ(pread(exported->fd.get(), seen.data(), seen.size(), 5000), static_cast<ssize_t>(seen.size()));
  EXPECT_EQ(seen, text);
}

TEST_F(DmaBufTest, WholePagesAreExported) {
  const auto exported = export_gpu_memory(at(100), 10, 0);
  ASSERT_TRUE(exported.ok()) << exported.error().text;
  EXPECT_EQ(exported->offset, 100u);
}

TEST_F(DmaBufTest, SaysWhatIsMissing) {
  cuda().fail("dma-buf", 1);
  expect_failure(export_gpu_memory(memory_, kBytes, 0), Status::kUnsupported, "CUDA device 0: its memory cannot be");
  cuda().fail("dma-buf", 0);
  cuda().fail("cuMemGetHandleForAddressRange", 801);
  expect_failure(export_gpu_memory(memory_, kBytes, 0), Status::kUnsupported, "a dma-buf: CUDA_ERROR_NOT_SUPPORTED");
  cuda().fail("cuMemGetHandleForAddressRange", 12345);
  expect_failure(export_gpu_memory(memory_, kBytes, 0), Status::kUnsupported, "a dma-buf: error 12345");
  cuda().fail("cuMemGetHandleForAddressRange", 0);
  cuda().fail("cuInit", 100);
  expect_failure(export_gpu_memory(memory_, kBytes, 0), Status::kUnsupported, "the driver does not start");
  cuda().fail("cuInit", 0);
  expect_failure(export_gpu_memory(memory_, kBytes, 9), Status::kUnsupported,
                 "device 9: there is none: CUDA_ERROR_INV");
  EXPECT_TRUE(export_gpu_memory(memory_, kBytes, 0).ok());
}

TEST_F(DmaBufTest, OtherMemoryIsInvalid) {
  std::vector<char> host(kBytes);
  expect_failure(export_gpu_memory(host.data(), host.size(), 0), Status::kInvalid, "is no memory of a CUDA device");
  expect_failure(export_gpu_memory(memory_, kBytes, 1), Status::kInvalid, "is memory of CUDA device 0, not of 1");
}

/// Runs in a process of its own, which has no stand-in loaded.
TEST(DmaBufDeathTest, WithoutADriverItSaysSo) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        char byte = 0;
        const bool driver = dlopen("libcuda.so.1", RTLD_NOW) != nullptr;
        const auto exported = export_gpu_memory(&byte, 1, 0);
        const std::string text = exported ? "" : exported.error().text;
        std::exit(driver ? exported.ok() : text != "this host has no CUDA driver (libcuda.so.1)");
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace memkv::transport::rdma
