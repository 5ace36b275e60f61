#pragma once
/// Simulated queue pairs (RC) and what travels between them.

#include <infiniband/verbs.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <vector>

#include "sim/fabric.h"

namespace memkv::sim {

/// A work request of the send queue.
struct RdmaRequest {
  enum class Kind : uint8_t { kWrite, kRead, kSend } kind = Kind::kSend;
  uint64_t id = 0;
  bool signaled = false;
  std::vector<ibv_sge> pieces;
  uint64_t remote = 0;
  uint32_t key = 0;
  uint32_t imm = 0;        ///< as it is on the wire
  uint64_t due_ns = 0;     ///< it arrives at the peer's NIC
  bool arrived = false;    ///< the peer's NIC has taken it; its acknowledgement is on its way
  uint32_t rnr_tries = 0;  ///< times that the peer had no receive
};

struct RdmaReceive {
  uint64_t id = 0;
  ibv_sge piece{};
};

/// A queue pair.
struct RdmaPair : ibv_qp_ex {
  RdmaContext* owner = nullptr;
  ibv_qp_state now = IBV_QPS_RESET;
  unsigned access = 0;
  uint32_t sends_max = 0, receives_max = 0;
  ibv_gid peer_gid{};
  uint32_t peer = 0, send_psn = 0, receive_psn = 0;
  std::deque<RdmaReceive> receives;
  std::vector<RdmaRequest> batch;  ///< between wr_start and wr_complete
  std::deque<RdmaRequest> sends;
  uint64_t first_send = 0;  ///< number of sends.front()
  uint64_t last_due_ns = 0, last_end_ns = 0;
};

/// Delivers in the order of each queue pair. A NIC reads the memory of a request as late as it may: when the request
/// arrives, or a READ's answer. WRITEs and READs may show in part before. Thread: the world's.
class Wire {
 public:
  Wire(Fabric& fabric, Network& network) : fabric_(fabric), network_(network) {}
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  RdmaPair* make(RdmaContext& owner, const ibv_qp_init_attr_ex& attributes);
  void destroy(RdmaPair& pair);
  int modify(RdmaPair& pair, const ibv_qp_attr& attributes, int mask);
  int post(RdmaPair& pair, const ibv_recv_wr& receive);
  int post_batch(RdmaPair& pair);

  // Faults.
  /// What this context has is gone from the wire. Completions of what was posted come, flushed, or none come any more.
  void vanish(RdmaContext& context, bool flushes);
  /// A queue pair of the host fails by itself. False: it has none that is connected.
  bool break_pair(uint32_t host, uint64_t pick);
  /// That WRITEs, READs and SENDs moved.
  uint64_t bytes_moved() const { return bytes_moved_; }

 private:
  RdmaPair* find(uint32_t number) const;
  RdmaPair* peer_of(const RdmaPair& pair) const;
  uint64_t latency_ns();
  uint64_t dark_until_ns(const RdmaPair& pair) const;
  bool wait_for_light(RdmaPair& pair);
  void send(RdmaPair& pair, uint64_t number);
  void show_part(uint32_t name, uint64_t number);
  void retry_and_fail(RdmaPair& pair);
  void pump(RdmaPair& pair);
  bool arrive(RdmaPair& pair, RdmaPair& peer, RdmaRequest& request);
  bool take_send(RdmaPair& pair, RdmaPair& peer, RdmaRequest& request);
  void end(RdmaPair& pair, uint64_t number);
  bool move(RdmaPair& pair, RdmaPair& peer, const RdmaRequest& request, uint64_t bytes_max);
  void complete_front(RdmaPair& pair, ibv_wc_status status);
  void fail(RdmaPair& pair, ibv_wc_status status);
  void refuse(RdmaPair& pair, RdmaPair* peer, ibv_wc_status status, const char* what);
  void flush(RdmaPair& pair);

  Fabric& fabric_;
  Network& network_;
  std::map<uint32_t, RdmaPair*> pairs_;  // those on the wire, by number
  uint32_t next_number_ = 0x11;
  uint64_t bytes_moved_ = 0;
};

}  // namespace memkv::sim
