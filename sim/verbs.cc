/// What programs call of libibverbs, over the simulated fabric.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "sim/calls.h"
#include "sim/fabric.h"
#include "sim/wire.h"

namespace memkv::sim {
namespace {

RdmaPair& pair_of(ibv_qp* pair) { return *static_cast<RdmaPair*>(reinterpret_cast<ibv_qp_ex*>(pair)); }
RdmaPair& pair_of(ibv_qp_ex* pair) { return *static_cast<RdmaPair*>(pair); }
RdmaQueue& queue_of(ibv_cq* queue) { return *static_cast<RdmaQueue*>(queue); }

// Devices.

ibv_device** get_device_list(int* count) {
  const std::vector<RdmaDevice*> there = fabric().devices_of(host_now());
  auto** list = new ibv_device*[there.size() + 1]();
  std::copy(there.begin(), there.end(), list);
  *count = static_cast<int>(there.size());
  return list;
}

void free_device_list(ibv_device** list) { delete[] list; }
const char* get_device_name(ibv_device* device) { return device->name; }

int poll_cq(ibv_cq* queue, int count, ibv_wc* out) {
  RdmaQueue& own = queue_of(queue);
  int taken = 0;
  for (; taken < count && !own.done.empty(); taken++) {
    out[taken] = own.done.front();
    own.done.pop_front();
  }
  return taken;
}

int req_notify_cq(ibv_cq* queue, int) {
  queue_of(queue).armed = true;
  return 0;
}

int post_recv(ibv_qp* pair, ibv_recv_wr* receive, ibv_recv_wr**) {
  return fabric().wire().post(pair_of(pair), *receive);
}

// Posting.

RdmaRequest& add(ibv_qp_ex* pair, RdmaRequest::Kind kind) {
  RdmaRequest request;
  request.kind = kind;
  request.id = pair->wr_id;
  request.signaled = (pair->wr_flags & IBV_SEND_SIGNALED) != 0;
  return pair_of(pair).batch.emplace_back(std::move(request));
}

void add_one_sided(ibv_qp_ex* pair, RdmaRequest::Kind kind, uint32_t key, uint64_t address) {
  RdmaRequest& request = add(pair, kind);
  request.key = key;
  request.remote = address;
}

void give_functions(RdmaPair& pair) {
  pair.wr_start = [](ibv_qp_ex* qp) { MEMKV_ASSERT(pair_of(qp).batch.empty(), "one batch at a time"); };
  pair.wr_complete = [](ibv_qp_ex* qp) { return fabric().wire().post_batch(pair_of(qp)); };
  pair.wr_abort = [](ibv_qp_ex* qp) { pair_of(qp).batch.clear(); };
  pair.wr_rdma_write = [](ibv_qp_ex* qp, uint32_t key, uint64_t address) {
    add_one_sided(qp, RdmaRequest::Kind::kWrite, key, address);
  };
  pair.wr_rdma_read = [](ibv_qp_ex* qp, uint32_t key, uint64_t address) {
    add_one_sided(qp, RdmaRequest::Kind::kRead, key, address);
  };
  pair.wr_send_imm = [](ibv_qp_ex* qp, __be32 imm) { add(qp, RdmaRequest::Kind::kSend).imm = imm; };
  pair.wr_set_sge = [](ibv_qp_ex* qp, uint32_t key, uint64_t address, uint32_t bytes) {
    pair_of(qp).batch.back().pieces = {{address, bytes, key}};
  };
  pair.wr_set_sge_list = [](ibv_qp_ex* qp, size_t count, const ibv_sge* pieces) {
    pair_of(qp).batch.back().pieces.assign(pieces, pieces + count);
  };
}

ibv_qp* create_qp_ex(ibv_context* context, ibv_qp_init_attr_ex* attributes) {
  RdmaPair* pair = fabric().wire().make(context_of(context), *attributes);
  if (pair == nullptr) return nullptr;
  give_functions(*pair);
  return &pair->qp_base;
}

int query_port(ibv_context*, uint8_t, ibv_port_attr* out, size_t bytes) {
  std::memset(out, 0, bytes);
  out->state = IBV_PORT_ACTIVE;
  out->link_layer = IBV_LINK_LAYER_ETHERNET;
  out->active_mtu = IBV_MTU_4096;
  out->gid_tbl_len = 1;
  return 0;
}

ibv_context* open_device(ibv_device* device) {
  RdmaContext* context = fabric().open(*static_cast<RdmaDevice*>(device));
  if (context == nullptr) return nullptr;
  context->extended.sz = sizeof context->extended;
  context->extended.create_qp_ex = create_qp_ex;
  context->extended.query_port = query_port;
  ibv_context& plain = context->extended.context;
  plain.device = device;
  plain.abi_compat = __VERBS_ABI_IS_EXTENDED;
  plain.async_fd = Fabric::kFirstFd;
  plain.ops.poll_cq = poll_cq;
  plain.ops.req_notify_cq = req_notify_cq;
  plain.ops.post_recv = post_recv;
  return &plain;
}

int query_device(ibv_context*, ibv_device_attr* out) {
  *out = {};
  out->max_sge = 30;
  out->max_qp_rd_atom = 16;
  return 0;
}

int query_gid(ibv_context* context, uint8_t, int, ibv_gid* out) {
  *out = context_of(context).device->gid;
  return 0;
}

int get_async_event(ibv_context* context, ibv_async_event* event) {
  if (!std::exchange(context_of(context).tells_fatal, false)) return errno = EAGAIN, -1;
  event->event_type = IBV_EVENT_DEVICE_FATAL;
  return 0;
}

// What is made on a device.

ibv_pd* alloc_pd(ibv_context* context) {
  auto* pd = new ibv_pd{};
  pd->context = context;
  return pd;
}

int dealloc_pd(ibv_pd* pd) {
  delete pd;
  return 0;
}

ibv_mr* reg_mr(ibv_pd* pd, void* data, size_t size, int access) {
  return fabric().register_memory(*pd, data, size, access);
}

int dereg_mr(ibv_mr* memory) {
  fabric().deregister(*static_cast<RdmaMemory*>(memory));
  return 0;
}

ibv_comp_channel* create_comp_channel(ibv_context* context) { return fabric().make_channel(context_of(context)); }

int destroy_comp_channel(ibv_comp_channel* channel) {
  fabric().destroy(*static_cast<RdmaChannel*>(channel));
  return 0;
}

ibv_cq* create_cq(ibv_context* context, int entries, void* cq_context, ibv_comp_channel* channel, int) {
  auto* queue = new RdmaQueue{};
  queue->context = context;
  queue->owner = &context_of(context);
  queue->cq_context = cq_context;
  queue->channel = channel;
  queue->cqe = entries;
  queue->owner->objects++;
  return queue;
}

int destroy_cq(ibv_cq* cq) {
  RdmaQueue& queue = queue_of(cq);
  if (queue.events_taken != queue.events_acknowledged) fabric().complain("events of a queue are not acknowledged");
  std::erase(static_cast<RdmaChannel*>(queue.channel)->events, &queue);
  queue.owner->objects--;
  delete &queue;
  return 0;
}

int get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** context) {
  auto& events = static_cast<RdmaChannel*>(channel)->events;
  if (events.empty()) return errno = EAGAIN, -1;
  RdmaQueue* queue = events.front();
  events.pop_front();
  queue->events_taken++;
  *cq = queue;
  *context = queue->cq_context;
  return 0;
}

int destroy_qp(ibv_qp* pair) {
  fabric().wire().destroy(pair_of(pair));
  return 0;
}

}  // namespace

