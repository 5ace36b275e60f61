/// The two entry points, all that the shared object shows.

#include <exception>

#include "engine.h"
#include "log.h"

namespace memkv::nixl {
namespace {

constexpr const char* kVersion = MEMKV_VERSION;

/// Nothing that is thrown (no memory, no thread) crosses into NIXL.
abi::Backend* create(const abi::InitParams* init) try {
  auto engine = std::make_unique<Engine>(*init);
  return engine->init_error ? nullptr : engine.release();
} catch (const std::exception& e) {
  log_line("a backend cannot be made: {}", e.what());
  return nullptr;
}

const abi::Plugin plugin = {
    .version = abi::kVersion,
    .create = create,
    .destroy = [](abi::Backend* backend) { delete backend; },
    .name = [] { return "MEMKV"; },
    .plugin_version = [] { return kVersion; },
    .options = known_options,
    .memories =
        [] {
          return std::vector<abi::Memory>{abi::Memory::kDram, abi::Memory::kVram, abi::Memory::kObject};
        },
};

}  // namespace
}  // namespace memkv::nixl

extern "C" {

__attribute__((visibility("default"))) const memkv::nixl::abi::Plugin* nixl_plugin_init() {
  return &memkv::nixl::plugin;
}

/// Nothing to undo: init and fini come in pairs of any number, and what a backend holds goes with it.
__attribute__((visibility("default"))) void nixl_plugin_fini() {}
}
