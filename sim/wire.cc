#include "sim/wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "sim/network.h"

namespace memkv::sim {
namespace {

/// A request that nobody acknowledges is sent again for so long; then its queue pair fails.
constexpr uint64_t kRetryNsMin = 250 * kMs, kRetryNsMax = 2500 * kMs;
constexpr uint64_t kRnrNs = 640 * kUs;
constexpr uint32_t kRnrTriesMax = 6;
constexpr uint64_t kPartBytesMin = 512;  // less comes whole

uint64_t bytes_of(const RdmaRequest& request) {
  uint64_t sum = 0;
  for (const ibv_sge& piece : request.pieces) sum += piece.length;
  return sum;
}

std::byte* at(uint64_t address) { return reinterpret_cast<std::byte*>(address); }

bool can_receive(const RdmaPair& pair) { return pair.now == IBV_QPS_RTR || pair.now == IBV_QPS_RTS; }

}  // namespace

// Queue pairs.

RdmaPair* Wire::make(RdmaContext& owner, const ibv_qp_init_attr_ex& attributes) {
  if (owner.vanished) return errno = EIO, nullptr;
  auto* pair = new RdmaPair{};
  pair->owner = &owner;
  pair->qp_base.context = &owner.extended.context;
  pair->qp_base.pd = attributes.pd;
  pair->qp_base.send_cq = attributes.send_cq;
  pair->qp_base.recv_cq = attributes.recv_cq;
  pair->qp_base.qp_num = next_number_++;
  pair->sends_max = attributes.cap.max_send_wr;
  pair->receives_max = attributes.cap.max_recv_wr;
  pairs_[pair->qp_base.qp_num] = pair;
  owner.objects++;
  return pair;
}

void Wire::destroy(RdmaPair& pair) {
  if (const auto found = pairs_.find(pair.qp_base.qp_num); found != pairs_.end() && found->second == &pair) {
    pairs_.erase(found);
  }
  pair.owner->objects--;
  delete &pair;
}

RdmaPair* Wire::find(uint32_t number) const {
  const auto found = pairs_.find(number);
  return found == pairs_.end() ? nullptr : found->second;
}

/// Null: nothing answers there.
RdmaPair* Wire::peer_of(const RdmaPair& pair) const {
  RdmaPair* peer = find(pair.peer);
  if (peer == nullptr || !can_receive(*peer) || peer->peer != pair.qp_base.qp_num) return nullptr;
  const bool same_address = std::memcmp(&peer->owner->device->gid, &pair.peer_gid, sizeof pair.peer_gid) == 0;
  return same_address && peer->receive_psn == pair.send_psn ? peer : nullptr;
}

int Wire::modify(RdmaPair& pair, const ibv_qp_attr& attributes, int mask) {
  if (pair.owner->vanished && attributes.qp_state != IBV_QPS_ERR) return EIO;
  switch (attributes.qp_state) {
    case IBV_QPS_INIT:
      pair.access = attributes.qp_access_flags;
      break;
    case IBV_QPS_RTR: {
      if (pair.now != IBV_QPS_INIT || (mask & IBV_QP_AV) == 0) return EINVAL;
      pair.peer = attributes.dest_qp_num;
      pair.peer_gid = attributes.ah_attr.grh.dgid;
      pair.receive_psn = attributes.rq_psn;
      // The peer's address has to be resolved, which needs the network.
      if (dark_until_ns(pair) > fabric_.world().now_ns() && fabric_.world().random().chance(1, 2)) return ETIMEDOUT;
      break;
    }
    case IBV_QPS_RTS:
      if (pair.now != IBV_QPS_RTR) return EINVAL;
      pair.send_psn = attributes.sq_psn;
      break;
    case IBV_QPS_ERR:
      if (pair.now != IBV_QPS_ERR) flush(pair);
      return 0;
    default:
      return EINVAL;
  }
  pair.now = attributes.qp_state;
  return 0;
}

int Wire::post(RdmaPair& pair, const ibv_recv_wr& receive) {
  MEMKV_ASSERT(receive.num_sge == 1 && receive.next == nullptr, "receives are of one piece");
  if (pair.now == IBV_QPS_RESET) return EINVAL;
  if (pair.owner->vanished && find(pair.qp_base.qp_num) == nullptr && pair.now != IBV_QPS_ERR) return 0;
  if (pair.receives.size() >= pair.receives_max) {
    fabric_.complain("more receives are posted than there is room for");
    return ENOMEM;
  }
  pair.receives.push_back({receive.wr_id, receive.sg_list[0]});
  if (pair.now == IBV_QPS_ERR) flush(pair);
  return 0;
}

int Wire::post_batch(RdmaPair& pair) {
  std::vector<RdmaRequest> batch = std::exchange(pair.batch, {});
  if (pair.now != IBV_QPS_RTS && pair.now != IBV_QPS_ERR) return EINVAL;
  if (pair.sends.size() + batch.size() > pair.sends_max) {
    fabric_.complain("more requests are posted than there is room for");
    return ENOMEM;
  }
  for (RdmaRequest& request : batch) {
    pair.sends.push_back(std::move(request));
    if (pair.now == IBV_QPS_RTS) send(pair, pair.first_send + pair.sends.size() - 1);
  }
  if (pair.now == IBV_QPS_ERR) flush(pair);
  return 0;
}

// The way there.

uint64_t Wire::latency_ns() {
  base::Random& random = fabric_.world().random();
  const NetworkPlan& plan = network_.plan();
  uint64_t ns = random.between(plan.latency_ns_min / 4, plan.latency_ns_max);
  if (plan.jitter_ns_max > 0) ns += random.below(plan.jitter_ns_max);
  return ns;
}

uint64_t Wire::dark_until_ns(const RdmaPair& pair) const {
  const RdmaPair* peer = find(pair.peer);
  return peer == nullptr ? 0 : fabric_.dark_until_ns(*pair.owner->device, *peer->owner->device);
}

/// Nothing passes now. Either it is over before the NIC has tried often enough, or the queue pair fails. True: wait.
bool Wire::wait_for_light(RdmaPair& pair) {
  World& world = fabric_.world();
  const uint64_t until = dark_until_ns(pair);
  if (until <= world.now_ns()) return false;
  const uint64_t tries_ns = world.random().between(kRetryNsMin, kRetryNsMax);
  if (until > world.now_ns() + tries_ns) {
    retry_and_fail(pair);
    return true;
  }
  const uint32_t number = pair.qp_base.qp_num;
  world.at(until + world.random().below(20 * kMs), [this, number] {
    if (RdmaPair* found = find(number)) pump(*found);
  });
  return true;
}

/// Nobody acknowledges the oldest request.
void Wire::retry_and_fail(RdmaPair& pair) {
  World& world = fabric_.world();
  const uint32_t number = pair.qp_base.qp_num;
  const uint64_t first = pair.first_send;
  world.after(world.random().between(kRetryNsMin, kRetryNsMax), [this, number, first] {
    RdmaPair* found = find(number);
    if (found != nullptr && found->first_send == first && found->now == IBV_QPS_RTS) fail(*found, IBV_WC_RETRY_EXC_ERR);
  });
}

/// Schedules the arrival of a request, and by chance that of a part of what it writes before.
void Wire::send(RdmaPair& pair, uint64_t number) {
  World& world = fabric_.world();
  RdmaRequest& request = pair.sends[number - pair.first_send];
  request.due_ns = pair.last_due_ns = std::max(world.now_ns() + latency_ns(), pair.last_due_ns);
  const uint32_t name = pair.qp_base.qp_num;
  world.at(request.due_ns, [this, name] {
    if (RdmaPair* found = find(name)) pump(*found);
  });
  if (request.kind != RdmaRequest::Kind::kWrite || bytes_of(request) < kPartBytesMin || !world.random().chance(1, 3))
    return;
  world.at(world.random().between(world.now_ns(), request.due_ns), [this, name, number] { show_part(name, number); });
}

/// Some packets of a WRITE are there before the rest.
void Wire::show_part(uint32_t name, uint64_t number) {
  RdmaPair* pair = find(name);
  if (pair == nullptr || pair->now != IBV_QPS_RTS || number < pair->first_send) return;
  const size_t place = number - pair->first_send;
  for (size_t i = 0; i < place; i++) {
    if (!pair->sends[i].arrived) return;
  }
  RdmaRequest& request = pair->sends[place];
  RdmaPair* peer = peer_of(*pair);
  if (request.arrived || peer == nullptr || dark_until_ns(*pair) > fabric_.world().now_ns()) return;
  (void)move(*pair, *peer, request, fabric_.world().random().below(bytes_of(request)));
}

/// Takes what has arrived, in order.
void Wire::pump(RdmaPair& pair) {
  World& world = fabric_.world();
  for (size_t i = 0; i < pair.sends.size() && pair.now == IBV_QPS_RTS; i++) {
    RdmaRequest& request = pair.sends[i];
    if (request.arrived) continue;
    if (request.due_ns > world.now_ns() || wait_for_light(pair)) return;
    RdmaPair* peer = peer_of(pair);
    if (peer == nullptr) return retry_and_fail(pair);
    if (!arrive(pair, *peer, request)) return;
    request.arrived = true;
    const uint64_t end_ns = pair.last_end_ns = std::max(world.now_ns() + latency_ns(), pair.last_end_ns);
    const uint32_t name = pair.qp_base.qp_num;
    world.at(end_ns, [this, name, number = pair.first_send + i] {
      if (RdmaPair* found = find(name)) end(*found, number);
    });
  }
}

/// At the peer's NIC. False: not now, or it failed.
bool Wire::arrive(RdmaPair& pair, RdmaPair& peer, RdmaRequest& request) {
  if (request.kind == RdmaRequest::Kind::kSend) return take_send(pair, peer, request);
  if (request.kind == RdmaRequest::Kind::kWrite) return move(pair, peer, request, UINT64_MAX);
  // The answer to a READ may come in parts, of which some are there already.
  const uint64_t bytes = bytes_of(request);
  const bool in_part = bytes >= kPartBytesMin && fabric_.world().random().chance(1, 2);
  return move(pair, peer, request, in_part ? fabric_.world().random().below(bytes) : 0);
}

bool Wire::take_send(RdmaPair& pair, RdmaPair& peer, RdmaRequest& request) {
  World& world = fabric_.world();
  if (peer.receives.empty()) {
    if (++request.rnr_tries > kRnrTriesMax) {
      fabric_.complain("a SEND found no receive");
      fail(pair, IBV_WC_RNR_RETRY_EXC_ERR);
      return false;
    }
    world.after(kRnrNs, [this, number = pair.qp_base.qp_num] {
      if (RdmaPair* found = find(number)) pump(*found);
    });
    return false;
  }
  const RdmaReceive receive = peer.receives.front();
  const uint64_t bytes = bytes_of(request);
  if (bytes > receive.piece.length) return refuse(pair, &peer, IBV_WC_REM_INV_REQ_ERR, "a SEND is too long"), false;
  if (!fabric_.find(receive.piece.lkey, peer.qp_base.pd, receive.piece.addr, bytes, IBV_ACCESS_LOCAL_WRITE)) {
    return refuse(pair, &peer, IBV_WC_REM_OP_ERR, "a receive's memory is not registered"), false;
  }
  uint64_t done = 0;
  for (const ibv_sge& piece : request.pieces) {
    if (!fabric_.find(piece.lkey, pair.qp_base.pd, piece.addr, piece.length, 0))
      return refuse(pair, nullptr, IBV_WC_LOC_PROT_ERR, "a SEND's memory is not registered"), false;
    if (piece.length > 0) std::memcpy(at(receive.piece.addr + done), at(piece.addr), piece.length);
    done += piece.length;
  }
  peer.receives.pop_front();
  bytes_moved_ += bytes;
  ibv_wc completion{};
  completion.wr_id = receive.id;
  completion.opcode = IBV_WC_RECV;
  completion.byte_len = static_cast<uint32_t>(bytes);
  completion.imm_data = request.imm;
  completion.wc_flags = IBV_WC_WITH_IMM;
  completion.qp_num = peer.qp_base.qp_num;
  fabric_.push(*static_cast<RdmaQueue*>(peer.qp_base.recv_cq), completion);
  return true;
}

/// Copies the first `bytes_max` bytes of a WRITE or READ. False: a key is wrong, and nothing was copied.
bool Wire::move(RdmaPair& pair, RdmaPair& peer, const RdmaRequest& request, uint64_t bytes_max) {
  const bool reads = request.kind == RdmaRequest::Kind::kRead;
  const int access = reads ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_WRITE;
  const uint64_t bytes = bytes_of(request);
  const bool allowed = (peer.access & static_cast<unsigned>(access)) != 0;
  if (!allowed || !fabric_.find(request.key, peer.qp_base.pd, request.remote, bytes, access)) {
    refuse(pair, &peer, IBV_WC_REM_ACCESS_ERR, reads ? "a READ of memory that is not registered" : "a WRITE to it");
    return false;
  }
  for (const ibv_sge& piece : request.pieces) {
    const int local = reads ? IBV_ACCESS_LOCAL_WRITE : 0;
    if (fabric_.find(piece.lkey, pair.qp_base.pd, piece.addr, piece.length, local) != nullptr) continue;
    refuse(pair, nullptr, IBV_WC_LOC_PROT_ERR, "the own memory of a request is not registered");
    return false;
  }
  uint64_t done = 0;
  for (const ibv_sge& piece : request.pieces) {
    const uint64_t count = std::min<uint64_t>(piece.length, bytes_max - done);
    if (count == 0) break;
    std::byte *here = at(piece.addr), *there = at(request.remote + done);
    reads ? std::memcpy(here, there, count) : std::memcpy(there, here, count);
    done += count;
  }
  bytes_moved_ += done;
  return true;
}

// The way back.

/// The acknowledgement of a request is there, or the answer of a READ: all before it are done as well.
void Wire::end(RdmaPair& pair, uint64_t number) {
  World& world = fabric_.world();
  if (pair.now != IBV_QPS_RTS || number < pair.first_send) return;
  if (const uint64_t until = dark_until_ns(pair); until > world.now_ns()) {
    if (until > world.now_ns() + world.random().between(kRetryNsMin, kRetryNsMax)) return retry_and_fail(pair);
    pair.last_end_ns = std::max(pair.last_end_ns, until);
    world.at(pair.last_end_ns, [this, name = pair.qp_base.qp_num, number] {
      if (RdmaPair* found = find(name)) end(*found, number);
    });
    return;
  }
  while (pair.first_send <= number) {
    MEMKV_ASSERT(pair.sends.front().arrived, "they arrive in order");
    if (pair.sends.front().kind == RdmaRequest::Kind::kRead) {
      RdmaPair* peer = peer_of(pair);
      if (peer == nullptr) return retry_and_fail(pair);
      if (!move(pair, *peer, pair.sends.front(), UINT64_MAX)) return;
    }
    complete_front(pair, IBV_WC_SUCCESS);
  }
}

void Wire::complete_front(RdmaPair& pair, ibv_wc_status status) {
  const RdmaRequest& request = pair.sends.front();
  if (request.signaled || status != IBV_WC_SUCCESS) {
    ibv_wc completion{};
    completion.wr_id = request.id;
    completion.status = status;
    completion.opcode = request.kind == RdmaRequest::Kind::kSend    ? IBV_WC_SEND
                        : request.kind == RdmaRequest::Kind::kWrite ? IBV_WC_RDMA_WRITE
                                                                    : IBV_WC_RDMA_READ;
    completion.qp_num = pair.qp_base.qp_num;
    fabric_.push(*static_cast<RdmaQueue*>(pair.qp_base.send_cq), completion);
  }
  pair.sends.pop_front();
  pair.first_send++;
}

/// The oldest request ends with that status, and all else that is posted is flushed. The peer is not told.
void Wire::fail(RdmaPair& pair, ibv_wc_status status) {
  fabric_.world().trace().add(fabric_.world().now_ns(),
                              fmt::format("rdma: queue pair {} of host {} fails: {}", pair.qp_base.qp_num,
                                          pair.owner->device->host, static_cast<int>(status)));
  if (!pair.sends.empty()) complete_front(pair, status);
  flush(pair);
}

void Wire::flush(RdmaPair& pair) {
  pair.now = IBV_QPS_ERR;
  while (!pair.sends.empty()) complete_front(pair, IBV_WC_WR_FLUSH_ERR);
  for (const RdmaReceive& receive : std::exchange(pair.receives, {})) {
    ibv_wc completion{};
    completion.wr_id = receive.id;
    completion.status = IBV_WC_WR_FLUSH_ERR;
    completion.opcode = IBV_WC_RECV;
    completion.qp_num = pair.qp_base.qp_num;
    fabric_.push(*static_cast<RdmaQueue*>(pair.qp_base.recv_cq), completion);
  }
}

/// No fault of this world gives wrong keys, so that is a mistake of the product.
void Wire::refuse(RdmaPair& pair, RdmaPair* peer, ibv_wc_status status, const char* what) {
  fabric_.complain(fmt::format("a NIC refuses a request of host {}: {}", pair.owner->device->host, what));
  fail(pair, status);
  if (peer != nullptr) flush(*peer);
}

// Faults.

void Wire::vanish(RdmaContext& context, bool flushes) {
  for (auto next = pairs_.begin(); next != pairs_.end();) {
    RdmaPair& pair = *next->second;
    next = pair.owner == &context ? pairs_.erase(next) : std::next(next);
    if (pair.owner == &context && flushes) flush(pair);
  }
}

bool Wire::break_pair(uint32_t host, uint64_t pick) {
  std::vector<RdmaPair*> connected;
  for (const auto& [number, pair] : pairs_) {
    if (pair->owner->device->host == host && pair->now == IBV_QPS_RTS) connected.push_back(pair);
  }
  if (connected.empty()) return false;
  fail(*connected[pick % connected.size()], IBV_WC_FATAL_ERR);
  return true;
}

}  // namespace memkv::sim
