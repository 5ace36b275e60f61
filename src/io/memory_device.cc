/// Memory as a device.

#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"
#include "io/device.h"
#include "io/loop.h"
#include "io/memory_storage.h"

namespace memkv::io {
namespace {

/// Several devices may share a storage, each in its own part. Thread: the reactor's.
class MemoryDevice final : public BlockDevice {
 public:
  MemoryDevice(Reactor& reactor, std::shared_ptr<MemoryStorage> storage, bool with_views)
      : reactor_(reactor), storage_(std::move(storage)), with_views_(with_views) {
    info_.path = "memory";
    info_.size_bytes = base::align_down(storage_->size(), base::kSectorBytes);
    info_.durable = false;
  }

  const DeviceInfo& info() const override { return info_; }

  Result<void> read(IoOp& op, uint64_t offset, std::span<const iovec> pieces) override {
    const size_t bytes = pieces_bytes(pieces);
    if (!inside(offset, bytes)) return outside();
    // The completion is posted first: if that is refused, the op must not have touched anything.
    auto posted = reactor_.post(op, static_cast<int32_t>(bytes));
    if (!posted) return posted;
    const std::byte* from = storage_->data() + offset;
    for (const iovec& piece : pieces) {
      std::memcpy(piece.iov_base, from, piece.iov_len);
      from += piece.iov_len;
    }
    return {};
  }

  Result<void> write(IoOp& op, uint64_t offset, std::span<const iovec> pieces, bool) override {
    const size_t bytes = pieces_bytes(pieces);
    if (!inside(offset, bytes)) return outside();
    auto posted = reactor_.post(op, static_cast<int32_t>(bytes));
    if (!posted) return posted;
    std::byte* to = storage_->data() + offset;
    for (const iovec& piece : pieces) {
      // A piece may be a view of the very place that it is written to; then nothing is copied.
      if (to != piece.iov_base) std::memmove(to, piece.iov_base, piece.iov_len);
      to += piece.iov_len;
    }
    return {};
  }

  Result<void> sync(IoOp& op) override { return reactor_.post(op, 0); }

  std::byte* view(uint64_t offset, uint64_t length) override {
    return with_views_ && inside(offset, length) ? storage_->data() + offset : nullptr;
  }

 private:
  bool inside(uint64_t offset, uint64_t bytes) const {
    return bytes > 0 && offset <= info_.size_bytes && bytes <= info_.size_bytes - offset;
  }
  static Error outside() { return {Status::kInvalid, 0, "memory device: range outside of the device"}; }

  Reactor& reactor_;
  std::shared_ptr<MemoryStorage> storage_;
  bool with_views_;
  DeviceInfo info_;
};

}  // namespace

std::shared_ptr<MemoryStorage> make_memory_storage(uint64_t size_bytes) {
  auto memory = size_bytes > 0 ? HugeMemory::make(size_bytes, /*prefault=*/false) : Error{};
  return memory ? std::make_shared<MemoryStorage>(std::move(memory).value()) : nullptr;
}

std::unique_ptr<BlockDevice> make_memory_device(Reactor& reactor, std::shared_ptr<MemoryStorage> storage,
                                                bool with_views) {
  MEMKV_ASSERT(storage != nullptr);
  return std::make_unique<MemoryDevice>(reactor, std::move(storage), with_views);
}

}  // namespace memkv::io
