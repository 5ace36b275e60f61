#include "engine/uploads.h"

#include "base/assert.h"
#include "engine/blocks.h"

namespace memkv::engine {

OpenUpload& Uploads::open(Upload& upload, uint64_t total_bytes, bool if_absent, bool range_write) {
  MEMKV_ASSERT(total_bytes > 0 && !upload.key.key.empty());
  auto u = std::make_unique<OpenUpload>();
  u->id = next_id_++;
  u->key = upload.key;
  u->key_bytes.assign(upload.key.key);
  u->key.key = u->key_bytes;
  u->total = total_bytes;
  u->if_absent = if_absent;
  u->range_write = range_write;
  upload.key.key = u->key_bytes;
  upload.id = u->id;
  OpenUpload& opened = *u;
  uploads_[opened.id] = std::move(u);
  return opened;
}

OpenUpload* Uploads::find(uint64_t id) {
  const auto it = uploads_.find(id);
  return it == uploads_.end() || it->second->closing ? nullptr : it->second.get();
}

void Uploads::close(OpenUpload& upload) {
  upload.closing = true;
  if (upload.in_flight == 0) uploads_.erase(upload.id);
}

void Uploads::abort(Upload& upload) {
  OpenUpload* u = find(upload.id);
  upload.id = 0;
  if (u != nullptr) close(*u);  // its records are dead: nothing names their sequences
}

void Uploads::lose_chunks_in(const Log& log, uint64_t epoch) {
  for (auto& [id, u] : uploads_) {
    for (const auto& [n, ref] : u->chunks) u->failed |= lies_in(ref.place, log, epoch);
  }
  for (MergeChunks* merging : merging_) {
    for (const auto& [n, ref] : merging->chunks) merging->lost |= lies_in(ref.place, log, epoch);
  }
}

}  // namespace memkv::engine
