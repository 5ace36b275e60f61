#pragma once
/// A batch under way.

#include <vector>

#include "client/ops/op.h"

namespace memkv::client {

/// A batch of more ops takes turns with others.
inline constexpr size_t kOpsAtOnce = 16;

/// The ops of one call that wait for their turn at one server: they have no records yet. Calls take turns there, so
/// that a small one never stands behind a list of a million.
struct Lane {
  base::ListLink<Lane> link;  ///< in its server's; not linked: nothing waits
  Call* call = nullptr;
  std::vector<uint32_t> ops;  ///< places in the batch
  size_t next = 0;            ///< the first of them that has not started

  bool done() const { return next == ops.size(); }
  void clear() { ops.clear(), next = 0; }
};

/// Owned by who submits it, untouched until on_done.
struct Call {
  using Fn = void (*)(Call& call);
  Batch::Impl* batch = nullptr;
  std::vector<Outcome>* outcomes = nullptr;
  std::vector<uint32_t>* completed = nullptr;  ///< ops, as they become complete; null = nobody asks
  uint64_t timeout_ns = 0;                     ///< 0 = the default of each op's kind
  Fn on_done = nullptr;                        ///< may run inside submit()
  void* context = nullptr;
  // Private to Calls.
  base::ListLink<Call> link;
  base::IntrusiveList<Op, &Op::link> ops;
  size_t left = 0;
  std::vector<uint32_t> to_start;  ///< ops whose turn came while another was being started
  bool starting = false;
  uint64_t started_ns = 0;
  uint64_t weight = 0;        ///< what its bytes and ops count for default deadlines
  uint64_t allowance_ns = 0;  ///< what default deadlines get on top for the bytes that are under way
  std::vector<Lane> lanes;    ///< by server; empty unless the batch is a long list
  size_t waiting = 0;         ///< ops in lanes
  bool canceled = false;
};

}  // namespace memkv::client
