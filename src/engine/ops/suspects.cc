#include "engine/ops/suspects.h"

#include <memory>
#include <vector>

#include "base/bytes.h"
#include "engine/ops/read.h"

namespace memkv::engine {
namespace {

constexpr uint32_t kSuspectsMax = 4;  // each takes a chunk's memory

}  // namespace

struct Suspects::OwnRead : ReadOp {
  OwnRead() : memory(base::kChunkBytes + 3 * base::kSectorBytes) {
    const auto start = reinterpret_cast<uintptr_t>(memory.data());
    buffer = reinterpret_cast<std::byte*>(base::align_up(start, base::kSectorBytes) + base::kSectorBytes);
    buffer_bytes = base::kChunkBytes + base::kSectorBytes;
  }
  std::vector<std::byte> memory;
  StoreOp* waiting = nullptr;
};

void Suspects::look_over(RemoveOp& op, uint64_t offset) {
  const uint64_t at = offset - offset % base::kChunkBytes;
  const Lookup found = look_up(parts_, op.key, at, base::kChunkBytes, 0);
  if (found.status != Status::kOk) return parts_.completions.add(op, Status::kMiss);
  if (under_way_ == kSuspectsMax) return parts_.completions.add(op, Status::kBusy);
  ++under_way_;
  auto* own = new OwnRead;  // rare: somebody saw damage
  own->key = op.key;
  own->offset = at;
  own->length = base::kChunkBytes;
  own->verify = true;
  own->waiting = &op;
  own->context = this;
  own->on_done = on_read;
  Read::start(parts_, *own, /*over_holes=*/true);
}

void Suspects::on_read(StoreOp& op) {
  const std::unique_ptr<OwnRead> read(static_cast<OwnRead*>(&op));
  Suspects& s = *static_cast<Suspects*>(op.context);
  MEMKV_ASSERT(s.under_way_ > 0);
  release_read(s.parts_, *read);
  --s.under_way_;
  s.parts_.completions.add(*read->waiting, read->dropped ? Status::kCorrupt : read->status);
}

}  // namespace memkv::engine
