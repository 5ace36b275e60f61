#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

#include "base/standard_streams.h"

namespace memkv::base {

void assert_failed(const char* file, int line, const char* expression, const char* text) {
  char message[1024];
  const bool has_text = text[0] != '\0';
  int size = std::snprintf(message, sizeof message, "%s:%d: assert failed: %s%s%s%s\n", file, line, expression,
                           has_text ? " (" : "", text, has_text ? ")" : "");
  if (size >= static_cast<int>(sizeof message)) size = sizeof message - 1;
  constexpr uint32_t kPatienceMs = 1000;  // how long the last words wait for a reader of stderr
  (void)write_stderr({message, static_cast<size_t>(size)}, kPatienceMs);
  std::abort();
}

}  // namespace memkv::base
