#pragma once
/// The plugin's assert for bugs, on in every build: the plugin sees only the public headers of the client.

#include <cstdio>
#include <cstdlib>

namespace memkv::nixl {

[[noreturn]] inline void check_failed(const char* file, int line, const char* expression, const char* text) {
  std::fprintf(stderr, "%s:%d: assert failed: %s (%s)\n", file, line, expression, text);
  std::abort();
}

}  // namespace memkv::nixl

/// MEMKV_CHECK(condition, "what must hold and why").
#define MEMKV_CHECK(condition, text)                         \
  (__builtin_expect(!!(condition), 1) ? static_cast<void>(0) \
                                      : ::memkv::nixl::check_failed(__FILE__, __LINE__, #condition, text))
