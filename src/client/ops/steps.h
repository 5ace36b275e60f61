#pragma once
/// The state machine of each kind of op: what it sends first, and what it does with a reply. One file a kind.

#include "client/ops/op.h"
#include "client/ops/units.h"

namespace memkv::client {

/// What is to be done with an op after one of its steps.
struct Next {
  enum class What : uint8_t {
    kWait,    ///< its units are on their way
    kSend,    ///< the same, and nobody else sends them off
    kEnd,     ///< the op ends with `status`
    kGiveUp,  ///< the same, and whatever is still under way of it is given up
    kRefuse,  ///< its server does not take it, and `status` says why
  };
  What what = What::kWait;
  Status status = Status::kOk;

  static Next wait_unless(Status refusal) { return refusal == Status::kOk ? Next{} : Next{What::kRefuse, refusal}; }
};

// A step hands its unit back to the pool, unless it says kWait with the unit on its way again.

/// get: all units leave at once (docs/decisions/0003-units-of-one-large-get-leave-at-once.md).
Next start_get(Units& units, Op& op);
Next on_get_reply(Units& units, Unit& unit, const wire::OpReply& reply);

/// put and write of one chunk, remove.
bool is_upload(const Op& op);  ///< a put or write of several chunks
Next start_change(Units& units, Op& op);
Next on_change_reply(Units& units, Unit& unit, const wire::OpReply& reply);

/// put and write of several chunks.
Next start_upload(Units& units, Op& op);
void restart_upload(Units& units, Op& op);  ///< from BEGIN, in a short while
Next on_upload_reply(Units& units, Unit& unit, const wire::OpReply& reply, Path from);

/// exists, touch, stat.
Next start_exists(Units& units, Op& op);
Next on_exists_reply(Units& units, Unit& unit, const wire::OpReply& reply);
/// prefetch begins as these do.
Next on_prefetch_reply(Units& units, Unit& unit, const wire::OpReply& reply);

/// flush, status, list.
Next start_admin(Units& units, Op& op);
Next on_admin_reply(Units& units, Unit& unit, const wire::OpReply& reply);
/// Routes a unit of a flush: one for each worker of the server's present map.
void route_flush(Units& units, Unit& unit);

}  // namespace memkv::client
