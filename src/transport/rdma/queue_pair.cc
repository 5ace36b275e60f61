#include "transport/rdma/queue_pair.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"

namespace memkv::transport::rdma {
namespace {

constexpr uint64_t kSendId = uint64_t{1} << 32;
constexpr uint8_t kTimeout = 13;    // 4.096 us * 2^13 = 34 ms for an acknowledgement
constexpr uint8_t kRetries = 7;     // then the queue pair fails: a quarter of a second or more
constexpr uint8_t kRnrRetries = 6;  // credits see to it that none is needed
constexpr uint8_t kRnrTimer = 12;   // 0.64 ms
constexpr uint8_t kHopLimit = 64;
constexpr uint32_t kReadsMax = 16;

Message failed(const Device& device, const char* what, int error) {
  return {Status::kUnavailable, fmt::format("RDMA device {}: {}: {}", device.name(), what, std::strerror(error))};
}

}  // namespace

Result<std::unique_ptr<QueuePair>, Message> QueuePair::make(std::shared_ptr<Device> device, Role role, uint32_t psn) {
  std::unique_ptr<QueuePair> pair(new QueuePair(std::move(device), psn & 0xffffff));
  if (auto created = pair->create(); !created) return created.error();
  if (auto initial = pair->to_init(role); !initial) return initial.error();
  for (uint32_t i = 0; i < kRecvs; i++) {
    if (!pair->post_receive(i)) return failed(*pair->device_, "no receive can be posted", errno);
  }
  return pair;
}

/// Makes the queue pair with its completion queue and the registered memory for small messages, in the order in which
/// the verbs need one another. What was made before a failure is undone by the destructor.
Result<void, Message> QueuePair::create() {
  const Verbs& verbs = device_->verbs();
  constexpr size_t kBytes = size_t{kRecvs + kSends} * kMessageBytes;
  buffers_ = std::make_unique<std::byte[]>(kBytes);
  buffers_mr_ = verbs.reg_mr(device_->pd(), buffers_.get(), kBytes, IBV_ACCESS_LOCAL_WRITE);
  if (!buffers_mr_) return failed(*device_, "buffers cannot be registered (see ulimit -l)", errno);
  channel_ = verbs.create_comp_channel(device_->context());
  if (!channel_) return failed(*device_, "no completion channel", errno);
  const int flags = fcntl(channel_->fd, F_GETFL);
  if (flags < 0 || fcntl(channel_->fd, F_SETFL, flags | O_NONBLOCK) < 0) return failed(*device_, "no channel", errno);
  cq_ = verbs.create_cq(device_->context(), kRecvs + kRequestsMax, this, channel_, 0);
  if (!cq_) return failed(*device_, "no completion queue", errno);
  ibv_qp_init_attr_ex attributes{};
  attributes.send_cq = attributes.recv_cq = cq_;
  attributes.qp_type = IBV_QPT_RC;
  attributes.cap.max_send_wr = kRequestsMax;
  attributes.cap.max_recv_wr = kRecvs;
  attributes.cap.max_send_sge =
      std::min<uint32_t>(kPiecesPerRequestMax, static_cast<uint32_t>(device_->limits().max_sge));
  attributes.cap.max_recv_sge = 1;
  attributes.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  attributes.pd = device_->pd();
  attributes.send_ops_flags = IBV_QP_EX_WITH_RDMA_WRITE | IBV_QP_EX_WITH_RDMA_READ | IBV_QP_EX_WITH_SEND_WITH_IMM;
  qp_ = verbs.create_qp_ex(device_->context(), &attributes);
  if (!qp_) return failed(*device_, "no queue pair", errno);
  if (attributes.cap.max_send_sge < kPiecesPerRequestMax) return failed(*device_, "too few pieces a request", ENOTSUP);
  extended_ = verbs.qp_to_qp_ex(qp_);
  if (!extended_) return failed(*device_, "it does not take batches of work requests", ENOTSUP);
  return {};
}

QueuePair::~QueuePair() {
  const Verbs& verbs = device_->verbs();
  if (qp_) verbs.destroy_qp(qp_);
  if (cq_ && events_ > 0) verbs.ack_cq_events(cq_, events_);
  if (cq_) verbs.destroy_cq(cq_);
  if (channel_) verbs.destroy_comp_channel(channel_);
  if (buffers_mr_) verbs.dereg_mr(buffers_mr_);
}

Result<void, Message> QueuePair::to_init(Role role) {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.port_num = device_->address().port;
  attributes.qp_access_flags = IBV_ACCESS_LOCAL_WRITE;
  if (role == Role::kClient) attributes.qp_access_flags |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
  const int error = device_->verbs().modify_qp(qp_, &attributes,
                                               IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
  if (error != 0) return failed(*device_, "the queue pair cannot be made ready", error);
  return {};
}

wire::RdmaEnd QueuePair::local() const {
  const DeviceAddress& address = device_->address();
  wire::RdmaEnd end;
  end.queue_pair = qp_->qp_num;
  end.first_packet = psn_;
  end.gid = address.gid;
  end.lid = address.lid;
  end.mtu = static_cast<uint8_t>(address.mtu);
  end.ethernet = address.ethernet ? 1 : 0;
  end.receives = kRecvs;
  end.reads = static_cast<uint8_t>(std::clamp<int>(device_->limits().max_qp_rd_atom, 1, kReadsMax));
  end.message_bytes = kMessageBytes;
  return end;
}

Result<void, Message> QueuePair::connect(const wire::RdmaEnd& peer) {
  const wire::RdmaEnd own = local();
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_RTR;
  attributes.path_mtu = static_cast<ibv_mtu>(std::min(own.mtu, peer.mtu));
  attributes.dest_qp_num = peer.queue_pair;
  attributes.rq_psn = peer.first_packet;
  attributes.max_dest_rd_atomic = own.reads;
  attributes.min_rnr_timer = kRnrTimer;
  attributes.ah_attr.port_num = device_->address().port;
  attributes.ah_attr.dlid = peer.lid;
  attributes.ah_attr.is_global = own.ethernet;
  std::memcpy(attributes.ah_attr.grh.dgid.raw, peer.gid.data(), peer.gid.size());
  attributes.ah_attr.grh.sgid_index = static_cast<uint8_t>(device_->address().gid_index);
  attributes.ah_attr.grh.hop_limit = kHopLimit;
  int error = device_->verbs().modify_qp(qp_, &attributes,
                                         IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                                             IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  if (error != 0) {
    return Message{Status::kUnavailable, fmt::format("RDMA device {} does not reach {}: {}", device_->name(),
                                                     to_string(peer.gid), std::strerror(error))};
  }
  attributes = {};
  attributes.qp_state = IBV_QPS_RTS;
  attributes.timeout = kTimeout;
  attributes.retry_cnt = kRetries;
  attributes.rnr_retry = kRnrRetries;
  attributes.sq_psn = psn_;
  attributes.max_rd_atomic = std::min(own.reads, peer.reads);
  error = device_->verbs().modify_qp(
      qp_, &attributes,
      IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
  if (error != 0) return failed(*device_, "the queue pair cannot be made ready to send", error);
  return {};
}

void QueuePair::fail() {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  (void)device_->verbs().modify_qp(qp_, &attributes, IBV_QP_STATE);
}

void QueuePair::arm() { (void)ibv_req_notify_cq(cq_, 0); }

void QueuePair::read_events() {
  ibv_cq* cq = nullptr;
  void* context = nullptr;
  while (device_->verbs().get_cq_event(channel_, &cq, &context) == 0) events_++;
}

bool QueuePair::post_receive(uint32_t index) {
  ibv_sge piece{};
  piece.addr = reinterpret_cast<uint64_t>(receive_buffer(index));
  piece.length = kMessageBytes;
  piece.lkey = buffers_mr_->lkey;
  ibv_recv_wr request{};
  request.wr_id = index;
  request.sg_list = &piece;
  request.num_sge = 1;
  ibv_recv_wr* bad = nullptr;
  return ibv_post_recv(qp_, &request, &bad) == 0;
}

void QueuePair::write(std::span<const LocalPiece> from, uint64_t to, uint32_t remote_key) {
  std::array<ibv_sge, kPiecesPerRequestMax> pieces;
  for (size_t i = 0; i < from.size(); i++) {
    pieces[i] = {reinterpret_cast<uint64_t>(from[i].data), from[i].bytes, from[i].key};
  }
  extended_->wr_id = kSendId;
  extended_->wr_flags = 0;
  ibv_wr_rdma_write(extended_, remote_key, to);
  ibv_wr_set_sge_list(extended_, from.size(), pieces.data());
}

void QueuePair::read(const LocalPiece& into, uint64_t from, uint32_t remote_key, bool signaled) {
  extended_->wr_id = kSendId;
  extended_->wr_flags = signaled ? IBV_SEND_SIGNALED : 0;
  ibv_wr_rdma_read(extended_, remote_key, from);
  ibv_wr_set_sge(extended_, into.key, reinterpret_cast<uint64_t>(into.data), into.bytes);
}

void QueuePair::send(uint32_t index, uint32_t bytes, uint32_t imm) {
  extended_->wr_id = kSendId;
  extended_->wr_flags = IBV_SEND_SIGNALED;
  ibv_wr_send_imm(extended_, htonl(imm));
  if (bytes == 0) return ibv_wr_set_sge_list(extended_, 0, nullptr);
  ibv_wr_set_sge(extended_, buffers_mr_->lkey, reinterpret_cast<uint64_t>(send_buffer(index)), bytes);
}

}  // namespace memkv::transport::rdma
