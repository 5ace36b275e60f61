#pragma once
/// The server's side of one link: frames in, ops and replies out.

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/intrusive_list.h"
#include "shard/client_board.h"
#include "shard/connection_receive.h"
#include "shard/connection_reply.h"
#include "shard/connection_send_room.h"
#include "shard/connection_uploads.h"
#include "shard/known_clients.h"
#include "shard/op.h"
#include "shard/pace.h"
#include "transport/link.h"
#include "wire/messages.h"

namespace memkv::shard {

inline constexpr uint64_t kServerDeadlineNs = 30'000'000'000;  ///< of ops that name none

/// Knows its link, its client and its ops, and how it ends. What it receives and sends, its uploads and the room in its
/// link's send queue are parts of their own. From a fixed pool of the worker. Thread: worker.
class Connection final : public transport::LinkOwner {
 public:
  enum class Welcome : uint8_t { kYes, kTurnedAway };

  /// A new life, without a link. Who is turned away hears GOODBYE instead of WELCOME, and is none of its tenant's
  /// connections.
  void open(Worker& worker, Tenant& tenant, Welcome welcome = Welcome::kYes);
  /// WELCOME follows when the client has introduced itself. `name`: for who looks at the status.
  void attach(std::unique_ptr<transport::Link> link, Transport transport, const ClientName& name = {});
  /// Its client has said who it is; the connection counts for `holder` from now on.
  void join(KnownClient& client, Holder& holder);
  /// Nothing of it is in use any more: ready for the pool.
  void recycle();

  transport::PayloadTarget on_frame(transport::Link& link, const wire::FrameHeader& header,
                                    std::span<const std::byte> body) override;
  void on_payload_part(transport::Link& link, size_t arrived) override;
  void on_payload(transport::Link& link) override;
  void on_unwanted(transport::Link& link) override;
  void on_closed(transport::Link& link, const Error& why) override;

  Worker& worker() const { return *worker_; }
  uint64_t namespace_id() const { return life_.namespace_id; }
  KnownClient* client() const { return life_.client; }  ///< null until it has introduced itself
  Holder& holder() const { return *life_.holder; }      ///< who holds what the connection takes of the pools
  Transport transport() const { return life_.transport; }
  transport::Link* link() const { return link_.get(); }
  bool turned_away() const { return life_.welcome == Welcome::kTurnedAway; }

  ConnectionReceiver& receiver() { return receiver_; }
  ConnectionReplies& replies() { return replies_; }
  ConnectionSendRoom& send_room() { return send_room_; }
  ConnectionUploads& uploads() { return uploads_; }
  OpQueue& gets_that_wait() { return waits_slot_; }  ///< for a slot

  void add_op(Op& op) { live_.push_back(op); }
  size_t ops_live() const { return live_.size(); }
  /// The op and its reply are over.
  void free_op(Op& op);
  void hold() { held_++; }  ///< list, status, exists and prefetches under way
  void unhold();
  /// Ends what waits past its deadline: gets, the payload that the link holds back, uploads.
  void expire_waiting();
  /// What the client does too slowly, or null. Asked at every tick, `step_ns` after the one before. `contended`:
  /// somebody waits for slots such as it may hold.
  const char* stalls(uint64_t step_ns, uint64_t stalled_ns, uint64_t introduce_ns, bool contended);

  /// GOODBYE, and once it has left, close. What was sent before leaves first.
  void leave(Status status, std::string_view text);
  void protocol_error(const char* what);
  void close(Status why);
  /// A link that takes no frames is dead: on_closed is on its way.
  void lost_link();

  bool closing() const { return life_.closing; }
  bool closed() const { return life_.closed; }
  bool idle() const { return at_rest() && receiver_.empty(); }
  bool reapable() const { return life_.closed && at_rest() && held_ == 0; }

  base::ListLink<Connection> waiting_link, gets_link, dirty_link, reaping_link, worker_link;

 private:
  /// What a new life resets as a whole.
  struct Life {
    Holder* holder = nullptr;
    uint64_t namespace_id = 0;
    KnownClient* client = nullptr;
    ClientName client_name;
    uint32_t board_place = 0;  ///< as long as there is a client
    uint64_t opened_ns = 0;
    Transport transport = Transport::kTcp;
    Welcome welcome = Welcome::kYes;
    bool leaving = false;  ///< GOODBYE is on its way: nothing more is taken
    bool closing = false;  ///< close() was called: no more replies
    bool closed = false;   ///< the link said so
    Pace pace_out, pace_in;
  };

  void on_request(const wire::FrameHeader& header, std::span<const std::byte> body);
  void on_cancel(std::span<const std::byte> body);
  bool stop_waiting(Op& op);
  bool at_rest() const { return live_.empty() && replies_.at_rest(); }

  Worker* worker_ = nullptr;
  std::unique_ptr<transport::Link> link_;
  Life life_;
  uint32_t held_ = 0;
  OpQueue waits_slot_;
  base::IntrusiveList<Op, &Op::link> live_;
  ConnectionReceiver receiver_{*this};
  ConnectionReplies replies_{*this};
  ConnectionSendRoom send_room_;
  ConnectionUploads uploads_{*this};
};

/// The first frame of a connection (introduce.cc).
void introduce(Connection& connection, const wire::FrameHeader& header, std::span<const std::byte> body);
/// EXISTS, LIST, STATUS: requests that are no ops (exists_op.cc, list_op.cc, status_op.cc).
void start_exists(Connection& connection, uint64_t request_id, std::span<const std::byte> body);
void start_list(Connection& connection, uint64_t request_id, std::span<const std::byte> body);
void start_status(Connection& connection, uint64_t request_id);

}  // namespace memkv::shard
