/// LIST: entries from the index of one shard after the other, their keys read from the drives.

#include <algorithm>

#include "base/assert.h"
#include "shard/connection.h"
#include "shard/request_ops.h"
#include "shard/worker.h"

namespace memkv::shard {
namespace {

/// Wire cursor: position in the worker's list of shards above, the store's cursor below. 0 = from the start, and the
/// end.
constexpr uint32_t kCursorBits = 58;
constexpr uint64_t kCursorMask = (uint64_t{1} << kCursorBits) - 1;

void next_key(ListOp& list);

void reply(ListOp& list, uint64_t cursor) {
  Connection& connection = *list.connection;
  ReplyFrame* frame = connection.replies().take_control_frame();
  if (frame == nullptr) {
    connection.close(Status::kBusy);
    return end(list);
  }
  frame->out.opcode = wire::Opcode::kListReply;
  frame->out.request_id = list.request_id;
  frame->out.body = list.encoder->finish(cursor);
  frame->after_context = &list;
  frame->after = [](ReplyFrame& done, bool) { end(*static_cast<ListOp*>(done.after_context)); };
  (void)connection.replies().send(*frame);
}

void on_key(engine::StoreOp& store_op) {
  ListOp& list = *static_cast<ListOp*>(store_op.context);
  const auto& entry = list.entries[list.at++];
  if (store_op.status == Status::kOk) {
    const wire::ListItem item{entry.generation, entry.block_bytes, {list.key.data(), list.key_op.key_bytes_out}};
    const bool fits = list.encoder->add(item);
    MEMKV_ASSERT(fits, "kListEntriesMax keys fit a frame");
  }
  next_key(list);
}

void next_key(ListOp& list) {
  if (list.connection->closing()) return end(list);
  if (list.at == list.count) return reply(list, list.next_cursor);
  auto& entry = list.entries[list.at];
  list.key_op = {};
  list.key_op.on_done = on_key;
  list.key_op.context = &list;
  list.key_op.key.digest = entry.digest;
  list.key_op.key.namespace_id = list.connection->namespace_id();
  list.key_op.key_out = list.key.data();
  list.shard->store->read_key(list.key_op);
}

/// One step through the index, until the page is full or the shard's index ends.
void look(ListOp& list) {
  if (list.connection->closing()) return end(list);
  const auto visit = [](void* context, const engine::Store::ListEntry& entry) {
    auto& to = *static_cast<ListOp*>(context);
    if (to.count < kListEntriesMax) to.entries[to.count++] = entry;
  };
  Worker& worker = list.connection->worker();
  list.cursor =
      list.shard->store->list(list.connection->namespace_id(), list.cursor, list.limit - list.count, visit, &list);
  MEMKV_ASSERT(list.cursor <= kCursorMask);
  if (list.cursor != 0 && list.count < list.limit) return worker.walk_on(list);
  const bool last_shard = list.shard_at + 1 == worker.stores().shards().size();
  list.next_cursor = list.cursor != 0 ? (uint64_t{list.shard_at} << kCursorBits) | list.cursor
                     : last_shard     ? 0
                                      : uint64_t{list.shard_at + 1} << kCursorBits;
  next_key(list);
}

}  // namespace

void end(ListOp& list) {
  Connection& connection = *list.connection;
  connection.worker().tenants().give(connection.holder(), kPooledLists);
  connection.worker().pools().list_ops.give_back(list);
  connection.unhold();
}

/// Answers LIST with one page of entries: takes a context for it, and begins where the cursor says. The connection is held
/// until the page has left.
void start_list(Connection& connection, uint64_t request_id, std::span<const std::byte> body) {
  const auto wanted = wire::decode_list(body);
  if (!wanted) return connection.protocol_error(wanted.error().what);
  Worker& worker = connection.worker();
  if (worker.draining()) return connection.replies().fail_request(request_id, Status::kUnavailable);
  if (!worker.ready()) return connection.replies().fail_request(request_id, Status::kNotReady);
  const size_t at = wanted->cursor >> kCursorBits;
  if (at >= worker.stores().shards().size()) return connection.replies().fail_request(request_id, Status::kInvalid);
  const bool fits = worker.tenants().fits(connection.holder(), kPooledLists);
  ListOp* list = fits ? worker.pools().list_ops.take() : nullptr;
  if (list == nullptr) return connection.replies().fail_request(request_id, Status::kBusy);
  connection.hold();
  worker.tenants().take(connection.holder(), kPooledLists);
  list->state() = {
      .connection = &connection,
      .shard = &worker.stores().shards()[at],
      .request_id = request_id,
      .cursor = wanted->cursor & kCursorMask,
      .shard_at = at,
      .limit = wanted->limit == 0 ? kListEntriesMax : std::min(wanted->limit, kListEntriesMax),
  };
  list->encoder.emplace(list->body);
  list->step = [](Walk& walk) { look(static_cast<ListOp&>(walk)); };
  worker.walk_on(*list);
}

}  // namespace memkv::shard
