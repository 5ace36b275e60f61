#pragma once
/// Asserts for bugs, on in every build. Bytes from a drive or a wire are never asserted on: check them and fail.

namespace memkv::base {

/// Prints `file:line: assert failed: expression (text)` to stderr and aborts.
[[noreturn]] void assert_failed(const char* file, int line, const char* expression, const char* text = "");

}  // namespace memkv::base

/// MEMKV_ASSERT(condition) or MEMKV_ASSERT(condition, "what must hold and why").
#define MEMKV_ASSERT(condition, ...)  \
  (__builtin_expect(!!(condition), 1) \
       ? static_cast<void>(0)         \
       : ::memkv::base::assert_failed(__FILE__, __LINE__, #condition __VA_OPT__(, ) __VA_ARGS__))
