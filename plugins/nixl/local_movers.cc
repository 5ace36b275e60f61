#include "local_movers.h"

namespace memkv::nixl {

Result<uint32_t, Message> LocalMovers::open_vram(uintptr_t memory, uint64_t device_hint) {
  auto cuda = copier.start_cuda();
  if (!cuda) return cuda.error();
  auto device = (*cuda)->device_of(memory, device_hint);
  if (!device) return device;
  auto opened = staging.open(**cuda, *device);
  if (!opened.ok()) return opened.error();
  return device;
}

}  // namespace memkv::nixl
