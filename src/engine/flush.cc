/// Flush: a namespace tombstone in each log.

#include <algorithm>
#include <vector>

#include "engine/store_impl.h"
#include "engine/test_rules.h"

namespace memkv::engine {

void StoreImpl::flush_namespace(FlushOp& op) {
  OpState* st = take_state(op);
  if (st == nullptr) return;
  start_tick();
  st->left = 3;
  st->change = true;
  queue_merge(*st);  // a merge under way would carry bytes from before the flush to behind it
}

void StoreImpl::start_flush(OpState* st) {
  FlushOp& op = static_cast<FlushOp&>(*st->op);
  const uint64_t sequence = next_sequence();
  flushed_[namespace_index(op.namespace_id)] = sequence;
  op.generation = sequence;
  struct Flush : Append {
    OpState* st;
    uint8_t drive;
  };
  st->left = 1;
  for (auto& log : logs_) {
    if (!log || log->out()) continue;
    if (!rules().flushes_everywhere && st->left > 1) break;
    auto* a = new Flush;  // rare
    a->st = st;
    a->drive = log->config().slice.drive_index;
    a->header.kind = format::RecordKind::kFlush;
    a->header.namespace_id = op.namespace_id;
    a->header.sequence = sequence;
    a->on_done = [](Append& done) {
      auto* flush = static_cast<Flush*>(&done);
      OpState& state = *flush->st;
      // A log that went out meanwhile needs no tombstone.
      const bool left = done.status == Status::kIo && state.store->usable_log(flush->drive) == nullptr;
      if (done.status != Status::kOk && !left) state.status = done.status;
      delete flush;
      if (--state.left == 0) state.store->flush_done(state);
    };
    ++st->left;
    log->append(*a);
  }
  std::vector<Digest> gone;
  uint64_t cursor = 0;
  const uint16_t index = namespace_index(op.namespace_id);
  while (const Entry* e = index_.next(cursor)) {
    if (!e->has(kChunk) && e->namespace_index() == index && e->sequence() < sequence) gone.push_back(e->digest());
  }
  uint64_t not_counted = 0;
  for (const Digest& d : gone) drop_block(d, not_counted);
  if (--st->left == 0) flush_done(*st);
}

/// All logs have answered.
void StoreImpl::flush_done(OpState& st) {
  const FlushOp& op = static_cast<FlushOp&>(*st.op);
  uint64_t& durable = flushed_durably_[namespace_index(op.namespace_id)];
  if (st.status == Status::kOk) durable = std::max(durable, op.generation);
  finish(st, st.status);
}

/// Blocks of the namespace have left the index, though a log may not have the flush: it is under way, or it failed.
bool StoreImpl::flush_is_open(uint64_t ns) const {
  for (size_t i = 0; i < namespaces_.size(); ++i) {
    if (namespaces_[i] == ns) return flushed_[i] > flushed_durably_[i];
  }
  return false;
}

}  // namespace memkv::engine
