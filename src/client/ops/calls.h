#pragma once
/// Calls under way: their ops begin in turn or one after the other, end by their deadlines, and are counted.

#include <deque>
#include <vector>

#include "client/ops/call.h"
#include "client/ops/runner.h"
#include "client/placement.h"

namespace memkv::client {

/// Every call submitted completes exactly once, by the deadlines of its ops. Thread: the context's.
class Calls final : public OpOwner {
 public:
  Calls(Machine& machine, const Placement& placement);
  ~Calls() override;
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;
  /// In the order of the list, before the first submit.
  void add(Remote& server) { servers_.emplace_back(&server); }
  UnitOwner& units() { return runner_; }

  /// Takes the records that a submit of the batch needs: it is then not stopped halfway for lack of memory.
  void reserve(Call& call, const Batch::Impl& batch);
  void submit(Call& call);
  void feed(Call& call, uint32_t op, uint64_t bytes);
  void cancel(Call& call);  ///< soon complete: kCanceled, or kUnknown for a change that may have left
  size_t size() const { return calls_.size(); }
  Call* front() const { return calls_.front(); }
  /// After the last call.
  void shut_down();

  void on_complete(Op& op) override;
  void on_routed() override { pump(); }
  void on_room(Remote& server) override;

 private:
  using LaneList = base::IntrusiveList<Lane, &Lane::link>;
  /// Ops that take turns at a server with those of other calls.
  struct Turns {
    Remote* server;
    LaneList lanes;
    bool starting = false;
  };

  void start_op(Call& call, uint32_t index);
  bool fill_in(Op& op, Call& call, uint32_t index);
  void start_next(Call& call, uint32_t index, Status status);
  void start_chained(Call& call);
  void end_unstarted(Call& call, uint32_t index, Status status);
  void op_done(Call& call);
  void pump();

  // Long lists (turns.cc).
  void allow_for_bytes(Call& call);
  void start_in_turn(Call& call);
  void take_turns(Turns& turns);
  bool start_some(Lane& lane);
  void end_waiting(Call& call, Status status, uint64_t due_until_ns);
  void end_lane(Call& call, size_t server, Status status, uint64_t due_until_ns);

  // Deadlines.
  uint64_t deadline_of(const Call& call, Kind kind) const;
  uint64_t next_expiry_ns(const Call& call, uint64_t now_ns) const;
  uint64_t find_expired(uint64_t now_ns);
  void on_deadline();

  Machine& machine_;
  const Placement& placement_;
  Alarm deadlines_;
  Runner runner_;
  std::deque<Turns> servers_;  ///< by their place in the list
  base::IntrusiveList<Call, &Call::link> calls_;
  uint64_t weight_ = 0;  ///< of all calls
  std::vector<Op*> expired_;
  std::vector<Call*> expired_calls_;
};

}  // namespace memkv::client
