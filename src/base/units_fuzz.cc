// Parsing ends in a value or a message, whatever stands in a configuration file.
#include <cstdlib>

#include "base/units.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto strict = memkv::base::parse_size(text);
  auto lax = memkv::base::parse_size(text, memkv::base::BareNumber::kAllow);
  if (strict.ok() && (!lax.ok() || *strict != *lax)) std::abort();
  if (!lax.ok() && lax.error().text.empty()) std::abort();
  (void)memkv::base::parse_duration_ns(text).ok();
  return 0;
}
