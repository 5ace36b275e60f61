#pragma once
/// Ops that are done, and whose owners have not been told yet.

#include "engine/store.h"
#include "io/reactor.h"

namespace memkv::engine {

/// Tells the owners of ops that they are done: later, from the loop, in the order in which they were added. So no op
/// completes inside the call that starts it.
///
/// Owns the queue of such ops. Thread: worker.
class Completions {
 public:
  explicit Completions(io::Reactor& reactor);
  void add(StoreOp& op, Status status);

 private:
  static void on_post(io::IoOp& op, int32_t result);

  io::Reactor& reactor_;
  StoreOp* head_ = nullptr;
  StoreOp* tail_ = nullptr;
  io::IoOp post_;
  bool posted_ = false;
};

}  // namespace memkv::engine
