#include "shard/connection_uploads.h"

#include "shard/connection.h"
#include "shard/worker.h"

namespace memkv::shard {

Status ConnectionUploads::find(Op& op) {
  Worker& worker = connection_.worker();
  Upload* upload = worker.pools().uploads.find(op.request.generation);
  if (upload == nullptr || upload->connection != &connection_) return Status::kInvalid;
  if (upload->closed || upload->committing) return Status::kInvalid;
  op.upload = upload;
  op.shard = upload->shard;
  upload->ops++;
  upload->moved_ns = worker.now_ns();
  return Status::kOk;
}

bool ConnectionUploads::cancel(const wire::Cancel& canceled) {
  for (Upload& upload : uploads_) {
    if (upload.begin_request != canceled.request_id || upload.begin_index != canceled.op_index) continue;
    if (upload.ops == 0) abort_upload(upload);
    return true;
  }
  return false;
}

void ConnectionUploads::abort_all() {
  for (Upload& upload : uploads_) {
    if (!upload.committing) abort_upload(upload);
  }
}

/// Of ops that ended without an abort: it was lost, or refused. Or its client sends nothing more.
void ConnectionUploads::expire() {
  const uint64_t now = connection_.worker().now_ns();
  const uint64_t idle_ns = connection_.worker().options().upload_idle_ns;
  for (Upload& upload : uploads_) {
    if (upload.ops > 0) continue;
    if (now >= upload.deadline_ns || now >= upload.moved_ns + idle_ns) abort_upload(upload);
  }
}

}  // namespace memkv::shard
