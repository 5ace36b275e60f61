/// What came back, and what it means for the request.

#include <algorithm>
#include <new>

#include "log.h"
#include "request.h"

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

/// `op`: a wire operation, or the descriptor that was read apart.
void Request::judge(uint32_t op, const Outcome& outcome) {
  if (phase_ == Phase::kApart) return judge_apart(op, outcome);
  const WireOp& wire_op = plan_.wire_ops[op];
  const Target& target = targets_[op];
  operation_ == abi::Operation::kRead ? judge_read(wire_op, target, outcome) : judge_write(wire_op, target, outcome);
}

void Request::judge_read(const WireOp& op, const Target& target, const Outcome& outcome) {
  counters_.read_wire_ops.add();
  if (!outcome.hit() || outcome.bytes != op.length) {
    if (status_of(outcome) == abi::Status::kNotFound) take_apart(op, target);
    return fail(target, op, outcome);
  }
  counters_.read_wire_bytes.add(op.length);
  counters_.read_bytes.add(op.length);
  if (op.again != Again::kNo) counters_.refetched_bytes.add(op.length);
  if (op.copy_count > 0 && !canceled_) start_copies(op);
}

void Request::judge_write(const WireOp& op, const Target& target, const Outcome& outcome) {
  counters_.write_wire_ops.add();
  if (target.form == Form::kRange) counters_.range_writes.add(), counters_.range_write_bytes.add(op.length);
  const bool present = outcome.status == memkv::Status::kExists;
  if (target.form != Form::kRange && (present || outcome.hit()))
    note_put(op.key, present ? PutEnd::kPresent : PutEnd::kStored);
  if (present) return counters_.already_present.add();
  if (!outcome.hit()) return fail(target, op, outcome);
  counters_.write_wire_bytes.add(op.length);
  counters_.write_bytes.add(op.length);
}

void Request::note_put(uint32_t key, PutEnd end) {
  if (PutEnd* known = put_end_of(key)) *known = std::max(*known, end);
}

void Request::note(abi::Status status) {
  if (severity(status) > severity(worst_)) worst_ = status;
}

void Request::fail(const Target& target, const WireOp& op, const Outcome& outcome) {
  note(status_of(outcome));
  if (outcome.status == memkv::Status::kCanceled) return;
  const Failure failure = failure_of(outcome);
  counter_of(failure, counters_).add();
  const auto bit = static_cast<uint8_t>(1u << static_cast<unsigned>(failure));
  const bool first = (told_ & bit) == 0;
  told_ |= bit;
  if (first && !canceled_) tell(failure, target, op, outcome);
}

/// One line a request and kind of failure, if the limit lets it through; none where there is no memory for it.
void Request::tell(Failure failure, const Target& target, const WireOp& op, const Outcome& outcome) try {
  const bool read = operation_ == abi::Operation::kRead;
  std::string why(outcome.hit() ? "short" : to_string(outcome.status));
  if (failure == Failure::kUnreachable) why = "its server is down, or does not answer";
  if (outcome.status == memkv::Status::kRefused) why += "; nothing was written";
  if (outcome.status == memkv::Status::kUnknown) why += "; it may be written, or not";
  if (outcome.hit()) why += " (" + std::to_string(outcome.bytes) + " bytes of it are there)";
  log_line_sometimes(failures_logged[static_cast<size_t>(failure)], "{} of '{}', bytes {} to {}: {}",
                     read ? "read" : "write", text_of(*target.key), op.offset, op.offset + op.length, why);
} catch (const std::bad_alloc&) {
  return;
}

void Request::fail_copy(const char* cuda_error) {
  worst_ = abi::Status::kBackend;
  log_line_sometimes(cuda_errors_logged, "a copy to or from VRAM failed: CUDA says {}", cuda_error);
}

// Reads that failed together.

/// One descriptor's missing byte fails the cluster that it travels in, but not the bytes of the others: each of them
/// goes once more, alone.
void Request::take_apart(const WireOp& op, const Target& target) try {
  const size_t first = apart_descriptors_.size();
  for (const LocalPiece& piece : plan_.pieces_of(op)) apart_descriptors_.push_back(piece.descriptor);
  for (const Copy& copy : plan_.copies_of(op)) apart_descriptors_.push_back(copy.descriptor);
  const auto begin = apart_descriptors_.begin() + static_cast<ptrdiff_t>(first);
  std::sort(begin, apart_descriptors_.end());
  apart_descriptors_.erase(std::unique(begin, apart_descriptors_.end()), apart_descriptors_.end());
  if (apart_descriptors_.size() == first + 1) apart_descriptors_.pop_back();  // it was alone
  for (size_t i = first; i < apart_descriptors_.size(); i++) read_apart(apart_descriptors_[i], target);
} catch (const std::bad_alloc&) {
  note(abi::Status::kBackend);  // those that were not taken are not known to be missing
}

void Request::read_apart(uint32_t descriptor, const Target& target) {
  const Descriptor& one = descriptors_[descriptor];
  if (one.place.kind == MemoryKind::kHost) {
    apart_.get(target.key->text, Scatter(reinterpret_cast<void*>(one.place.address), one.length), one.offset);
    apart_hosts_.push_back(descriptor);
    return;
  }
  apart_reads_.resize(descriptors_.size());
  auto& read = apart_reads_[descriptor];
  if (!read) read = std::make_unique<ApartRead>(descriptor, one, target, movers_);
  apart_staged_.push_back(&read->staged);
}

Request::ApartRead::ApartRead(uint32_t descriptor, const Descriptor& one, const Target& target, LocalMovers& movers)
    : op{.offset = one.offset, .length = one.length, .key = one.key},
      piece{one.place, one.length, descriptor},
      staged(descriptor, op, std::span(&piece, 1), target, movers) {}

/// A miss has been told of with its cluster.
void Request::judge_apart(uint32_t descriptor, const Outcome& outcome) {
  const uint64_t length = descriptors_[descriptor].length;
  counters_.read_wire_ops.add();
  if (!outcome.hit() || outcome.bytes != length) return note(status_of(outcome));
  counters_.read_wire_bytes.add(length);
  counters_.read_bytes.add(length);
}

}  // namespace memkv::nixl
