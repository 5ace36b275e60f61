#pragma once
/// What one link has posted to its send queue, in order: the queue completes in that order.

#include <array>

#include "base/assert.h"
#include "transport/frames.h"
#include "transport/rdma/queue_pair.h"

namespace memkv::transport::rdma {

/// What a work request is for. Each use has its part of the queue, whatever the others do.
enum class Use : uint8_t { kWrite, kRead, kSend };
inline constexpr std::array<uint32_t, 3> kRequestsOfUse = {kWriteRequestsMax, kReadRequestsMax, 2 * kSends};
using RequestCounts = std::array<uint32_t, kRequestsOfUse.size()>;

/// Up to one signaled work request: all before it are done when it is.
struct Posted {
  enum class Kind : uint8_t { kMessage, kCredit, kRead } kind = Kind::kMessage;
  RequestCounts requests{};
  uint32_t bytes = 0;  ///< kRead: of the payload; kMessage: written in front of it
  FrameQueue frames;   ///< kMessage: that end with it
};

/// Keeps count of the room in the queue; a batch goes out with one doorbell. Thread: the link's.
class WorkQueue {
 public:
  explicit WorkQueue(QueuePair& pair) : pair_(pair) {}
  QueuePair& pair() { return pair_; }

  bool has_room(Use use, uint32_t requests) const {
    return requests_[index_of(use)] + requests <= kRequestsOfUse[index_of(use)];
  }
  /// Until ring(), all of them; each needs room.
  void write(std::span<const LocalPiece> from, uint64_t to, uint32_t remote_key) {
    add_request(Use::kWrite);
    pair_.write(from, to, remote_key);
  }
  void read(const LocalPiece& into, uint64_t from, uint32_t remote_key) {
    add_request(Use::kRead);
    pair_.read(into, from, remote_key, false);
  }
  /// The last one of a part.
  void read_signaled(const LocalPiece& into, uint64_t from, uint32_t remote_key, uint32_t part_bytes) {
    add_request(Use::kRead);
    pair_.read(into, from, remote_key, true);
    push(Posted::Kind::kRead).bytes = part_bytes;
  }
  Posted& send(uint32_t buffer, uint32_t bytes, uint32_t imm) {
    add_request(Use::kSend);
    pair_.send(buffer, bytes, imm);
    return push(bytes > 0 ? Posted::Kind::kMessage : Posted::Kind::kCredit);
  }
  /// The doorbell. False: the queue pair takes nothing any more.
  [[nodiscard]] bool ring() {
    if (!in_batch_) return true;
    in_batch_ = false;
    return pair_.end();
  }

  bool empty() const { return count_ == 0; }
  /// What a completion was for, or at the end what none will come for.
  Posted pop() {
    MEMKV_ASSERT(count_ > 0, "a completion of nothing");
    const Posted done = posted_[first_];
    first_ = (first_ + 1) % posted_.size();
    count_--;
    for (size_t i = 0; i < requests_.size(); i++) requests_[i] -= done.requests[i];
    return done;
  }

 private:
  static constexpr size_t index_of(Use use) { return static_cast<size_t>(use); }
  void add_request(Use use) {
    MEMKV_ASSERT(has_room(use, 1), "the caller looks first");
    if (!in_batch_) pair_.begin();
    in_batch_ = true;
    requests_[index_of(use)]++;
    since_signal_[index_of(use)]++;
  }
  Posted& push(Posted::Kind kind) {
    Posted& posted = posted_[(first_ + count_++) % posted_.size()];
    posted = {.kind = kind, .requests = since_signal_};
    since_signal_ = {};
    return posted;
  }

  QueuePair& pair_;
  bool in_batch_ = false;
  RequestCounts requests_{};      // in the queue
  RequestCounts since_signal_{};  // posted after the last signaled one
  size_t first_ = 0, count_ = 0;
  std::array<Posted, kReadRequestsMax + 2 * kSends> posted_{};
};

}  // namespace memkv::transport::rdma
