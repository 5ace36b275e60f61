#pragma once
/// The door: a thread that accepts connections, shakes hands with their clients, and hands each one to a worker.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/intrusive_list.h"
#include "base/unique_fd.h"
#include "io/reactor.h"
#include "io/socket.h"
#include "memkv/error.h"
#include "server/shm_socket.h"
#include "shard/worker.h"
#include "transport/link.h"
#include "transport/shm/window.h"
#include "wire/handshake.h"

namespace memkv::server {

struct Credential {
  wire::KeyId id{};
  wire::Secret secret{};
  uint64_t namespace_id = 0;
};

struct DoorOptions {
  std::string host;
  uint16_t port = 0;
  std::string congestion;  ///< empty: the system's default
  std::string server_name;
  uint32_t half_open_max = 1024;  ///< connections in the handshake; beyond it the oldest is cut
  uint64_t handshake_ns = 5'000'000'000;
  wire::Windows windows;                       ///< sizes of the rings of each shm connection
  transport::ShmBudget* shm_budget = nullptr;  ///< must outlive the door
};

/// Accepts connections, runs their handshakes, makes shm windows, and pushes each connection to its worker's mailbox.
/// It has a thread of its own, since a handshake can be slow and a new window faults memory in: a worker must not wait
/// for either. Thread: its own (run()), except where a method says otherwise.
class Door {
 public:
  /// Binds the port. `workers` must outlive the door. `shm` may be empty: no shm connections. Thread: main.
  static Result<std::unique_ptr<Door>, Message> make(const DoorOptions& options, std::vector<Credential> credentials,
                                                     std::vector<shard::Worker*> workers, ShmSocket shm);
  ~Door();
  uint16_t port() const { return port_; }       ///< Thread: any
  int listen_fd() const { return tcp_.get(); }  ///< Thread: any
  void run();
  void stop();  ///< Thread: any
  uint64_t refused() const {
    return refused_.load(std::memory_order_relaxed);
  }  ///< handshakes that failed. Thread: any
  /// How many failed since their credential is unknown here or was not proved. Thread: any.
  uint64_t credentials_refused() const { return credentials_refused_.load(std::memory_order_relaxed); }
  uint32_t half_open() const { return half_open_.load(std::memory_order_relaxed); }  ///< Thread: any

 private:
  /// A connection in the handshake.
  struct Guest {
    Door* door = nullptr;
    std::unique_ptr<transport::Acceptor> acceptor;
    int fd = -1;  ///< the acceptor's descriptor, for cutting it
    bool shm = false;
    io::SocketAddress peer;
    wire::KeyId key_id{};  ///< the key id that it named
    bool named_a_key = false;
    bool key_is_known = false;
    base::ListLink<Guest> link;
  };

  Door(DoorOptions options, std::vector<Credential> credentials, std::vector<shard::Worker*> workers,
       std::unique_ptr<io::Reactor> reactor, base::UniqueFd tcp, ShmSocket shm);
  void listen();
  void on_accepted(io::IoOp& op, int32_t result);
  void admit(int fd, bool shm);
  void on_shaken(Guest& guest, Result<transport::Acceptor::Accepted> accepted);
  void hand_over(const transport::Acceptor::Accepted& accepted, bool shm);
  bool add_window(const transport::Acceptor::Accepted& accepted, shard::WorkerMessage& message);
  void look_after_shm();
  void cut_oldest();
  void tell_refused(const Guest& guest, const Error& why);
  static bool find_secret(void* context, const wire::KeyId& id, wire::Secret& out);

  const DoorOptions options_;
  const std::vector<Credential> credentials_;
  const std::vector<shard::Worker*> workers_;
  std::unique_ptr<io::Reactor> reactor_;
  base::UniqueFd tcp_;
  ShmSocket shm_;
  uint16_t port_ = 0;
  io::IoOp accept_tcp_, accept_shm_;
  io::Timer retry_timer_, shm_timer_;
  shard::Pool<Guest> guests_;
  base::IntrusiveList<Guest, &Guest::link> shaking_;  ///< oldest first
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> refused_{0};
  std::atomic<uint64_t> credentials_refused_{0};
  std::atomic<uint32_t> half_open_{0};
};

/// True if no other machine can reach `host`.
bool is_loopback(const std::string& host);

}  // namespace memkv::server
