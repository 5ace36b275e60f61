#include "client/remote/connection.h"

#include <algorithm>

#include "base/log.h"
#include "transport/rdma/control.h"

namespace memkv::client {
namespace {

using transport::PayloadTarget;
using wire::Opcode;

constexpr uint64_t kSilenceNs = 250'000'000;  // then a ping
constexpr uint64_t kPongNs = 500'000'000;     // then it is dead
// A queue pair finds out by itself that its peer is gone. What it moves for the server is not seen here, and on a wire
// that loses packets the pong comes late behind it.
constexpr uint64_t kPongRdmaNs = 3'000'000'000;
constexpr uint64_t kWelcomeNs = 1'000'000'000;

}  // namespace

void Line::close(Status why) {
  if (state == State::kIdle || state == State::kConnecting || state == State::kClosing) return;
  if (state == State::kOpen) state = State::kClosing;
  link->close(why);
}

void Line::end_for_error(const char* what) {
  MEMKV_LOG_EVERY(1, kError, "server {}: {}; the connection is closed", server.name(), what);
  close(Status::kInvalid);
}

Connection::Connection(Shared& shared, ConnectionOwner& owner, const ServerFacts& server, const Role& role)
    : shared_(shared),
      owner_(owner),
      line_{server, role.number, role.transport, role.rail, role.wanted_worker},
      frames_(shared, credits_),
      sender_(shared, line_, credits_, frames_),
      receiver_(shared, line_, frames_, sender_) {}

Connection::~Connection() { MEMKV_ASSERT(quiet_at_rest() && !has_queued()); }

bool Connection::has_room(uint32_t quarters) const {
  const wire::Credit& limit = credits_.limit;
  const uint64_t bytes = uint64_t{std::max(limit.gets, limit.puts)} * base::kGrainBytes;
  const SendQueues& queues = sender_.queues();
  return (credits_.ops + queues.size() + 1) * 4 <= size_t{limit.ops} * quarters + 3 &&
         queues.load_bytes * 4 <= bytes * quarters;
}

// Opening and closing.

void Connection::connect(const sockaddr* address, socklen_t length, uint64_t deadline_ns) {
  MEMKV_ASSERT(line_.state == State::kIdle);
  line_.state = State::kConnecting;
  line_.since_ns = shared_.machine.now_ns();
  goodbye_ = {};
  transport::Connector::Options options;
  options.transport = line_.transport;
  options.secret = shared_.machine.settings().secret;
  options.hello.transport = static_cast<uint8_t>(line_.transport) - static_cast<uint8_t>(Transport::kTcp);
  options.hello.wanted_worker = line_.worker;
  options.client_name = shared_.machine.settings().client_name;
  options.congestion = shared_.machine.settings().congestion;
  options.deadline_ns = deadline_ns;
  if (line_.is_one_sided()) {
    connector_ = transport::rdma::make_connector(*shared_.machine.rdma(), line_.rail, address, length, options, *this,
                                                 on_connect_done, this);
    return;
  }
  connector_ = transport::Connector::make(shared_.machine.reactor(), address, length, std::move(options), *this,
                                          on_connect_done, this);
}

void Connection::on_connect_done(void* self, Result<std::unique_ptr<transport::Link>> link,
                                 std::string_view server_name, std::string_view goodbye) {
  static_cast<Connection*>(self)->connected(std::move(link), server_name, goodbye);
}

void Connection::connected(Result<std::unique_ptr<transport::Link>> link, std::string_view server_name,
                           std::string_view goodbye) {
  connector_.reset();
  if (!link) {
    line_.state = State::kIdle;
    return owner_.on_connect_failed(*this, link.error(), goodbye);
  }
  adopt(std::move(*link), server_name);
}

void Connection::adopt(std::unique_ptr<transport::Link> link, std::string_view server_name) {
  MEMKV_ASSERT(!line_.link && !connector_ && (state() == State::kIdle || state() == State::kConnecting));
  line_.link = std::move(link);
  line_.state = State::kWelcoming;
  line_.since_ns = line_.peer.heard_ns = shared_.machine.now_ns();
  line_.epoch++;
  line_.peer.pinged_ns = 0;
  line_.peer.clock.reset();
  MEMKV_ASSERT(credits_.unused() && credits_.exists_frames == 0 && frames_.empty());
  shared_.watch.start();
  if (!owner_.accept_name(server_name)) {
    goodbye_ = {Status::kInvalid,
                "it calls itself '" + std::string(server_name) + "', not '" + line_.server.name() + "'"};
    return line_.link->close(Status::kInvalid);
  }
  sender_.introduce();
}

void Connection::close(Status why) {
  if (line_.state == State::kConnecting) return connector_->cancel();
  line_.close(why);
}

/// Everything that is under way comes back: replies that were arriving, units in frames, then those that have not left.
void Connection::on_closed(transport::Link&, const Error& why) {
  owner_.note_heard(heard_ns());
  const auto link = std::move(line_.link);
  const State was = std::exchange(line_.state, State::kIdle);
  line_.peer.pinged_ns = 0;
  MEMKV_ASSERT(was == State::kWelcoming || was == State::kOpen || was == State::kClosing);
  receiver_.lose_all();
  frames_.lose_all();
  UnitQueue queued;
  take_queued(queued);
  while (Unit* unit = queued.front()) shared_.units.on_lost(*unit, false);
  Error error = why;
  if (goodbye_.status != Status::kOk) error.status = goodbye_.status;
  if (was == State::kWelcoming) return owner_.on_connect_failed(*this, error, goodbye_.text);
  owner_.on_lost(*this, error);
}

void Connection::delay_queued() {
  UnitQueue queued;
  take_queued(queued);
  while (Unit* unit = queued.front()) shared_.units.on_delayed(*unit);
}

// What comes.

/// Whatever a server says comes through here. Replies go on to the receiver; what it says of itself stays. Any frame is a
/// sign of life, and may have made room for more.
PayloadTarget Connection::on_frame(transport::Link&, const wire::FrameHeader& header, std::span<const std::byte> body) {
  line_.peer.on_heard(shared_.machine.now_ns());
  if (line_.state == State::kClosing) return PayloadTarget::sink();
  if (line_.state == State::kWelcoming && header.opcode != Opcode::kWelcome && header.opcode != Opcode::kGoodbye) {
    line_.end_for_error("something came before WELCOME");
    return PayloadTarget::sink();
  }
  PayloadTarget target = PayloadTarget::sink();
  switch (header.opcode) {
    case Opcode::kReply:
      target = receiver_.on_reply(header, body);
      break;
    case Opcode::kExistsReply:
      receiver_.on_exists_reply(header, body);
      break;
    case Opcode::kCanceled:
      receiver_.on_canceled(header, body);
      break;
    case Opcode::kStatusReply:
      receiver_.on_status_reply(header, body);
      break;
    case Opcode::kListReply:
      receiver_.on_list_reply(header, body);
      break;
    case Opcode::kWelcome:
      on_welcome(body);
      break;
    case Opcode::kWorkerMap:
      on_worker_map(body);
      break;
    case Opcode::kGoodbye:
      on_goodbye(body);
      break;
    case Opcode::kCredit:
      if (auto credit = wire::decode_credit(body))
        credits_.limit = *credit;
      else
        line_.end_for_error(credit.error().what);
      break;
    case Opcode::kPing:
      sender_.answer_ping(header.request_id);
      break;
    case Opcode::kPong:
      on_pong(header, body);
      break;
    case Opcode::kReady:
    case Opcode::kNotReady:
      break;  // ops are told by kNotReady, and try again
    default:
      line_.end_for_error("a frame that no server sends");
  }
  owner_.on_room(*this);
  return target;
}

void Connection::on_welcome(std::span<const std::byte> body) {
  auto welcome = wire::decode_welcome(body);
  if (!welcome || line_.state != State::kWelcoming) return line_.end_for_error("bad WELCOME");
  if (line_.worker != wire::kAnyWorker && line_.worker < welcome->worker_count && line_.worker != welcome->worker) {
    return line_.end_for_error("another worker than was asked for");
  }
  line_.state = State::kOpen;
  line_.peer.clock.heard(welcome->now_ns, line_.peer.asked_ns, shared_.machine.now_ns());
  credits_.limit = welcome->credit;
  line_.worker = welcome->worker;
  owner_.on_welcome(*this, *welcome);
}

/// The server's clock, late by the way here.
void Connection::on_pong(const wire::FrameHeader& header, std::span<const std::byte> body) {
  const auto pong = wire::decode_pong(body);
  if (!pong) return line_.end_for_error(pong.error().what);
  line_.peer.clock.heard(pong->now_ns, header.request_id == line_.peer.asked_id ? line_.peer.asked_ns : 0,
                         shared_.machine.now_ns());
}

void Connection::on_worker_map(std::span<const std::byte> body) {
  auto map = wire::decode_worker_map(body);
  if (!map) return line_.end_for_error(map.error().what);
  owner_.on_map(*map);
}

void Connection::on_goodbye(std::span<const std::byte> body) {
  auto goodbye = wire::decode_goodbye(body);
  if (!goodbye) return line_.end_for_error(goodbye.error().what);
  goodbye_ = {is_failure(goodbye->status) ? goodbye->status : Status::kUnavailable, std::string(goodbye->text)};
  MEMKV_LOG_EVERY(1, kInfo, "server {} says goodbye: {}", line_.server.name(), goodbye_.text);
  close(goodbye_.status);
}

void Connection::on_payload_part(transport::Link&, size_t arrived) { receiver_.on_payload_part(arrived); }

void Connection::on_payload(transport::Link&) {
  receiver_.on_payload();
  owner_.on_room(*this);
}

bool Connection::check_liveness(uint64_t now) {
  if (line_.state == State::kWelcoming) return now - line_.since_ns < kWelcomeNs;
  if (line_.state != State::kOpen) return true;
  const uint64_t pong_ns = line_.is_one_sided() ? kPongRdmaNs : kPongNs;
  if (line_.peer.pinged_ns != 0)
    return now - std::max({line_.peer.pinged_ns, line_.link->last_sent_ns(), line_.link->last_received_ns()}) < pong_ns;
  if (frames_.empty() || now - line_.peer.heard_ns < kSilenceNs) return true;
  sender_.ping();
  line_.peer.pinged_ns = now;
  return true;
}

}  // namespace memkv::client
