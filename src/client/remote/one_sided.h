#pragma once
/// Opens shm and rdma beside tcp, and leaves them when they fail.

#include "client/remote/resolver.h"
#include "client/remote/routes.h"

namespace memkv::client {

/// What becomes of an attempt is told through ConnectionOwner, also when it ends before it began. Never inside a
/// submit: always from a timer. Thread: the context's.
class OneSided {
 public:
  OneSided(Shared& shared, ConnectionOwner& owner, const ServerFacts& server, const Resolver& resolver, Routes& routes);
  OneSided(const OneSided&) = delete;
  OneSided& operator=(const OneSided&) = delete;

  /// What should be open by then is opened, and probes that are due are made.
  void open_by(uint64_t due_ns);
  /// The same for what Routes marked.
  void open_marked();
  void stop();

  /// A connection is open. False: it does not lead to the server that tcp leads to, and is closed.
  bool on_open(Connection& connection, bool same_process);
  /// Not again for a while, longer each time.
  void back_off(Connection& connection, const std::string& text);
  /// Its ops go another way at once; a probe looks whether it works again.
  void leave(Transport transport, const std::string& text);

 private:
  TransportChoice& choice() { return routes_.choice(); }
  void on_time();
  void probe(Transport transport);
  void try_one(Connection& connection);
  void try_rdma(Connection& connection);
  void try_rails();
  std::string find_socket() const;
  void on_switch(const std::string& text);

  Shared& shared_;
  ConnectionOwner& owner_;
  const ServerFacts& server_;
  const Resolver& resolver_;
  Routes& routes_;
  Alarm alarm_;
  bool stopped_ = false;
};

}  // namespace memkv::client
