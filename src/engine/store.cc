/// A store's calls, and who takes them.

#include "engine/ops/chunk.h"
#include "engine/ops/commit.h"
#include "engine/ops/flush.h"
#include "engine/ops/prefetch.h"
#include "engine/ops/put.h"
#include "engine/ops/read.h"
#include "engine/ops/read_key.h"
#include "engine/ops/remove.h"
#include "engine/ops/write.h"
#include "engine/recovery.h"
#include "engine/store_impl.h"

namespace memkv::engine {

uint64_t store_buffer_bytes(size_t drives) {
  constexpr uint64_t kRoundings = 3 * io::kHugePageBytes;  // of what is taken on huge pages
  return Buffers::bytes_for(drives) + kBigBufferBytes + kOpPoolBytes + kRoundings;
}

std::unique_ptr<Store> Store::make(io::Reactor& reactor, StoreOptions options) {
  return std::make_unique<StoreImpl>(reactor, std::move(options));
}

StoreImpl::StoreImpl(io::Reactor& reactor, StoreOptions options)
    : options_(std::move(options)),
      completions_(reactor),
      tick_(reactor),
      buffers_(options_.slices.size()),
      drives_(reactor, options_, buffers_, tick_, counters_),
      sequences_(reactor, options_, drives_, tick_),
      blocks_(options_, drives_, counters_),
      tier_(options_.memory_mode ? 0 : options_.tier_bytes, counters_),
      parts_{reactor,  options_, counters_,  completions_, tick_, pool_,         locks_,
             buffers_, drives_,  sequences_, blocks_,      tier_, reservations_, uploads_} {
  drives_.set_listener(reclaimer_);
}

void StoreImpl::open(StoreOp& op) {
  const uint64_t started = parts_.reactor.now_ns();
  const Status status = Recovery(parts_).run();
  counters_.recovery_ns = parts_.reactor.now_ns() - started;
  tick_.start();
  completions_.add(op, status);
}

void StoreImpl::put(PutOp& op) { Put::start(parts_, index_room_, op); }

Status StoreImpl::begin(Upload& upload, uint64_t total_bytes, bool if_absent, bool range_write) {
  if (upload.key.key.empty() || upload.key.key.size() > kKeyBytesMax || total_bytes == 0) return Status::kInvalid;
  if (total_bytes > block_bytes_max()) return Status::kTooLarge;
  if (tick_.closing()) return Status::kCanceled;
  if (if_absent && exists(upload.key)) return Status::kExists;
  const bool has_room = index_room_.has_room(upload.key.namespace_id, chunk_count(total_bytes) + 1);
  if (blocks_.waits_for_drive(upload.key.digest) || !has_room) return Status::kBusy;
  uploads_.open(upload, total_bytes, if_absent, range_write);
  return Status::kOk;
}

void StoreImpl::put_chunk(ChunkOp& op) { Chunk::start(parts_, range_writer_, op); }

void StoreImpl::commit(CommitOp& op) { Commit::start(parts_, range_writer_, op); }

void StoreImpl::write(WriteOp& op) { Write::start(parts_, index_room_, range_writer_, op); }

Lookup StoreImpl::lookup(const BlockKey& key, uint64_t offset, uint32_t length, Generation if_generation) {
  return look_up(parts_, key, offset, length, if_generation);
}

void StoreImpl::read(ReadOp& op) { Read::start(parts_, op, /*over_holes=*/false); }

void StoreImpl::prefetch(PrefetchOp& op) { Prefetch::start(parts_, op); }

void StoreImpl::release(ReadOp& op) { release_read(parts_, op); }

void StoreImpl::remove(RemoveOp& op) {
  ++counters_.removes;
  Remove::start(parts_, op, 0);
}

void StoreImpl::flush_namespace(FlushOp& op) { Flush::start(parts_, range_writer_, op); }

void StoreImpl::read_key(KeyOp& op) { ReadKey::start(parts_, op); }

Reservation StoreImpl::reserve(uint32_t bytes, size_t key_bytes) {
  if (!options_.memory_mode || tick_.closing()) return {};
  const Reservation reservation = reservations_.reserve(bytes, key_bytes);
  if (reservation.data == nullptr) reclaimer_.start();
  return reservation;
}

void StoreImpl::take_drives_out(uint64_t drives) {
  drives_.take_out(drives);
  reclaimer_.start();
}

const StoreCounters& StoreImpl::counters() const {
  snapshot_ = counters_;
  snapshot_.bytes_usable = snapshot_.logs_refusing = 0;
  for (const auto& log : drives_.logs()) {
    snapshot_.bytes_usable += log && !log->out() ? log->segments().usable_bytes() : 0;
    snapshot_.logs_refusing += log && log->refusal() != Status::kOk ? 1 : 0;
  }
  snapshot_.tier_bytes = tier_.bytes_used();
  snapshot_.tier_bytes_max = tier_.memory().size();
  snapshot_.index_entries = blocks_.entries();
  snapshot_.index_entries_max = blocks_.entries_max();
  return snapshot_;
}

}  // namespace memkv::engine
