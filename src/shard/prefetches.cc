#include "shard/prefetches.h"

#include <algorithm>

#include "base/assert.h"
#include "base/sizes.h"
#include "shard/connection.h"
#include "shard/worker.h"

namespace memkv::shard {

bool Prefetches::add(const Op& op, uint64_t block_bytes) {
  Holder& holder = op.connection->holder();
  Worker& worker = op.connection->worker();
  Tenants& tenants = worker.tenants();
  const bool fits = !tenants.anyone_waits() && tenants.fits(holder, kPooledPrefetches);
  Prefetch* prefetch = fits ? worker.pools().prefetches.take() : nullptr;
  if (prefetch == nullptr) return false;
  tenants.take(holder, kPooledPrefetches);
  op.connection->hold();
  prefetch->state() = {.connection = op.connection,
                       .shard = op.shard,
                       .deadline_ns = op.request.deadline_ns,
                       .left_bytes = block_bytes,
                       .digest = op.request.key.digest};
  queue(*prefetch);
  pump();
  return true;
}

void Prefetches::queue(Prefetch& prefetch) {
  Tenant& tenant = *prefetch.connection->holder().tenant;
  if (tenant.prefetches.empty()) turns_.push_back(tenant);
  tenant.prefetches.push_back(prefetch);
}

/// One tenant after the other gets a chunk of its oldest prefetch read, while few reads are with the drives.
void Prefetches::pump() {
  for (uint32_t turn = 0; turn < kTurnsMax && may_read() && !turns_.empty(); turn++) {
    Tenant& tenant = *turns_.pop_front();
    Prefetch& prefetch = *tenant.prefetches.pop_front();
    if (!tenant.prefetches.empty()) turns_.push_back(tenant);
    unwanted(prefetch) ? end(prefetch) : read(prefetch);
  }
}

bool Prefetches::unwanted(const Prefetch& prefetch) {
  Worker& worker = prefetch.connection->worker();
  return prefetch.connection->closing() || worker.tenants().anyone_waits() || worker.now_ns() >= prefetch.deadline_ns;
}

void Prefetches::read(Prefetch& prefetch) {
  MEMKV_ASSERT(prefetch.left_bytes > 0);
  reads_++;
  read_bytes_ += std::min(prefetch.left_bytes, base::kChunkBytes);
  engine::PrefetchOp& op = prefetch.op;
  op.on_done = [](engine::StoreOp& done) {
    auto& of = *static_cast<Prefetch*>(done.context);
    of.connection->worker().tenants().prefetches().on_read(of);
  };
  op.context = &prefetch;
  op.digest = prefetch.digest;
  op.chunk = prefetch.next_chunk++;
  prefetch.shard->store->prefetch(op);
}

/// What cannot be read now is not tried again, nor is what follows it.
void Prefetches::on_read(Prefetch& prefetch) {
  const uint64_t bytes = std::min(prefetch.left_bytes, base::kChunkBytes);
  MEMKV_ASSERT(reads_ > 0 && read_bytes_ >= bytes);
  reads_--;
  read_bytes_ -= bytes;
  prefetch.left_bytes -= bytes;
  if (prefetch.left_bytes > 0 && prefetch.op.status == Status::kOk)
    queue(prefetch);
  else
    end(prefetch);
  pump();
}

void Prefetches::drop_unwanted() {
  for (Tenant& tenant : turns_) {
    for (Prefetch& prefetch : tenant.prefetches) {
      if (!unwanted(prefetch)) continue;
      tenant.prefetches.remove(prefetch);
      end(prefetch);
    }
    if (tenant.prefetches.empty()) turns_.remove(tenant);
  }
  pump();
}

void Prefetches::end(Prefetch& prefetch) {
  Connection& connection = *prefetch.connection;
  Worker& worker = connection.worker();
  worker.tenants().give(connection.holder(), kPooledPrefetches);
  worker.pools().prefetches.give_back(prefetch);
  connection.unhold();
}

}  // namespace memkv::shard
