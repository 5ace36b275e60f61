#pragma once
/// Where a wire operation goes, and how.

#include <memory>

#include "memkv/client.h"
#include "registry.h"

namespace memkv::nixl {

struct Target {
  enum class Form : uint8_t { kGet, kPut, kPutIfAbsent, kRange };

  /// A write of this form. `offset` matters to kRange alone.
  void add_write(Batch& batch, const Gather& from, uint64_t offset) const;

  std::shared_ptr<const Key> key;
  Form form = Form::kGet;
};

}  // namespace memkv::nixl
