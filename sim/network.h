#pragma once
/// Simulated TCP between simulated hosts, and unix sockets within a machine. Bytes arrive in order within a connection;
/// connections have no order among them.

#include <netinet/in.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/reactor.h"
#include "sim/memory_files.h"
#include "sim/world.h"

namespace memkv::sim {

class Fabric;
class SimLoop;

/// Where servers have their unix sockets. On each machine it is another folder.
inline constexpr char kLocalFolder[] = "/sim/memkv";

/// How packets between two hosts travel. A change holds for what is sent from then on.
struct NetworkPlan {
  uint64_t latency_ns_min = 20 * kUs, latency_ns_max = 100 * kUs;
  uint64_t jitter_ns_max = 0;          ///< added to each packet by chance
  uint32_t window_bytes = 256 * 1024;  ///< the most that is sent and not yet read by the peer
  uint32_t packet_bytes_max = 64 * 1024;
  uint64_t bytes_per_s = 0;  ///< of each host's link, each way, for all its connections; 0: no limit
};

/// Thread: the world's.
class Network {
 public:
  static constexpr int kFirstFd = 1'000'000;
  static constexpr uint16_t kPort = 9900;

  explicit Network(World& world);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  NetworkPlan& plan() { return plan_; }
  Fabric& rdma() { return *rdma_; }
  /// The address of host n: 10.0.0.n.
  static sockaddr_in address(uint32_t host, uint16_t port);

  // What sockets do. Results are those of the system calls (>= 0, or -errno).
  int make_socket(uint32_t host);
  int make_listener(uint32_t host, uint16_t port);
  void close(int fd);
  void shut(int fd);
  /// What does not fit the window at once is lost.
  ssize_t send_now(int fd, iovec piece);
  int address_of(int fd, bool peer, sockaddr* out, socklen_t* length) const;

  // Unix sockets. What is sent has arrived at once, and no fault of a network ever touches it.
  int make_local_socket(uint32_t host);
  /// A listening socket with a file; both are gone after unlink_local(). A process that is killed leaves the file.
  int listen_local(uint32_t host, const std::string& path);
  void unlink_local(uint32_t host, const std::string& path);
  /// The process on `host` finds that file.
  bool finds(uint32_t host, const std::string& path) const;
  /// send() and sendmsg() with MSG_DONTWAIT. Descriptors that go along are named by their numbers.
  ssize_t send_local(int fd, std::span<const iovec> pieces, std::span<const int> descriptors);
  uint32_t peer_host(int fd) const;
  /// The process is on the same machine as host `machine`; else each has a machine of its own.
  void place(uint32_t host, uint32_t machine) { machines_[host] = machine; }
  MemoryFiles& memory() { return memory_; }

  // For loops. An op is parked at its socket until try_in() or try_out() can do it. `loop` is told when that may be.
  void park(io::IoOp& op, SimLoop& loop);
  void unpark(io::IoOp& op);
  /// Starts a connect. The outcome comes with the first try_out().
  void connect(int fd, const sockaddr* address, socklen_t length);
  /// Does what the op that is parked there can do now. False: it has to wait on. `op` is null if no op of this loop is
  /// parked there.
  bool try_in(int fd, const SimLoop& loop, io::IoOp*& op, int32_t& result);
  bool try_out(int fd, const SimLoop& loop, io::IoOp*& op, int32_t& result);

  // Faults.
  /// The process is gone, so the kernel closes its sockets. Its ops are forgotten.
  void kill_host(uint32_t host);
  /// The machine lost its power: nothing that it had open answers any more, and nobody is told.
  void cut_power(uint32_t host);
  void power_on(uint32_t host);
  /// Breaks all connections of the host now, for both ends.
  void reset_connections(uint32_t host);
  /// From now on, what one end of a connection sends is lost, and nobody is told. `pick` chooses the connection of this
  /// host.
  void make_half_open(uint32_t host, uint64_t pick);
  /// Nothing arrives from or at the host before that time. Then TCP sends it again.
  void blackhole_until(uint32_t host, uint64_t ns);
  uint64_t dark_until_ns(uint32_t host) const;
  size_t connections(uint32_t host) const;

 private:
  struct Socket {
    uint32_t host = 0;
    uint16_t port = 0;
    enum class State : uint8_t { kNew, kListening, kConnecting, kOpen, kRefused, kClosed } state = State::kNew;
    int peer = -1;
    bool shut = false;      ///< it sends nothing more; what arrives is dropped
    bool lossy = false;     ///< what it sends is lost
    bool vanished = false;  ///< its machine lost power
    bool end = false;       ///< the peer sends nothing more
    int error = 0;          ///< error of the connection, reported after what arrived is read
    std::deque<std::vector<std::byte>> arrived;
    size_t first_at = 0;  ///< how much of the first piece was read
    size_t arrived_bytes = 0;
    size_t in_flight = 0;  ///< sent by this end, not arrived yet
    uint64_t last_arrival_ns = 0;
    std::deque<int> backlog;  ///< for a listener: connections to accept
    io::IoOp* in = nullptr;
    io::IoOp* out = nullptr;
    SimLoop* in_loop = nullptr;
    SimLoop* out_loop = nullptr;
    bool local = false;                                              ///< a unix socket
    std::vector<std::shared_ptr<MemoryFiles::Description>> carried;  ///< descriptors that came with what arrived
  };

  Socket* find(int fd);
  const Socket* find(int fd) const;
  uint64_t arrival_ns(Socket& from, size_t bytes = 0);
  void transmit(int fd, std::vector<std::byte> bytes);
  void arrive(int from, int to, std::vector<std::byte> bytes);
  void tell_end(int fd, int error);
  void on_connected(int fd, uint32_t host, uint16_t port);
  void poke(int fd);
  int32_t receive(Socket& socket, io::IoOp& op);
  int32_t send(int fd, Socket& socket, const io::IoOp& op);
  bool is_dark(uint32_t host) const;
  uint32_t machine_of(uint32_t host) const;
  void connect_local(int fd, const std::string& path);
  void take_carried(Socket& socket, io::IoOp& op);

  World& world_;
  MemoryFiles memory_;
  std::unique_ptr<Fabric> rdma_;
  NetworkPlan plan_;
  std::vector<std::unique_ptr<Socket>> sockets_;
  std::map<std::pair<uint32_t, uint16_t>, int> listeners_;
  std::map<uint32_t, uint64_t> dark_until_ns_;  ///< until when a black hole holds, by host
  std::map<uint32_t, bool> off_;
  struct Link {
    uint64_t out_free_ns = 0, in_free_ns = 0;  ///< when what was sent so far has passed
  };
  std::map<uint32_t, Link> links_;  ///< by host; used where links have a rate
  std::map<uint32_t, uint32_t> machines_;
  std::map<std::pair<uint32_t, std::string>, int> local_files_;  ///< by machine and path: the listening socket
  uint16_t next_port_ = 20'000;
};

}  // namespace memkv::sim
