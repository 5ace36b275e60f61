#include "client/remote/send_queues.h"

namespace memkv::client {

void SendQueues::add(Unit& unit) {
  MEMKV_ASSERT(unit.queue == nullptr && unit.frame == nullptr);
  const Kind kind = unit.op->spec->kind;
  UnitQueue* queue = &ops;
  if (kind == Kind::kExists)
    queue = &exists;
  else if (kind == Kind::kStatus || kind == Kind::kList)
    queue = &admin;
  else if (unit.op->gpu && unit.length > 0)
    queue = &gpu;
  else if (unit.kind == wire::OpKind::kPrefetch)
    queue = &hints;
  else if (wire::has_payload(unit.kind))
    queue = unit.length > wire::kEagerPayloadMax ? &large : &small;
  else if (is_large_get(unit))
    queue = &gets;
  add_to(*queue, unit);
  // A begin stands for the chunks that will follow it here.
  const uint64_t bytes = unit.kind == wire::OpKind::kBegin ? unit.op->bytes : unit.length;
  unit.put_on(load_bytes, bytes);
  if (unit.kind != wire::OpKind::kChunk) given_bytes += bytes;
}

void SendQueues::take_all(UnitQueue& into) {
  for (UnitQueue* queue : {&exists, &ops, &gets, &small, &large, &gpu, &hints, &admin}) {
    while (Unit* unit = queue->pop_front()) {
      unit->take_off();
      add_to(into, *unit);
    }
  }
}

}  // namespace memkv::client
