#pragma once
/// A batch of a request on a client session, from its submission until all its outcomes are here.

#include <vector>

#include "memkv/client.h"

namespace memkv::nixl {

/// Each op of the batch stands for something of its user's: a wire operation, or a descriptor.
/// Thread: the driver's lock, as the session.
class SubmittedBatch {
 public:
  void reserve(size_t ops) { meanings_.reserve(ops); }

  /// What the ops of the next batch stand for, one after the other. Before submit().
  void clear() { meanings_.clear(); }
  void push_back(uint32_t meaning) { meanings_.push_back(meaning); }
  void assign(std::span<const uint32_t> meanings) { meanings_.assign(meanings.begin(), meanings.end()); }
  size_t size() const { return meanings_.size(); }

  void submit(Session& session, Batch& batch, Deadline deadline) {
    ticket_ = session.submit(batch, deadline);
    judged_ = 0;
    on_wire_ = true;
  }
  bool on_wire() const { return on_wire_; }
  void cancel(Session& session) {
    if (on_wire_) session.cancel(ticket_);
  }

  /// Calls `take(meaning, outcome)` for each op that has become complete since the last call. `take` submits nothing.
  template <typename Take>
  void take_completed(Session& session, Take&& take) {
    const auto completed = session.completed(ticket_);
    for (; judged_ < completed.size(); judged_++)
      take(meanings_[completed[judged_]], session.outcome(ticket_, completed[judged_]));
  }
  /// When session.done(): takes it off the wire.
  void collect(Session& session) {
    session.collect(ticket_, outcomes_);
    on_wire_ = false;
  }
  bool done(Session& session) const { return session.done(ticket_); }
  /// By op, once collected.
  std::span<const Outcome> outcomes() const { return outcomes_; }

 private:
  std::vector<uint32_t> meanings_;
  Session::Ticket ticket_ = 0;
  bool on_wire_ = false;
  size_t judged_ = 0;  // of the ops that are complete
  std::vector<Outcome> outcomes_;
};

}  // namespace memkv::nixl
