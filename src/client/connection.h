#pragma once
/// One connection to one worker: queues of units, frames on their way, credit, and the memory that a reply goes into.

#include "client/clock_bound.h"
#include "client/records.h"

namespace memkv::client {

class Context;

/// A request id holds the slot of its frame in the lowest bits.
inline constexpr uint32_t kSlotBits = 20;

/// EXISTS frames without a reply; a server takes them in steps.
inline constexpr uint32_t kExistsFramesMax = 4;

/// Its bytes count against the credit for gets.
inline bool is_large_get(const Unit& unit) {
  return unit.kind == wire::OpKind::kGet && unit.length > wire::kEagerPayloadMax;
}

inline uint32_t in_chunk(uint64_t offset) { return static_cast<uint32_t>(offset % kChunkBytesMax); }

/// Thread: the context's. Lives as long as its server; links come and go.
class Connection final : public transport::LinkOwner {
 public:
  /// `rail`: with rdma, which of this host's devices.
  Connection(Context& context, RemoteServer& server, Transport transport, uint16_t wanted_worker, size_t rail = 0);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  enum class State : uint8_t { kIdle, kConnecting, kWelcoming, kOpen, kClosing };
  State state() const { return state_; }
  uint64_t since_ns() const { return state_since_ns_; }  ///< when it was opened, or its opening began
  bool open() const { return state_ == State::kOpen; }
  Transport transport() const { return transport_; }
  uint16_t worker() const { return worker_; }
  uint64_t epoch() const { return epoch_; }
  /// When bytes last came over its link; 0 = there is none.
  uint64_t heard_ns() const { return link_ && state_ != State::kWelcoming ? link_->last_received_ns() : 0; }
  bool has_queued() const { return queued() > 0 || !(exists_.empty() && admin_.empty()); }
  /// Ops that have not left.
  size_t queued() const { return ops_.size() + gets_.size() + small_.size() + large_.size() + gpu_.size(); }
  /// At most that many quarters of what may be under way are.
  bool has_room(uint32_t quarters) const {
    const uint64_t bytes = uint64_t{std::max(limit_.gets, limit_.puts)} * wire::kCreditUnit;
    return (ops_used_ + queued() + 1) * 4 <= size_t{limit_.ops} * quarters + 3 && load_bytes_ * 4 <= bytes * quarters;
  }

  /// Starts an attempt on one address. Outcome: RemoteServer::on_welcome or on_connect_failed.
  void connect(const sockaddr* address, socklen_t length, uint64_t deadline_ns);
  /// For the server: it should be open, though nothing may be queued; and not before that time.
  bool should_open = false;
  uint64_t not_before_ns = 0;
  uint64_t backoff_ns = 0;
  size_t rail() const { return rail_; }
  bool less_loaded_than(const Connection& other) const {
    return load_bytes_ != other.load_bytes_ ? load_bytes_ < other.load_bytes_ : given_bytes_ < other.given_bytes_;
  }

  void close(Status why);

  /// Takes the unit; it leaves with the next pump().
  void enqueue(Unit& unit);
  /// Makes frames of what is queued and may leave now.
  void pump();
  /// Gives up a unit that is in a frame: a late reply goes nowhere. Its memory must be quiet, or be a frame's
  /// (Op::holds).
  void give_up(Unit& unit);
  /// Stops the reply under way from being written into the memory of `op`, if it is.
  void quiet(Op& op);
  bool holds_memory_of(const Op& op) const;
  /// The unit is in a frame, and ends: its reply goes nowhere.
  void forget(Unit& unit) { take_unit(*unit.frame, unit.index); }

  void send_suspect(std::string_view key, uint64_t offset);
  void send_abort(uint64_t upload);
  /// Once per tick: asks a silent peer whether it lives. False: it does not.
  [[nodiscard]] bool check_liveness(uint64_t now_ns);
  size_t frames() const { return frames_.size(); }
  bool quiet_at_rest() const { return state_ == State::kIdle && frames_.empty(); }
  int fd() const { return link_ ? link_->fd() : -1; }
  void take_queued(UnitQueue& into);

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
  /// A get's reply whose payload is arriving.
  struct Arriving {
    Unit* unit;
    wire::OpReply reply;
    size_t slices_at, slices;  ///< in targets_
    size_t payload_at;         ///< its first byte in the frame's payload
    uint64_t seed;             ///< of its chunk
    RangeHasher hasher;
    std::array<uint64_t, wire::kSumsMax> expected, sums;
    transport::Exposure staged;  ///< not empty: its bytes lie there, to be copied
  };

  static void on_connect_done(void* self, Result<std::unique_ptr<transport::Link>> link, std::string_view server_name,
                              std::string_view goodbye);
  void adopt(std::unique_ptr<transport::Link> link, std::string_view server_name);
  void connected(Result<std::unique_ptr<transport::Link>> link, std::string_view server_name, std::string_view goodbye);

