#pragma once
/// One server of the list, as a whole.

#include <algorithm>
#include <string>

#include "client/remote/breaker.h"
#include "client/remote/one_sided.h"
#include "client/remote/remote.h"
#include "client/remote/resolver.h"
#include "client/remote/routes.h"

namespace memkv::client {

/// A server as one context sees it, for people. Others may have used it more.
struct ServerLine {
  enum class Knows : uint8_t { kNothing, kWhyNot, kConnected };
  std::string text;
  Knows knows = Knows::kNothing;
  bool tells_more_than(const ServerLine& other) const { return knows > other.knows; }
};

/// Addresses, worker map, and the way of a unit to one of the connections. What goes wrong with connections comes
/// together here: the breaker opens, a transport is left, or they are opened again. Thread: the context's.
class RemoteServer final : public Remote, private ConnectionOwner {
 public:
  RemoteServer(Shared& shared, size_t index, const ServerAddress& address);
  ~RemoteServer() override;
  RemoteServer(const RemoteServer&) = delete;
  RemoteServer& operator=(const RemoteServer&) = delete;

  size_t index() const override { return index_; }
  const std::string& name() const override { return facts_.name(); }
  Status refusal() const override { return breaker_.refusal(); }
  Status refusal_of(const Request& op) override;
  Workers workers() const override;
  bool silent_since(uint64_t since_ns) const override;
  bool has_room(uint32_t quarters) const override;
  void route(Unit& unit) override;
  void pump() override;
  void give_up(Unit& unit) override { unit.frame->sender->give_up(unit); }
  void forget(Unit& unit) override { unit.frame->sender->forget(unit); }
  void quiet(const Request& op) override;
  bool is_open(Path path) const override;
  void send_abort(Path path, uint64_t upload) override { routes_.at(path.connection).send_abort(upload); }
  bool confirms_release(const Request& op) const override;
  void close_holders(const Request& op) override;

  /// The resolver may have an answer.
  void on_resolved();
  /// Once per tick while ops are under way.
  void check_liveness(uint64_t now_ns);
  void shut_down();
  const Routes& routes() const { return routes_; }
  ServerLine describe() const;

 private:
  void on_connect_failed(Connection& connection, const Error& why, std::string_view goodbye) override;
  bool accept_name(std::string_view server_name) override;
  void on_welcome(Connection& connection, const wire::Welcome& welcome) override;
  void on_map(const wire::WorkerMap& map) override;
  void on_lost(Connection& connection, const Error& why) override;
  void note_heard(uint64_t heard_ns) override { heard_ns_ = std::max(heard_ns_, heard_ns); }
  void on_room(Connection& connection) override;

  void enqueue(Connection& connection, Unit& unit);
  void take_waiting(UnitQueue& units);
  void reroute_all();
  void refuse_waiting();

  void connect_soon(uint64_t delay_ns);
  void on_time();
  void on_one_sided_failed(Connection& connection, Status why, const std::string& text);
  void on_one_sided_lost(Connection& connection, const std::string& text);
  void probe_again();
  void open_breaker(Status status, const std::string& why);

  Shared& shared_;
  const size_t index_;
  ServerFacts facts_;
  Resolver resolver_;
  Breaker breaker_;
  Routes routes_;
  OneSided one_sided_;
  Alarm alarm_;            ///< the next attempt over tcp
  bool welcomed_ = false;  ///< ops can be routed
  bool stopping_ = false;
  bool name_warned_ = false;
  bool dirty_ = false;     ///< units were routed since the last pump()
  UnitQueue unrouted_;     ///< until the first WELCOME
  uint64_t heard_ns_ = 0;  ///< over connections that have ended
};

}  // namespace memkv::client
