/// begin, chunk, commit, abort: a block of several chunks, or a range write over several.

#include "base/assert.h"
#include "base/checksum.h"
#include "shard/connection.h"
#include "shard/op.h"
#include "shard/worker.h"

namespace memkv::shard {
namespace {

void on_done(engine::StoreOp& store_op) {
  Op& op = *static_cast<Op*>(store_op.context);
  op.reply.generation = store_op.generation;
  finish(op, store_op.status);
}

/// The store has closed it, however it ended; or it had no room for the op, and the client asks again.
void on_committed(engine::StoreOp& store_op) {
  Op& op = *static_cast<Op*>(store_op.context);
  Upload& upload = *op.upload;
  upload.committing = false;
  if (upload.engine.id == 0) {
    close_upload(upload);
    if (store_op.status == Status::kBusy) store_op.status = Status::kIo;  // not to be asked again: there is no upload
  } else if (op.connection->closing()) {
    abort_upload(upload);
  }
  on_done(store_op);
}

void write_out(Op& op) {
  Upload& upload = *op.upload;
  if (upload.closed) return finish(op, Status::kCanceled);  // aborted while this was verified
  if (op.request.flags & wire::kOpServerChecksum) {
    if (op.request.offset == 0) {
      // A range inside a chunk may have 33 pieces; one from its start has at most 32.
      op.sums[wire::kSumsMax - 1] = base::chunk_checksum(op.sums.data(), op.sum_count, op.request.length, op.seed);
      op.reply.sums = &op.sums[wire::kSumsMax - 1];
      op.reply.sum_count = 1;
      op.reply.flags = wire::kReplyWholeChunk;
    } else {
      op.reply.sums = op.sums.data();
      op.reply.sum_count = op.sum_count;
    }
  }
  auto& chunk = op.store_op.emplace<engine::ChunkOp>();
  bind(chunk, op, on_done);
  chunk.upload = &upload.engine;
  chunk.chunk_number = op.request.chunk_number;
  chunk.offset_in_chunk = static_cast<uint32_t>(op.request.offset);
  chunk.payload = op.payload();
  op.shard->store->put_chunk(chunk);
}

}  // namespace

/// Opens an upload for a block of several chunks and answers with its id. A client may have a bounded number of them
/// open, and its share of the pool: beyond that it is told to try again.
void start_begin(Op& op) {
  Worker& worker = worker_of(op);
  Connection& connection = *op.connection;
  const bool fits = !connection.uploads().full() && worker.tenants().fits(connection.holder(), kPooledUploads);
  Upload* upload = fits ? worker.pools().uploads.take() : nullptr;
  if (upload == nullptr) return finish(op, Status::kBusy);
  worker.tenants().take(connection.holder(), kPooledUploads);
  upload->state() = {.connection = &connection, .shard = op.shard};
  const size_t key_bytes = op.request.key.key.copy(upload->key_bytes.data(), kKeyBytesMax);
  upload->key = {upload->key_bytes.data(), key_bytes};
  upload->engine.key = op.request.key;
  upload->engine.key.key = upload->key;
  const bool range_write = (op.request.flags & wire::kOpRangeWrite) != 0;
  const Status status = op.shard->store->begin(upload->engine, op.request.offset,
                                               (op.request.flags & wire::kOpIfAbsent) != 0, range_write);
  if (status != Status::kOk) {
    worker.tenants().give(connection.holder(), kPooledUploads);
    worker.pools().uploads.give_back(*upload);
    engine::BlockStat present;
    if (status == Status::kExists && op.shard->store->stat(op.request.key, present)) {
      op.reply.generation = present.generation;
      op.reply.block_bytes = present.block_bytes;
    }
    return finish(op, status);
  }
  upload->begin_request = op.frame->id;
  upload->begin_index = op.request.index;
  upload->deadline_ns = worker.now_ns() + op.request.left_ns;
  upload->moved_ns = worker.now_ns();
  upload->range_write = range_write;
  upload->id = worker.pools().uploads.new_id(*upload);
  connection.uploads().add(*upload);
  op.reply.generation = upload->id;
  finish(op, Status::kOk);
}

void start_chunk(Op& op) {
  if (op.upload->closed) return finish(op, Status::kInvalid);
  verify_payload(op, write_out);
}

void start_commit(Op& op) {
  Upload& upload = *op.upload;
  if (upload.closed || upload.ops > 1) return finish(op, Status::kInvalid);  // chunks without their replies
  upload.committing = true;
  auto& commit = op.store_op.emplace<engine::CommitOp>();
  bind(commit, op, on_committed);
  commit.upload = &upload.engine;
  op.shard->store->commit(commit);
}

void start_abort(Op& op) {
  Upload& upload = *op.upload;
  if (upload.closed) return finish(op, Status::kInvalid);
  abort_upload(upload);
  finish(op, Status::kOk);
}

void abort_upload(Upload& upload) {
  upload.shard->store->abort(upload.engine);
  close_upload(upload);
}

void close_upload(Upload& upload) {
  if (!upload.closed) {
    upload.closed = true;
    upload.connection->uploads().remove(upload);
  }
  release_upload(upload);
}

void release_upload(Upload& upload) {
  if (!upload.closed || upload.ops > 0) return;
  Worker& worker = upload.connection->worker();
  worker.tenants().give(upload.connection->holder(), kPooledUploads);
  upload.state() = {};
  worker.pools().uploads.give_back(upload);
}

}  // namespace memkv::shard
