#pragma once
/// libibverbs, found at run time: the same program runs on hosts without rdma-core. Nothing of the library is linked;
/// what its header defines inline (posting, polling) goes through the function table of the opened device.

#include <infiniband/verbs.h>

#include <string>

#include "memkv/error.h"

namespace memkv::transport::rdma {

/// The functions that libibverbs exports, with the versions that this code was written against. The simulator has a
/// table of its own, which leads to simulated devices. Thread: any.
struct Verbs {
  ibv_device** (*get_device_list)(int* count);
  void (*free_device_list)(ibv_device** list);
  const char* (*get_device_name)(ibv_device* device);
  ibv_context* (*open_device)(ibv_device* device);
  int (*close_device)(ibv_context* context);
  int (*query_device)(ibv_context* context, ibv_device_attr* attributes);
  int (*query_port)(ibv_context* context, uint8_t port, _compat_ibv_port_attr* attributes);
  int (*query_gid)(ibv_context* context, uint8_t port, int index, ibv_gid* gid);
  ibv_pd* (*alloc_pd)(ibv_context* context);
  int (*dealloc_pd)(ibv_pd* pd);
  ibv_mr* (*reg_mr)(ibv_pd* pd, void* address, size_t length, int access);
  /// Null: the library is older than 34. Tests put a stand-in here.
  ibv_mr* (*reg_dmabuf_mr)(ibv_pd* pd, uint64_t offset, size_t length, uint64_t iova, int fd, int access);
  int (*dereg_mr)(ibv_mr* mr);
  ibv_comp_channel* (*create_comp_channel)(ibv_context* context);
  int (*destroy_comp_channel)(ibv_comp_channel* channel);
  ibv_cq* (*create_cq)(ibv_context* context, int entries, void* cq_context, ibv_comp_channel* channel, int vector);
  int (*destroy_cq)(ibv_cq* cq);
  int (*get_cq_event)(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context);
  void (*ack_cq_events)(ibv_cq* cq, unsigned int count);
  int (*modify_qp)(ibv_qp* qp, ibv_qp_attr* attributes, int mask);
  int (*destroy_qp)(ibv_qp* qp);
  ibv_qp_ex* (*qp_to_qp_ex)(ibv_qp* qp);
  int (*get_async_event)(ibv_context* context, ibv_async_event* event);
  void (*ack_async_event)(ibv_async_event* event);
  const char* (*wc_status_str)(ibv_wc_status status);

  ibv_qp* create_qp_ex(ibv_context* context, ibv_qp_init_attr_ex* attributes) const;  ///< null: errno says why
  int port_attributes(ibv_context* context, uint8_t port, ibv_port_attr* attributes) const;
};

/// Loads the library once per process; the failure is a sentence for humans. Thread: any.
Result<const Verbs*, Message> load_verbs();

}  // namespace memkv::transport::rdma
