#pragma once
/// What a post of a request has come to: judges what comes back from the wire and from copies.

#include <span>
#include <vector>

#include "counters.h"
#include "request_plan.h"

namespace memkv::nixl {

/// Why a wire operation did not do what was asked, as counters and lines tell it.
enum class Failure : uint8_t { kMiss, kUnreachable, kTimeout, kRefused, kError };
inline constexpr size_t kFailures = 5;

/// Counts, says a line where people want to know, and keeps the worst that happened. It moves nothing: judge() answers
/// what the result makes necessary. Thread: the driver's lock.
class RequestOutcome {
 public:
  /// What follows from the end of a wire operation.
  enum class Next : uint8_t {
    kNothing,
    kCopies,  ///< its source is there, all of it and verified: its copies may start
    kApart    ///< a read of several descriptors that failed: each of them is to go once more, alone
  };
  /// What the puts of a mixed key have come to; the best of several counts.
  enum class PutEnd : uint8_t { kFailed, kPresent, kStored };

  RequestOutcome(const RequestPlan& plan, Counters& counters) : plan_(plan), counters_(counters) {}

  /// Once, when all is planned.
  void prepare() { put_ends_.resize(plan_.mixed_key_count()); }
  /// At each post.
  void begin();
  void cancel() { canceled_ = true; }
  bool canceled() const { return canceled_; }

  Next judge(uint32_t op, const Outcome& outcome);
  /// Of a descriptor that was read once more, alone.
  void judge_apart(uint32_t descriptor, const Outcome& outcome);
  /// The object was there before: it stays as it is.
  void note_present(uint32_t op);
  void note_copied(std::span<const Copy> copies);
  void note_failed_copy(const char* cuda_error);
  void note(abi::Status status);
  /// Of a mixed key.
  PutEnd put_end(uint32_t key) const { return put_ends_[*plan_.mixed_index(key)]; }

  /// The last word on this post. Once, when nothing of it is under way.
  abi::Status end();

 private:
  Next judge_read(uint32_t op, const Outcome& outcome);
  void judge_write(uint32_t op, const Outcome& outcome);
  void note_put(uint32_t key, PutEnd end);
  void fail(uint32_t op, const Outcome& outcome);
  void tell(Failure failure, uint32_t op, const Outcome& outcome) const;

  const RequestPlan& plan_;
  Counters& counters_;
  std::vector<PutEnd> put_ends_;  // by mixed key
  bool canceled_ = false;
  uint8_t told_ = 0;  // a bit for each failure that a line was tried for
  abi::Status worst_ = abi::Status::kSuccess;
};

}  // namespace memkv::nixl
