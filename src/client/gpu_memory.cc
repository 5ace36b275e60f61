/// Whether an op's memory is a GPU's, and which rails know it.

#include "client/context.h"
#include "transport/rdma/poller.h"

namespace memkv::client {

/// Costs a client without GPU memory one load.
Context::MemoryOf Context::memory_of(std::span<const iovec> pieces) {
  if (!rdma_ || !rdma_->memory().any_gpu()) return MemoryOf::kHost;
  const auto in_gpu = [&](const void* at, size_t bytes) {
    const transport::rdma::Registration* registration = rdma_->memory().find(at, bytes);
    return registration && registration->gpu();
  };
  bool gpu = false, host = false;
  for (const iovec& piece : pieces) {
    if (piece.iov_len == 0) continue;
    const auto* data = static_cast<const std::byte*>(piece.iov_base);
    const bool all = in_gpu(data, piece.iov_len);
    if (!all && (in_gpu(data, 1) || in_gpu(data + piece.iov_len - 1, 1))) return MemoryOf::kMixed;
    (all ? gpu : host) = true;
  }
  return gpu && host ? MemoryOf::kMixed : gpu ? MemoryOf::kGpu : MemoryOf::kHost;
}

uint32_t Context::gpu_rails(std::span<const iovec> pieces) {
  uint32_t rails = (1u << rail_count()) - 1;
  for (const iovec& piece : pieces) {
    if (piece.iov_len == 0) continue;
    const transport::rdma::Registration* registration = rdma_->memory().find(piece.iov_base, piece.iov_len);
    if (!registration) return 0;  // it is being deregistered
    for (size_t rail = 0; rail < rail_count(); rail++) {
      if (!registration->is_on(rail)) rails &= ~(1u << rail);
    }
  }
  return rails;
}

}  // namespace memkv::client
