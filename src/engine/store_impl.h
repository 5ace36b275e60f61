#pragma once
/// The store as its parts make it. Private to the engine.

#include "engine/ops/index_room.h"
#include "engine/ops/range_writer.h"
#include "engine/ops/suspects.h"
#include "engine/parts.h"
#include "engine/reclaimer.h"
#include "engine/store.h"
#include "engine/upkeep.h"

namespace memkv::engine {

/// A façade: its calls go to its parts, and it has no state of its own. The parts stand in the order of who knows whom:
/// each knows some of those above it here, and none of those below; what happened goes down by callbacks.
///
/// Thread: worker.
class StoreImpl final : public Store {
 public:
  /// Throws std::bad_alloc.
  StoreImpl(io::Reactor& reactor, StoreOptions options);

  void open(StoreOp& op) override;
  void close(StoreOp& op) override { upkeep_.close(op); }
  void put(PutOp& op) override;
  Status begin(Upload& upload, uint64_t total_bytes, bool if_absent, bool range_write) override;
  void put_chunk(ChunkOp& op) override;
  void commit(CommitOp& op) override;
  void abort(Upload& upload) override { uploads_.abort(upload); }
  void write(WriteOp& op) override;
  void expect(const BlockKey& key) override { blocks_.prefetch(key.digest); }
  Lookup lookup(const BlockKey& key, uint64_t offset, uint32_t length, Generation if_generation) override;
  void read(ReadOp& op) override;
  void prefetch(PrefetchOp& op) override;
  void release(ReadOp& op) override;
  bool exists(const BlockKey& key) override { return blocks_.find_usable(key.digest) != nullptr; }
  bool stat(const BlockKey& key, BlockStat& out) override { return blocks_.stat(key, out); }
  bool touch(const BlockKey& key) override { return blocks_.touch(key); }
  void remove(RemoveOp& op) override;
  void flush_namespace(FlushOp& op) override;
  void suspect(RemoveOp& op, uint64_t offset) override { suspects_.look_over(op, offset); }
  uint64_t list(uint64_t namespace_id, uint64_t cursor, uint32_t limit, void (*visit)(void*, const ListEntry&),
                void* context) override {
    return blocks_.list(namespace_id, cursor, limit, visit, context);
  }
  void read_key(KeyOp& op) override;
  Reservation reserve(uint32_t bytes, size_t key_bytes) override;
  void abandon(Reservation reservation) override { reservations_.abandon(reservation); }
  void take_drives_out(uint64_t drives) override;
  const StoreCounters& counters() const override;
  std::span<std::byte> tier_memory() const override { return tier_.memory(); }
  uint64_t block_bytes_max() const override { return drives_.block_bytes_max(); }
  size_t ops_in_flight() const override {
    return pool_.used() + uploads_.count() + reservations_.count() + range_writer_.left() + tier_.holds();
  }
  void skip_sequences(uint64_t count) { sequences_.skip(count); }  ///< for tests: as if so many changes had been made

 private:
  const StoreOptions options_;
  StoreCounters counters_{};
  mutable StoreCounters snapshot_{};  // what counters() gave last
  Completions completions_;
  Tick tick_;
  OpPool pool_{completions_, tick_};
  KeyLocks locks_;
  Buffers buffers_;
  Drives drives_;
  Sequences sequences_;
  Blocks blocks_;
  Tier tier_;
  Reservations reservations_{drives_};
  Uploads uploads_;
  Parts parts_;
  Reclaimer reclaimer_{parts_};
  IndexRoom index_room_{parts_, reclaimer_};
  RangeWriter range_writer_{parts_};
  Suspects suspects_{parts_};
  Upkeep upkeep_{parts_, reclaimer_, range_writer_};
};

}  // namespace memkv::engine
