#pragma once
/// The connections to one server, and which of them a unit takes.

#include <deque>
#include <memory>

#include "client/remote/connection.h"
#include "client/remote/transport_choice.h"

namespace memkv::client {

/// One connection for each worker, transport and rail, made when it is first wanted and never taken away. It picks, and
/// marks what should be open; others open. Thread: the context's.
class Routes {
 public:
  using Connections = std::deque<std::unique_ptr<Connection>>;

  Routes(Shared& shared, ConnectionOwner& owner, const ServerFacts& server);
  Routes(const Routes&) = delete;
  Routes& operator=(const Routes&) = delete;

  TransportChoice& choice() { return choice_; }
  const TransportChoice& choice() const { return choice_; }
  const Connections& all() const { return connections_; }
  Connection& at(size_t number) { return *connections_[number]; }
  const Connection& at(size_t number) const { return *connections_[number]; }
  Connection& first() { return *connections_.front(); }  ///< over tcp, to any worker

  /// Null: it cannot go now, and waits for a rail.
  Connection* pick(const Unit& unit);
  Connection& pick(Transport transport, uint16_t worker);
  /// Null: no rail that knows the op's memory is open, nor being opened now. Another transport is no way out: it would
  /// touch the memory from here.
  Connection* pick_gpu_rail(const Request& op);
  /// True: picking marked connections of one-sided transports since the last call, and `due_ns` is when the first of
  /// them may be opened.
  bool take_marked(uint64_t& due_ns);

  bool any_open() const;
  bool any_open(Transport transport) const;
  bool any_opening(Transport transport) const;
  bool any_queued() const;
  /// One of the transport in use has that many quarters of its room taken, at most, and none has a queue.
  bool has_room(uint32_t quarters) const;
  void pump();
  void take_queued(UnitQueue& units);
  void close_all(Status why);
  bool at_rest() const;
  /// Under way, handshakes among them.
  size_t frames() const;
  uint64_t heard_ns() const;  ///< when bytes last came over one that is open

 private:
  static constexpr uint32_t kAllRails = ~uint32_t{0};
  Connection& add(Transport transport, uint16_t worker, size_t rail = 0);
  uint16_t worker_of(std::string_view key) const;
  Connection& pick(uint16_t worker);
  Connection& pick_rail(uint16_t worker, uint32_t rails);
  void add_rails(uint16_t worker);
  void mark(Connection& connection);

  Shared& shared_;
  ConnectionOwner& owner_;
  const ServerFacts& server_;
  TransportChoice choice_;
  Connections connections_;
  size_t round_ = 0;
  uint64_t marked_due_ns_ = UINT64_MAX;
};

}  // namespace memkv::client
