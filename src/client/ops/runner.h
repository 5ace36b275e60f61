#pragma once
/// Runs ops from start to end: hands replies to their state machines, tries again, gives up, and waits for memory.

#include "client/ops/steps.h"
#include "client/remote/unit_owner.h"

namespace memkv::client {

/// Who wants to know of an op's end. Thread: the context's.
class OpOwner {
 public:
  virtual ~OpOwner() = default;
  /// Nothing of the op is under way, and no frame holds its memory. The owner gives its record back.
  virtual void on_complete(Op& op) = 0;
  /// Units were routed by nobody's call: they are to be sent.
  virtual void on_routed() = 0;
  virtual void on_room(Remote& server) = 0;
};

/// Thread: the context's.
class Runner final : public UnitOwner {
 public:
  /// `deadlines` is set to the time when an op that drains is looked at again.
  Runner(Machine& machine, OpOwner& owner, Alarm& deadlines);
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  void reserve(size_t ops, size_t units);
  Op& take() { return ops_.take(); }
  void give_back(Op& op);
  /// With all that its caller wants filled in. It may end inside.
  void start(Op& op);
  /// Ends an op that was not begun.
  void end_at_once(Op& op, Status status);
  /// The first `bytes` of its pieces may be read now. False: it is past caring.
  bool feed(Op& op, uint64_t bytes);
  /// Ends the op now, whatever is under way: its memory is quiet when it completes.
  void give_up(Op& op, Status status);
  /// Its time to drain is over: the connections that hold its memory are closed.
  void end_drain(Op& op);
  void shut_down() { units_.shut_down(); }

  void on_reply(Unit& unit, const wire::OpReply& reply, Path from) override;
  void on_mismatch(Unit& unit) override;
  void on_lost(Unit& unit, bool sent) override;
  void on_refused(Unit& unit, Status why) override { refuse(op_of(unit), why); }
  void on_delayed(Unit& unit) override { units_.retry_later(unit); }
  void on_moved(Unit& unit) override { route(unit); }
  void on_released(Request& op) override;
  void on_room(Remote& server) override { owner_.on_room(server); }

 private:
  Next begin(Op& op);
  Next step(Unit& unit, const wire::OpReply& reply, Path from);
  void follow(Op& op, Next next);
  bool try_again(Unit& unit, const wire::OpReply& reply);
  void route(Unit& unit);
  void refuse(Op& op, Status why);
  void end(Op& op, Status status);
  bool fence_off(const Op& op);
  void drain(Op& op);
  void on_due();

  Machine& machine_;
  OpOwner& owner_;
  Alarm& deadlines_;
  Pool<Op> ops_;
  Units units_;
};

}  // namespace memkv::client
