#pragma once
/// The door of a simulated server: the real handshake (transport::Acceptor) behind a simulated listening socket.

#include <memory>
#include <string>
#include <vector>

#include "shard/worker.h"
#include "sim/loop.h"
#include "transport/link.h"
#include "wire/handshake.h"

namespace memkv::sim {

/// Does what server/door.cc does, without a thread, unix sockets or the limit of open files. Thread: the world's.
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

 private:
  void listen();
  void on_accepted(int32_t result);
  void on_shaken(transport::Acceptor& acceptor, Result<transport::Acceptor::Accepted> accepted);
  static bool find_secret(void* context, const wire::KeyId& id, wire::Secret& out);

  Network& network_;
  SimLoop loop_;
  const std::string name_;
  const std::vector<Credential> credentials_;
  const std::vector<shard::Worker*> workers_;
  int listener_ = -1;
  io::IoOp accept_;
  bool stopping_ = false;
  std::vector<std::unique_ptr<transport::Acceptor>> guests_;
};

}  // namespace memkv::sim
