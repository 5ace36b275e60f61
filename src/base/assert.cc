#include "base/assert.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace memkv::base {

void assert_failed(const char* file, int line, const char* expression, const char* text) {
  char message[1024];
  const bool has_text = text[0] != '\0';
  int size = std::snprintf(message, sizeof message, "%s:%d: assert failed: %s%s%s%s\n", file, line, expression,
                           has_text ? " (" : "", text, has_text ? ")" : "");
  if (size >= static_cast<int>(sizeof message)) size = sizeof message - 1;
  // Nothing is left to do when even stderr is gone.
  [[maybe_unused]] auto written = ::write(STDERR_FILENO, message, static_cast<size_t>(size));
  std::abort();
}

}  // namespace memkv::base
