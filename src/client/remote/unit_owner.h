#pragma once
/// The only way up from a server's side to the ops.

#include "client/remote/unit.h"

namespace memkv::client {

class Remote;

/// Each call hands a unit back to its owner, in no frame and with no reply to come. It may end the unit's op, and with
/// it any other unit of that op: the caller looks at neither again. Thread: the context's.
class UnitOwner {
 public:
  virtual ~UnitOwner() = default;
  /// The server answered; what was asked for is delivered and verified. `from`: the link that the reply came over.
  virtual void on_reply(Unit& unit, const wire::OpReply& reply, Path from) = 0;
  /// The bytes that came do not match their checksum. The server has been told.
  virtual void on_mismatch(Unit& unit) = 0;
  /// The unit's connection is gone; `sent` = its frame may have left.
  virtual void on_lost(Unit& unit, bool sent) = 0;
  /// The unit's server does not take it now, and waiting does not help.
  virtual void on_refused(Unit& unit, Status why) = 0;
  /// Nothing is wrong with the unit, but it cannot go now: it wants to be routed again in a short while.
  virtual void on_delayed(Unit& unit) = 0;
  /// The server's map or transport became another: the unit wants to be routed again at once.
  virtual void on_moved(Unit& unit) = 0;
  /// A frame let go of the op's memory.
  virtual void on_released(Request& op) = 0;
  /// The server may take more than before.
  virtual void on_room(Remote& server) = 0;
};

}  // namespace memkv::client
