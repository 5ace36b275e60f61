/// Fuzzes the server's configuration file: any text must give options or a message.

#include "base/assert.h"
#include "server/options.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view yaml(reinterpret_cast<const char*>(data), size);
  const auto options = memkv::server::parse_options(yaml, "fuzz.yaml");
  MEMKV_ASSERT(options.ok() || !options.error().text.empty());
  return 0;
}
