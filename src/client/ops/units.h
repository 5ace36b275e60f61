#pragma once
/// The units of ops: their records, and the queue of those that wait to be tried again.

#include "client/machine.h"
#include "client/ops/op.h"
#include "client/pool.h"

namespace memkv::client {

/// Thread: the context's.
class Units {
 public:
  /// `on_due` runs when units are due: see take_due().
  Units(Machine& machine, io::Timer::Fn on_due, void* context) : machine_(machine), alarm_(machine, on_due, context) {}
  void reserve(size_t units) { pool_.reserve(units); }
  Counters& counters() { return machine_.counters(); }

  Unit& make(Op& op, wire::OpKind kind, uint64_t offset, uint64_t length, PiecePlace place);
  /// Cuts `op` at the boundaries of chunks, one unit for each part; an op without bytes gets one.
  void make_chunks(Op& op, wire::OpKind kind);
  /// From whatever list or frame it is in.
  void drop(Unit& unit);
  void drop_all(Op& op);

  /// Not now: the unit waits for a moment, longer each time.
  void retry_later(Unit& unit);
  /// Units whose time has come, or nearly.
  void take_due(UnitQueue& due);
  /// Drops what waits.
  void shut_down();

 private:
  Machine& machine_;
  Pool<Unit> pool_;
  UnitQueue waiting_;
  Alarm alarm_;
};

/// Routes units that are in no queue yet and whose bytes are there. Any of them may end the op. Not kOk: the server
/// does not take the op any more, and this is why.
Status route_ready(Op& op);

}  // namespace memkv::client
