#pragma once
/// Memory that a program registered, as the devices of its client know it.

#include <memory>

#include "client/context.h"
#include "memkv/client.h"
#include "transport/rdma/devices.h"

namespace memkv::client {

/// Of what `context` uses only what any thread may. `driven`: the context that the caller drives itself, null once it
/// is gone; no pointer for one with threads of its own. Blocks: pins the pages.
Result<Region> make_region(const Context& context, void* data, size_t size, MemoryKind kind, int device,
                           std::shared_ptr<Context*> driven);

}  // namespace memkv::client