/// The whole table, in the order of the struct.
const transport::rdma::Verbs& Fabric::verbs() {
  static const transport::rdma::Verbs kTable = {
      .get_device_list = get_device_list,
      .free_device_list = free_device_list,
      .get_device_name = get_device_name,
      .open_device = open_device,
      .close_device = [](ibv_context* context) { return fabric().close(context_of(context)), 0; },
      .query_device = query_device,
      .query_port = nullptr,
      .query_gid = query_gid,
      .alloc_pd = alloc_pd,
      .dealloc_pd = dealloc_pd,
      .reg_mr = reg_mr,
      .reg_dmabuf_mr = nullptr,
      .dereg_mr = dereg_mr,
      .create_comp_channel = create_comp_channel,
      .destroy_comp_channel = destroy_comp_channel,
      .create_cq = create_cq,
      .destroy_cq = destroy_cq,
      .get_cq_event = get_cq_event,
      .ack_cq_events = [](ibv_cq* queue, unsigned int count) { queue_of(queue).events_acknowledged += count; },
      .modify_qp = [](ibv_qp* pair, ibv_qp_attr* attributes,
                      int mask) { return fabric().wire().modify(pair_of(pair), *attributes, mask); },
      .destroy_qp = destroy_qp,
      .qp_to_qp_ex = [](ibv_qp* pair) -> ibv_qp_ex* { return &pair_of(pair); },
      .get_async_event = get_async_event,
      .ack_async_event = [](ibv_async_event*) {},
      .wc_status_str = [](ibv_wc_status status) { return status == IBV_WC_WR_FLUSH_ERR ? "flushed" : "it failed"; },
  };
  return kTable;
}

}  // namespace memkv::sim
