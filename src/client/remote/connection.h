#pragma once
/// One connection to one worker: opens, greets, closes, and hands to its sender and its receiver what is theirs.

#include "client/remote/receiver.h"

namespace memkv::client {

class Connection;

/// What a connection tells its server. Thread: the context's.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  /// An attempt came to nothing. `goodbye`: what the server said, if it did.
  virtual void on_connect_failed(Connection& connection, const Error& why, std::string_view goodbye) = 0;
  /// False: it is not the server that should be there.
  virtual bool accept_name(std::string_view server_name) = 0;
  virtual void on_welcome(Connection& connection, const wire::Welcome& welcome) = 0;
  virtual void on_map(const wire::WorkerMap& map) = 0;
  /// An open connection is gone; its units have been told.
  virtual void on_lost(Connection& connection, const Error& why) = 0;
  /// It ends: when bytes last came over it.
  virtual void note_heard(uint64_t heard_ns) = 0;
  /// Something came: it may take more than before.
  virtual void on_room(Connection& connection) = 0;
};

/// Thread: the context's. Lives as long as its server; links come and go.
class Connection final : public transport::LinkOwner {
 public:
  struct Role {
    uint32_t number;  ///< at its server
    Transport transport;
    uint16_t wanted_worker;
    size_t rail = 0;  ///< with rdma, which of this host's devices
  };
  using State = Line::State;

  Connection(Shared& shared, ConnectionOwner& owner, const ServerFacts& server, const Role& role);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  const Line& line() const { return line_; }
  State state() const { return line_.state; }
  bool open() const { return line_.open(); }
  Transport transport() const { return line_.transport; }
  uint16_t worker() const { return line_.worker; }
  size_t rail() const { return line_.rail; }
  /// When bytes last came over its link; 0 = there is none.
  uint64_t heard_ns() const { return line_.link && state() != State::kWelcoming ? line_.link->last_received_ns() : 0; }
  bool has_queued() const { return !sender_.queues().empty(); }
  /// Ops that have not left.
  size_t queued() const { return sender_.queues().size(); }
  /// At most that many quarters of what may be under way are.
  bool has_room(uint32_t quarters) const;
  bool less_loaded_than(const Connection& other) const {
    return sender_.queues().less_loaded_than(other.sender_.queues());
  }

  /// Starts an attempt on one address. Outcome: ConnectionOwner::on_welcome or on_connect_failed.
  void connect(const sockaddr* address, socklen_t length, uint64_t deadline_ns);
  /// Takes a link whose handshake is done, and introduces itself.
  void adopt(std::unique_ptr<transport::Link> link, std::string_view server_name);
  void close(Status why);
  /// For the server: it should be open, though nothing may be queued; and not before that time.
  bool should_open = false;
  uint64_t not_before_ns = 0;
  uint64_t backoff_ns = 0;

  /// Takes the unit; it leaves with the next pump().
  void enqueue(Unit& unit) { sender_.queues().add(unit); }
  void pump() { sender_.pump(); }
  void take_queued(UnitQueue& into) { sender_.queues().take_all(into); }
  void delay_queued();  ///< its units are routed again in a short while
  void quiet(const Request& op) { receiver_.quiet(op); }
  bool holds_memory_of(const Request& op) const { return frames_.holds_memory_of(op); }
  void send_abort(uint64_t upload) { sender_.send_abort(upload); }
  /// Once per tick: asks a silent peer whether it lives. False: it does not.
  [[nodiscard]] bool check_liveness(uint64_t now_ns);
  size_t frames() const { return frames_.size(); }
  bool quiet_at_rest() const { return state() == State::kIdle && frames_.empty(); }

  transport::PayloadTarget on_frame(transport::Link& link, const wire::FrameHeader& header,
                                    std::span<const std::byte> body) override;
  void on_payload_part(transport::Link& link, size_t arrived) override;
  void on_payload(transport::Link& link) override;
  void on_closed(transport::Link& link, const Error& why) override;

 private:
  struct Goodbye {
    Status status = Status::kOk;  ///< kOk = none was said
    std::string text;
  };

  static void on_connect_done(void* self, Result<std::unique_ptr<transport::Link>> link, std::string_view server_name,
                              std::string_view goodbye);
  void connected(Result<std::unique_ptr<transport::Link>> link, std::string_view server_name, std::string_view goodbye);
  void on_pong(const wire::FrameHeader& header, std::span<const std::byte> body);
  void on_welcome(std::span<const std::byte> body);
  void on_worker_map(std::span<const std::byte> body);
  void on_goodbye(std::span<const std::byte> body);

  Shared& shared_;
  ConnectionOwner& owner_;
  Line line_;
  Credits credits_;
  FramesOut frames_;
  Sender sender_;
  Receiver receiver_;
  std::unique_ptr<transport::Connector> connector_;
  Goodbye goodbye_;
};

}  // namespace memkv::client
