#include "request_outcome.h"

#include <algorithm>
#include <new>

#include "log.h"

namespace memkv::nixl {
namespace {

/// One of each kind, so that misses do not hide a server that is down.
base::LogLimiter failures_logged[kFailures] = {base::LogLimiter{1}, base::LogLimiter{1}, base::LogLimiter{1},
                                               base::LogLimiter{1}, base::LogLimiter{1}};
base::LogLimiter cuda_errors_logged{1};

/// The status of a wire operation that did not do what was asked. What a server did not say is never a miss.
abi::Status status_of(const Outcome& outcome) {
  if (outcome.unreachable) return abi::Status::kBackend;
  switch (outcome.status) {
    case memkv::Status::kOk:  // short
    case memkv::Status::kMiss:
    case memkv::Status::kChanged:
    case memkv::Status::kCorrupt:
      return abi::Status::kNotFound;
    case memkv::Status::kInvalid:
    case memkv::Status::kTooLarge:
      return abi::Status::kInvalidParam;
    case memkv::Status::kCanceled:
      return abi::Status::kCanceled;
    default:
      return abi::Status::kBackend;
  }
}

Failure failure_of(const Outcome& outcome) {
  if (outcome.unreachable) return Failure::kUnreachable;
  if (status_of(outcome) == abi::Status::kNotFound) return Failure::kMiss;
  switch (outcome.status) {
    case memkv::Status::kUnavailable:
      return Failure::kUnreachable;
    case memkv::Status::kDeadline:
    case memkv::Status::kUnknown:
      return Failure::kTimeout;
    case memkv::Status::kRefused:
    case memkv::Status::kBusy:
    case memkv::Status::kNotReady:
    case memkv::Status::kNoSpace:
    case memkv::Status::kUnauthorized:
    case memkv::Status::kVersion:
      return Failure::kRefused;
    default:
      return Failure::kError;
  }
}

Counter& counter_of(Failure failure, Counters& counters) {
  Counter* const by_failure[kFailures] = {&counters.misses, &counters.unreachable, &counters.timeouts,
                                          &counters.refusals, &counters.errors};
  return *by_failure[static_cast<size_t>(failure)];
}

/// Of several failures the one that tells most of what to do: a transfer that is not found is one whose missing parts
/// are known to be missing, all of them.
int severity(abi::Status status) {
  switch (status) {
    case abi::Status::kSuccess:
      return 0;
    case abi::Status::kNotFound:
      return 1;
    case abi::Status::kCanceled:
      return 2;
    case abi::Status::kBackend:
      return 3;
    default:
      return 4;
  }
}

std::string text_of(const Key& key) {
  constexpr size_t kShown = 120;
  return key.text.size() <= kShown ? key.text : key.text.substr(0, kShown) + "...";
}

}  // namespace

void RequestOutcome::begin() {
  canceled_ = false;
  told_ = 0;
  worst_ = abi::Status::kSuccess;
  std::fill(put_ends_.begin(), put_ends_.end(), PutEnd::kFailed);
}

RequestOutcome::Next RequestOutcome::judge(uint32_t op, const Outcome& outcome) {
  if (plan_.is_read()) return judge_read(op, outcome);
  judge_write(op, outcome);
  return Next::kNothing;
}

RequestOutcome::Next RequestOutcome::judge_read(uint32_t op, const Outcome& outcome) {
  const WireOp& wire_op = plan_.wire_op(op);
  counters_.read_wire_ops.add();
  if (!outcome.hit() || outcome.bytes != wire_op.length) {
    fail(op, outcome);
    return status_of(outcome) == abi::Status::kNotFound ? Next::kApart : Next::kNothing;
  }
  counters_.read_wire_bytes.add(wire_op.length);
  counters_.read_bytes.add(wire_op.length);
  if (wire_op.again != Again::kNo) counters_.refetched_bytes.add(wire_op.length);
  return wire_op.copy_count > 0 && !canceled_ ? Next::kCopies : Next::kNothing;
}

void RequestOutcome::judge_write(uint32_t op, const Outcome& outcome) {
  const WireOp& wire_op = plan_.wire_op(op);
  const bool range = plan_.target(op).form == Target::Form::kRange;
  counters_.write_wire_ops.add();
  if (range) counters_.range_writes.add(), counters_.range_write_bytes.add(wire_op.length);
  if (outcome.status == memkv::Status::kExists) {
    range ? counters_.already_present.add() : note_present(op);
    return;
  }
  if (!outcome.hit()) return fail(op, outcome);
  if (!range) note_put(wire_op.key, PutEnd::kStored);
  counters_.write_wire_bytes.add(wire_op.length);
  counters_.write_bytes.add(wire_op.length);
}

/// A miss has been told of with its cluster.
void RequestOutcome::judge_apart(uint32_t descriptor, const Outcome& outcome) {
  const uint64_t length = plan_.descriptor(descriptor).length;
  counters_.read_wire_ops.add();
  if (!outcome.hit() || outcome.bytes != length) return note(status_of(outcome));
  counters_.read_wire_bytes.add(length);
  counters_.read_bytes.add(length);
}

void RequestOutcome::note_present(uint32_t op) {
  counters_.already_present.add();
  note_put(plan_.wire_op(op).key, PutEnd::kPresent);
}

void RequestOutcome::note_put(uint32_t key, PutEnd end) {
  if (const auto mixed = plan_.mixed_index(key)) put_ends_[*mixed] = std::max(put_ends_[*mixed], end);
}

void RequestOutcome::note_copied(std::span<const Copy> copies) {
  for (const Copy& one : copies) {
    counters_.copies.add();
    counters_.copied_bytes.add(one.length);
    counters_.read_bytes.add(one.length);
  }
}

void RequestOutcome::note_failed_copy(const char* cuda_error) {
  worst_ = abi::Status::kBackend;
  log_line_sometimes(cuda_errors_logged, "a copy to or from VRAM failed: CUDA says {}", cuda_error);
}

void RequestOutcome::note(abi::Status status) {
  if (severity(status) > severity(worst_)) worst_ = status;
}

void RequestOutcome::fail(uint32_t op, const Outcome& outcome) {
  note(status_of(outcome));
  if (outcome.status == memkv::Status::kCanceled) return;
  const Failure failure = failure_of(outcome);
  counter_of(failure, counters_).add();
  const auto bit = static_cast<uint8_t>(1u << static_cast<unsigned>(failure));
  const bool first = (told_ & bit) == 0;
  told_ |= bit;
  if (first && !canceled_) tell(failure, op, outcome);
}

/// One line a request and kind of failure, if the limit lets it through; none where there is no memory for it.
void RequestOutcome::tell(Failure failure, uint32_t op, const Outcome& outcome) const try {
  const WireOp& wire_op = plan_.wire_op(op);
  std::string why(outcome.hit() ? "short" : to_string(outcome.status));
  if (failure == Failure::kUnreachable) why = "its server is down, or does not answer";
  if (outcome.status == memkv::Status::kRefused) why += "; nothing was written";
  if (outcome.status == memkv::Status::kUnknown) why += "; it may be written, or not";
  if (outcome.hit()) why += " (" + std::to_string(outcome.bytes) + " bytes of it are there)";
  log_line_sometimes(failures_logged[static_cast<size_t>(failure)], "{} of '{}', bytes {} to {}: {}",
                     plan_.is_read() ? "read" : "write", text_of(*plan_.target(op).key), wire_op.offset,
                     wire_op.offset + wire_op.length, why);
} catch (const std::bad_alloc&) {
  return;
}

abi::Status RequestOutcome::end() {
  const abi::Status status = canceled_ ? abi::Status::kCanceled : worst_;
  if (canceled_)
    counters_.canceled_requests.add();
  else if (status != abi::Status::kSuccess)
    counters_.failed_requests.add();
  return status;
}

}  // namespace memkv::nixl
