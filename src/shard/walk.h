#pragma once
/// Requests that look at much memory: they go in steps, one a turn of the worker's loop, so that ops go on in between.

#include "base/intrusive_list.h"

namespace memkv::shard {

/// Thread: worker.
struct Walk {
  void (*step)(Walk& walk) = nullptr;  ///< of Worker::walk_on(); asks for the next one by that
  base::ListLink<Walk> link;
};

}  // namespace memkv::shard
