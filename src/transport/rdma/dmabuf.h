#pragma once
/// GPU memory as a dma-buf, by which NICs can register it. The CUDA driver is found at run time: the same program runs
/// on hosts without a GPU.

#include <cstddef>
#include <cstdint>

#include "base/unique_fd.h"
#include "memkv/error.h"

namespace memkv::transport::rdma {

/// A range of GPU memory as the kernel knows it. The memory must not be freed before it.
struct DmaBuf {
  base::UniqueFd fd;
  uint64_t offset = 0;  ///< of the range in it: it begins at a page
};

/// `data`: an address of CUDA device `device`, as cuMemAlloc and cudaMalloc give it. kUnsupported: this host, driver or
/// device cannot do it; kInvalid: no memory of that device. Both with a sentence that says what is missing. Blocks.
/// Thread: any; its current CUDA context is as before.
Result<DmaBuf, Message> export_gpu_memory(const void* data, size_t size, int device);

}  // namespace memkv::transport::rdma
