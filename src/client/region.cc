/// Registered memory. tcp needs none: what is said is checked, and nothing is kept.

#include "memkv/client.h"

namespace memkv {
namespace {

Error failure(const char* what) { return {.status = Status::kInvalid, .sys_errno = 0, .what = what}; }

}  // namespace

struct Region::State {};
Region::Region(Region&&) noexcept = default;
Region& Region::operator=(Region&&) noexcept = default;
Region::~Region() = default;

Result<Region> Region::of(void* data, size_t size, MemoryKind kind) {
  if (data == nullptr || size == 0) return failure("register_memory needs memory of at least a byte");
  if (kind != MemoryKind::kHost) return failure("the tcp transport moves host memory only");
  return Region();
}

Result<Region> Client::register_memory(void* data, size_t size, MemoryKind kind, int /*device*/) {
  return Region::of(data, size, kind);
}

Result<Region> Session::register_memory(void* data, size_t size, MemoryKind kind, int /*device*/) {
  return Region::of(data, size, kind);
}

}  // namespace memkv
