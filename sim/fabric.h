#pragma once
/// Simulated RDMA: the devices of simulated hosts, and what processes open on them. Queue pairs and what travels between
/// them are in sim/wire.h. docs/simulator.md

#include <infiniband/verbs.h>
#include <sys/epoll.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/reactor.h"
#include "sim/world.h"
#include "transport/rdma/verbs.h"

namespace memkv::sim {

class Network;
class SimLoop;
class Wire;

/// A device of a host, as long as it is there. One that comes back is another one.
struct RdmaDevice : ibv_device {
  uint32_t host = 0, rail = 0;
  ibv_gid gid{};
  bool present = true;
};

/// An opened device. `vanished`: the device went, or the process died. Then nothing of it is on the wire any more.
struct RdmaContext {
  verbs_context extended{};
  RdmaDevice* device = nullptr;
  bool vanished = false;
  bool tells_fatal = false;  ///< an event that nobody has read says that the device is gone
  size_t objects = 0;        ///< queue pairs, completion queues and channels that are not destroyed
};

struct RdmaMemory : ibv_mr {
  int access = 0;
};

struct RdmaQueue;

/// A channel, by its virtual descriptor.
struct RdmaChannel : ibv_comp_channel {
  RdmaContext* owner = nullptr;
  std::deque<RdmaQueue*> events;
};

/// A completion queue.
struct RdmaQueue : ibv_cq {
  RdmaContext* owner = nullptr;
  std::deque<ibv_wc> done;
  bool armed = false;
  unsigned events_taken = 0, events_acknowledged = 0;
};

inline constexpr uint64_t kHelperLateNsMax = 3 * kSecond;  ///< what a helper thread does takes no longer

/// What may be wrong with the RDMA of a host, until then.
struct RdmaFaults {
  uint64_t helpers_late_until_ns = 0;    ///< what blocks takes up to seconds
  uint64_t no_memory_until_ns = 0;       ///< no memory can be registered
  std::map<uint32_t, uint64_t> dark_ns;  ///< by rail: nothing passes until then
};

/// Stands in for libibverbs, the kernel and the NICs of all hosts. A key that it does not know, or one of another
/// process, fails the queue pair that names it and touches nothing. Thread: the world's.
class Fabric {
 public:
  static constexpr int kFirstFd = 500'000'000;

  Fabric(World& world, Network& network);
  ~Fabric();
  Fabric(const Fabric&) = delete;
  Fabric& operator=(const Fabric&) = delete;

  /// The functions that lead here. A process of the host that use_host() named calls them.
  static const transport::rdma::Verbs& verbs();
  Wire& wire() { return *wire_; }
  World& world() { return world_; }

  // Hosts and their devices.
  void add_device(uint32_t host, uint32_t rail);
  /// The kernel takes the device away. By chance it says so with an event, too.
  void remove_device(uint32_t host, uint32_t rail);
  /// The kernel shows this device's node to programs.
  bool has_node(std::string_view name) const;
  uint32_t rails(uint32_t host) const;  ///< that the host has, or had
  std::vector<RdmaDevice*> devices_of(uint32_t host) const;
  RdmaFaults& faults(uint32_t host) { return faults_[host]; }
  /// Until when nothing passes between these two devices.
  uint64_t dark_until_ns(const RdmaDevice& a, const RdmaDevice& b) const;
  /// All processes of the host are gone: the kernel destroys what they had. Its ops are forgotten.
  void kill_host(uint32_t host);
  void heal(uint32_t host);
  /// A process that has no device at its start, or no memory for it, has no RDMA all its life. So those have.
  void prepare_start(uint32_t host);
  /// Queue pairs, completion queues and channels that processes of the host have not destroyed.
  size_t objects_of(uint32_t host) const;

  /// The first thing that a NIC or the kernel had to refuse and that no fault explains. Empty: nothing.
  const std::string& complaint() const { return complaint_; }
  void complain(std::string what);

  // Contexts and memory.
  RdmaContext* open(RdmaDevice& device);
  void close(RdmaContext& context);
  ibv_mr* register_memory(ibv_pd& pd, void* data, size_t size, int access);
  void deregister(RdmaMemory& memory);
  /// Null: no such key, it is of another protection domain, does not cover the range, or does not allow this.
  RdmaMemory* find(uint32_t key, const ibv_pd* pd, uint64_t address, uint64_t bytes, int access);

  // Channels, and epoll instances over them.
  RdmaChannel* make_channel(RdmaContext& owner);
  void destroy(RdmaChannel& channel);
  void push(RdmaQueue& queue, const ibv_wc& completion);
  int make_epoll();
  int control_epoll(int epoll, int op, int fd, const epoll_event* event);
  int wait_epoll(int epoll, epoll_event* events, int count) const;
  void close_epoll(int fd);
  /// Completes the op once the instance has something.
  void watch(io::IoOp& op, SimLoop& loop);
  void unwatch(io::IoOp& op);

 private:
  struct Watched {
    int fd;
    void* data;
  };
  struct Epoll {
    std::vector<Watched> channels;
    io::IoOp* op = nullptr;
    SimLoop* loop = nullptr;
  };
  bool is_ready(const Epoll& epoll) const;
  void wake(int channel_fd);

  World& world_;
  std::unique_ptr<Wire> wire_;
  Network& network_;
  std::map<uint32_t, std::vector<RdmaDevice*>> devices_;  // null: not there now. Devices are never freed
  std::map<uint32_t, RdmaFaults> faults_;
  std::vector<RdmaContext*> contexts_;
  std::map<uint32_t, RdmaMemory*> keys_;
  std::map<int, RdmaChannel*> channels_;
  std::map<int, Epoll> epolls_;
  int next_fd_ = kFirstFd;
  uint32_t next_key_ = 0, next_node_ = 0;
  std::string complaint_;
};

inline RdmaContext& context_of(ibv_context* context) {
  return *reinterpret_cast<RdmaContext*>(reinterpret_cast<char*>(context) - offsetof(verbs_context, context));
}

}  // namespace memkv::sim
