#pragma once
/// One server of the list: addresses, worker map, connections, breaker.

#include <algorithm>
#include <deque>
#include <string>

#include "client/connection.h"
#include "client/resolver.h"
#include "client/settings.h"
#include "client/transport_choice.h"

namespace memkv::client {

constexpr const char* kNotUsedYet = "not used yet";

/// A server as one context sees it, for people. Others may have used it more.
struct ServerLine {
  enum class Knows : uint8_t { kNothing, kWhyNot, kConnected };
  std::string text;
  Knows knows = Knows::kNothing;
  bool tells_more_than(const ServerLine& other) const { return knows > other.knows; }
};

/// The breaker opens on missing liveness only: no connection can be made, or a ping stays unanswered; never on slow ops
/// or kBusy. While it is open nothing waits for this server, and one probe at a time looks whether it is back.
/// Thread: the context's.
class RemoteServer {
 public:
  RemoteServer(Context& context, size_t index, const ServerAddress& address);
  ~RemoteServer();
  RemoteServer(const RemoteServer&) = delete;
  RemoteServer& operator=(const RemoteServer&) = delete;

  size_t index() const { return index_; }
  const std::string& name() const { return address_.name; }
  /// kOk: ops may go there. kUnavailable: breaker open. Else: it answered and refuses us, and this is why.
  Status refusal() const { return refusal_; }
  /// The same for one op. kUnsupported: its memory is a GPU's, and no rail that knows it is open.
  Status refusal_of(const Op& op);
  bool welcomed() const { return welcomed_; }
  uint64_t namespace_id() const { return welcome_.namespace_id; }
  uint16_t worker_count() const { return welcome_.worker_count; }
  uint16_t worker_of(std::string_view key) const;

  /// Sends the unit on its way: to a connection's queue, or to wait for the first connection.
  void route(Unit& unit);
  void pump();
  /// Ops that take turns with those of other calls.
  void add_lane(Lane& lane) { lanes_.push_back(lane); }
  void remove_lane(Lane& lane) { lanes_.remove(lane); }
  /// Replies made room at a connection.
  void on_room(Connection& connection);
  /// The resolver may have an answer.
  void on_resolved();
  /// Nothing has come from it since then, nor for so long that it must have been noticed.
  bool silent_since(uint64_t since_ns) const;
  /// Once per tick while ops are under way.
  void check_liveness(uint64_t now_ns);
  void close_all(Status why);
  void shut_down();
  bool at_rest() const;
  size_t frames() const;
  ServerLine describe() const;
  std::deque<std::unique_ptr<Connection>>& connections() { return connections_; }

  // From connections.
  void on_connect_failed(Connection& connection, Error why, std::string_view goodbye);
  bool accept_name(std::string_view server_name);
  void on_welcome(Connection& connection, const wire::Welcome& welcome);
  void on_map(const wire::WorkerMap& map);
  void on_lost(Connection& connection, const Error& why);
  /// A connection that ends: when bytes last came over it.
  void note_heard(uint64_t heard_ns) { heard_ns_ = std::max(heard_ns_, heard_ns); }

 private:
  void connect_soon(uint64_t delay_ns);
  void on_timer();
  void try_connect(Connection& connection);
  void probe_again();
  void open_breaker(Status status, const std::string& why);
  void close_breaker();
  void refuse_waiting();
  void reroute_all();
  void retry_queued(Connection& connection);
  bool any_open() const;
  void start_waiting();
  bool has_room(uint32_t quarters) const;

  // Choice of the transport (server_transports.cc).
  void rule_out_one_sided();
  Connection& connection_for(uint16_t worker);
  Connection& connection_of(Transport transport, uint16_t worker);
  static constexpr uint32_t kAllRails = ~uint32_t{0};
  Connection& rail_of(uint16_t worker, uint32_t rails = kAllRails);
  Connection* gpu_rail_of(const Op& op);
  void route_gpu(Unit& unit);
  void back_off(Connection& connection, const std::string& text);
  bool any_open(Transport transport) const;
  void open_soon(Connection& connection);
  void one_sided_soon(uint64_t delay_ns);
  void open_one_sided();
  void try_one_sided(Connection& connection);
  void try_rdma(Connection& connection);
  void try_rails();
  bool any_opening(Transport transport) const;
  std::string find_socket() const;
  bool on_one_sided_open(Connection& connection, bool same_process);
  void on_one_sided_failed(Connection& connection, const Error& why, const std::string& text);
  void on_one_sided_lost(Connection& connection, const std::string& text);
  void leave(Transport transport, const std::string& text);
  void on_switch(const std::string& text);

  Context& context_;
  const size_t index_;
  const ServerAddress address_;
  Resolver resolver_;
  size_t next_address_ = 0;
  size_t addresses_failed_ = 0;
  bool known_ = false;     ///< a server process answered over tcp: welcome_ is its
  bool welcomed_ = false;  ///< ops can be routed
  bool stopping_ = false;
  bool name_warned_ = false;
  wire::Welcome welcome_;
  uint64_t map_number_ = 1;  ///< grows when the map in welcome_ becomes another
  TransportChoice choice_;
  std::deque<std::unique_ptr<Connection>> connections_;
  size_t round_ = 0;
  UnitQueue unrouted_;  // until the first WELCOME
  base::IntrusiveList<Lane, &Lane::link> lanes_;
  bool starting_ = false;
  io::Timer timer_;
  io::Timer one_sided_timer_;
  Status refusal_ = Status::kOk;
  std::string why_ = kNotUsedYet;
  uint64_t heard_ns_ = 0;  // over connections that have ended
  uint64_t backoff_ns_ = 0;
  uint64_t not_before_ns_ = 0;     // the next attempt
  uint64_t reconnect_gap_ns_ = 0;  // after connections that ended as soon as they were open
  bool dirty_ = false;             // units were routed since the last pump()
};

}  // namespace memkv::client
