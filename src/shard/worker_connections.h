#pragma once
/// The connections of a worker, and the frames in which they answer.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/intrusive_list.h"
#include "shard/client_board.h"
#include "shard/connection.h"
#include "shard/known_clients.h"
#include "shard/pool.h"
#include "shard/reply_frame.h"
#include "shard/tenants.h"
#include "shard/worker_types.h"

namespace memkv::shard {

/// Opens connections, flushes those that have something to say, and takes back those that are over. Thread: worker.
class WorkerConnections {
 public:
  explicit WorkerConnections(Worker& worker, const WorkerOptions& options);
  /// What a client's connection takes of memory at most.
  static uint64_t bytes_each();
  /// For so many there is room, those included that only hear why there is none for them.
  static size_t most(const WorkerOptions& options);

  /// A fresh connection without a link yet; null: its namespace has all that it may have.
  Connection* open(uint64_t namespace_id);
  /// The message's descriptor becomes a connection, or its client hears why not.
  void adopt(const WorkerMessage& message);
  std::string no_room_text(const Tenant& tenant) const;
  /// One connection more, or less.
  void count(Transport transport, int32_t change);
  /// A connection of the client is over.
  void part_from(KnownClient& client);
  KnownClients& clients() { return clients_; }
  ClientBoard& board() { return board_; }
  const ClientBoard& board() const { return board_; }  ///< Thread: any

  /// It has something to send, or is over: looked at in this turn of the loop.
  void dirty(Connection& connection);
  bool quiet() const { return dirty_.empty() && reaping_.empty(); }
  void flush();
  void reap();
  ReplyFrame* take_frame(Holder& holder);
  /// What is left is for connections that have none on the way.
  bool few_frames() const;
  void give_back(ReplyFrame& frame);

  /// All that is due at a tick, `step_ns` after the one before.
  void cut_stalled(uint64_t step_ns);
  void expire_waiting();
  void retry_stuck() { frame_freed_ = frame_freed_ || !stuck_.empty(); }
  void say_credit();
  void say_ready();
  /// The worker stops: who is idle is bid goodbye; `late`: all are cut.
  void say_goodbye(bool late);

  bool none_open() const { return open_.empty(); }
  bool whole() const;

 private:
  Connection* begin(Tenant& tenant, Connection::Welcome welcome);
  void turn_away(const WorkerMessage& message);
  std::unique_ptr<transport::Link> make_link(const WorkerMessage& message, Connection& connection);

  Worker& worker_;
  const WorkerOptions& options_;
  Pool<Connection> connections_;
  KnownClients clients_;
  ClientBoard board_;
  base::IntrusiveList<Connection, &Connection::dirty_link> dirty_;
  base::IntrusiveList<Connection, &Connection::dirty_link> stuck_;  ///< dirty, and no frame is free
  base::IntrusiveList<Connection, &Connection::reaping_link> reaping_;
  base::IntrusiveList<Connection, &Connection::worker_link> open_;
  bool frame_freed_ = false;
};

}  // namespace memkv::shard