  void introduce();
  void ping();
  void answer_ping(uint64_t request_id);
  void on_pong(const wire::FrameHeader& header, std::span<const std::byte> body);
  wire::OpsEncoder begin_ops(RequestFrame& frame);
  bool may_send() const;
  bool send_ops();
  bool send_gets();
  RequestFrame& frame_for(std::initializer_list<const UnitQueue*> queues);
  uint32_t ops_left() const { return limit_.ops > ops_used_ ? limit_.ops - ops_used_ : 0; }
  bool has_get_credit(uint64_t bytes) const {
    return get_bytes_ == 0 || get_bytes_ + bytes <= uint64_t{limit_.gets} * wire::kCreditUnit;
  }
  bool send_exists();
  bool send_large();
  bool send_gpu();
  void send_alone(RequestFrame& frame, Unit& unit, uint32_t credit);
  bool has_credit(uint32_t units) const { return credit_used_ == 0 || credit_used_ + units <= limit_.puts; }
  bool send_admin();
  RequestFrame& new_frame(size_t body_bytes);
  bool add_op(RequestFrame& frame, wire::OpsEncoder& encoder, Unit& unit);
  void add_unit(RequestFrame& frame, Unit& unit);
  void stage_payload(RequestFrame& frame);
  void send(RequestFrame& frame, wire::Opcode opcode, std::span<const std::byte> body, uint64_t echoed_id = 0);
  uint64_t send_control(wire::Opcode opcode, std::span<const std::byte> body, uint64_t echoed_id = 0);
  void send_op_without_unit(const wire::Op& op);
  void on_sent(RequestFrame& frame, bool sent);
  bool expose(RequestFrame& frame, Unit& unit);
  void add_exposure(RequestFrame& frame, Unit& unit, const transport::Exposure& memory);
  FrameExposure* exposure_of(RequestFrame& frame, const Unit* unit, uint32_t index);
  void let_go(FrameExposure& exposure);
  void send_cancel(uint64_t request_id, uint16_t index);
  uint64_t link_payload_max() const;
  void answered(RequestFrame& frame, uint32_t replies);
  void free_if_done(RequestFrame& frame);
  void free_frame(RequestFrame& frame);

  RequestFrame* frame_of(uint64_t request_id);
  RequestFrame* frame_of(uint64_t request_id, wire::Opcode asked);
  Unit* take_unit(RequestFrame& frame, uint32_t index);
  void protocol_error(const char* what);
  void on_welcome(std::span<const std::byte> body);
  transport::PayloadTarget on_reply(const wire::FrameHeader& header, std::span<const std::byte> body);
  void on_exists_reply(const wire::FrameHeader& header, std::span<const std::byte> body);
  void on_exists_failed(RequestFrame& frame, wire::ReplyDecoder& decoder);
  void on_canceled(const wire::FrameHeader& header, std::span<const std::byte> body);
  void on_status_reply(const wire::FrameHeader& header, std::span<const std::byte> body);
  void on_list_reply(const wire::FrameHeader& header, std::span<const std::byte> body);
  void on_worker_map(std::span<const std::byte> body);
  void on_goodbye(std::span<const std::byte> body);
  void expect(Unit& unit, const wire::OpReply& reply, size_t payload_at, FrameExposure* placed);
  void deliver(Arriving& arriving);
  void expect_nothing(uint32_t bytes);
  size_t hash(Arriving& arriving, size_t arrived);
  bool verified(Arriving& arriving);

  Context& context_;
  RemoteServer& server_;
  const Transport transport_;
  const size_t rail_;
  uint16_t worker_;
  State state_ = State::kIdle;
  std::unique_ptr<transport::Connector> connector_;
  std::unique_ptr<transport::Link> link_;
  uint64_t state_since_ns_ = 0;
  uint64_t request_counter_ = 0;

  UnitQueue ops_;    // without payload, and gets up to kEagerPayloadMax
  UnitQueue gets_;   // larger ones
  UnitQueue small_;  // payload up to kEagerPayloadMax
  UnitQueue large_;
  UnitQueue gpu_;  // whatever their size: their memory is exposed, for a get and for a payload
  UnitQueue exists_;
  UnitQueue admin_;  // status, list: a frame of its own kind each
  FrameList frames_;
  wire::Credit limit_;        // what the server grants
  uint32_t credit_used_ = 0;  // by payloads of puts
  uint32_t ops_used_ = 0;     // ops in frames, not answered
  uint64_t get_bytes_ = 0;    // that large gets in frames ask for
  uint32_t exists_frames_ = 0;
  bool gets_first_ = false;  // large gets and other ops go first in turn
  uint32_t eager_used_ = 0;
  uint64_t link_payload_bytes_ = 0;
  uint64_t load_bytes_ = 0;
  uint64_t given_bytes_ = 0;  // ever

  std::vector<Arriving> arriving_;
  std::vector<iovec> targets_;
  std::vector<iovec> slices_;  // of one unit, for a moment

  uint64_t heard_ns_ = 0;   // last frame or payload; or when the first frame after a silence left
  uint64_t pinged_ns_ = 0;  // 0 = no ping is unanswered
  ClockBound clock_;        // of the server
  uint64_t asked_id_ = 0;   // of the last PING, and when it left: for the clock
  uint64_t asked_ns_ = 0;
  uint64_t epoch_ = 0;  // of the link: uploads belong to one
  Goodbye goodbye_;
};

}  // namespace memkv::client
