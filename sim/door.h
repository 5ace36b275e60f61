#pragma once
/// The door of a simulated server: the real handshake (transport::Acceptor) behind a simulated listening socket.

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "shard/worker.h"
#include "sim/loop.h"
#include "transport/link.h"
#include "transport/shm/budget.h"
#include "wire/handshake.h"

namespace memkv::sim {

/// Shared memory for clients on a server's machine.
struct ShmSpec {
  wire::Windows windows;
  uint64_t bytes_max = 0;  ///< of all windows together; 0: there is no shm
};

/// Does what server/door.cc does, without a thread or the limit of open files. Thread: the world's.
class Door {
 public:
  struct Credential {
    wire::KeyId id{};
    wire::Secret secret{};
    uint64_t namespace_id = 0;
  };
  Door(World& world, Network& network, uint32_t host, std::string name, uint64_t clock_offset_ns,
       std::vector<Credential> credentials, std::vector<shard::Worker*> workers);
  Door(const Door&) = delete;
  Door& operator=(const Door&) = delete;

  SimLoop& loop() { return loop_; }
  void stop();
  /// Lets clients in over a unix socket as well. The budget outlives all windows.
  void open_shm(const std::array<uint8_t, 16>& boot_id, const wire::Windows& windows, transport::ShmBudget& budget);
  /// Somebody removes the unix socket's file.
  void remove_socket();
  const std::string& socket_path() const { return shm_path_; }

 private:
  /// A listening socket, and the accept that is always under way there.
  struct Entrance {
    int listener = -1;
    io::IoOp op;
  };
  struct Guest {
    std::unique_ptr<transport::Acceptor> acceptor;
    bool shm = false;
  };
  void listen(Entrance& entrance);
  void stop(Entrance& entrance);
  void on_accepted(Entrance& entrance, int32_t result);
  void on_shaken(transport::Acceptor& acceptor, Result<transport::Acceptor::Accepted> accepted);
  bool add_window(const transport::Acceptor::Accepted& accepted, shard::WorkerMessage& message);
  void look_after_shm();
  static bool find_secret(void* context, const wire::KeyId& id, wire::Secret& out);

  Network& network_;
  SimLoop loop_;
  const std::string name_;
  const std::vector<Credential> credentials_;
  const std::vector<shard::Worker*> workers_;
  const uint32_t host_;
  Entrance tcp_, shm_;
  std::string shm_path_;
  wire::Windows windows_;
  transport::ShmBudget* budget_ = nullptr;
  io::Timer shm_timer_;
  bool stopping_ = false;
  std::vector<Guest> guests_;
};

}  // namespace memkv::sim
