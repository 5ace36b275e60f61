#include "target.h"

#include "base/assert.h"

namespace memkv::nixl {

void Target::add_write(Batch& batch, const Gather& from, uint64_t offset) const {
  switch (form) {
    case Form::kPut:
      batch.put(key->text, from);
      return;
    case Form::kPutIfAbsent:
      batch.put_if_absent(key->text, from);
      return;
    case Form::kRange:
      batch.write(key->text, from, offset);
      return;
    case Form::kGet:
      MEMKV_ASSERT(false, "a get is no write");
  }
}

}  // namespace memkv::nixl
