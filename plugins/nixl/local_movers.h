#pragma once
/// What moves bytes inside this machine, for all requests of a backend.

#include "copier.h"
#include "staging.h"

namespace memkv::nixl {

/// Thread: any.
struct LocalMovers {
  explicit LocalMovers(uint64_t staging_bytes) : staging(staging_bytes) {}
  /// The device that VRAM about to be registered lies on; the first call loads CUDA and pins the staging memory.
  Result<uint32_t, Message> open_vram(uintptr_t memory, uint64_t device_hint);

  Copier copier;
  StagingPool staging;
};

}  // namespace memkv::nixl
