#include "engine/ops/change.h"

#include "engine/test_rules.h"

namespace memkv::engine {

Status Change::refusal() const {
  if (op_.fence != nullptr && *op_.fence > op_.epoch && rules().clients_in_order) return Status::kBusy;
  const bool late = op_.deadline_ns != ~uint64_t{0} && parts_.reactor.now_ns() >= op_.deadline_ns;
  return late ? Status::kDeadline : Status::kOk;
}

/// Rule 7: what is acknowledged now must hold although the drive that failed may come back. So it waits until the
/// others know durably that the drive is out.
void Change::finish(Status status) {
  // With the last drive went whatever should have been durable.
  if (!is_failure(status) && parts_.drives.all_out()) status = Status::kIo;
  if (parts_.drives.any_leaving()) {
    status_ = status;
    return parts_.drives.hold(*this);
  }
  if (holds_lock()) parts_.locks.unlock(*this);
  StoreOp& op = op_;
  Completions& completions = parts_.completions;
  parts_.pool.free(*this);
  completions.add(op, status);
}

}  // namespace memkv::engine
