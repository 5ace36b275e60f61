#pragma once
/// One server, as ops see it.

#include <string>

#include "client/remote/unit.h"
#include "memkv/error.h"

namespace memkv::client {

/// What becomes of a unit is told through UnitOwner, maybe inside the call that hands it over. Thread: the context's.
class Remote {
 public:
  /// Of the server's map. Count 0: it is not known, or the server takes no ops.
  struct Workers {
    uint16_t count = 0;
    uint64_t map = 0;  ///< another number for another map
  };

  virtual ~Remote() = default;
  virtual size_t index() const = 0;  ///< in the list of servers
  virtual const std::string& name() const = 0;
  /// kOk: ops may go there. kUnavailable: breaker open. Else: it answered and refuses us, and this is why.
  virtual Status refusal() const = 0;
  /// The same for one op. kUnsupported: its memory is a GPU's, and no rail that knows it is open.
  virtual Status refusal_of(const Request& op) = 0;
  virtual Workers workers() const = 0;
  /// Nothing has come from it since then, nor for so long that it must have been noticed.
  virtual bool silent_since(uint64_t since_ns) const = 0;
  /// At most that many quarters of what may be under way are; or waiting makes no sense.
  virtual bool has_room(uint32_t quarters) const = 0;

  /// Sends the unit on its way: to a connection's queue, or to wait for the first connection.
  virtual void route(Unit& unit) = 0;
  /// What was routed leaves.
  virtual void pump() = 0;
  /// Gives up a unit that is in a frame: the server is told, and a late reply goes nowhere. Its memory must be quiet,
  /// or be a frame's (Request::holds).
  virtual void give_up(Unit& unit) = 0;
  /// The unit is in a frame, and ends: its reply goes nowhere.
  virtual void forget(Unit& unit) = 0;
  /// Stops a reply under way from being written into the memory of `op`.
  virtual void quiet(const Request& op) = 0;
  virtual bool is_open(Path path) const = 0;
  /// Ends an upload that was begun over this link.
  virtual void send_abort(Path path, uint64_t upload) = 0;
  /// Memory of `op` is free only when the server says so.
  virtual bool confirms_release(const Request& op) const = 0;
  /// Closes the connections whose frames hold memory of `op`.
  virtual void close_holders(const Request& op) = 0;
};

}  // namespace memkv::client
