#include "transport/rdma/verbs.h"

#include <dlfcn.h>

#include <cerrno>
#include <cstring>

namespace memkv::transport::rdma {
namespace {

constexpr const char* kLibrary = "libibverbs.so.1";

/// Takes functions out of a library; the first that is missing is kept for the message.
class Finder {
 public:
  explicit Finder(void* library) : library_(library) {}
  template <typename F>
  void find(F& function, const char* name, const char* version) {
    void* found = dlvsym(library_, name, version);
    if (!found) found = dlsym(library_, name);
    if (!found && !missing_) missing_ = name;
    std::memcpy(&function, &found, sizeof function);
  }
  /// Null where the library has it not.
  template <typename F>
  void find_optional(F& function, const char* name) {
    void* found = dlsym(library_, name);
    std::memcpy(&function, &found, sizeof function);
  }
  const char* missing() const { return missing_; }

 private:
  void* library_;
  const char* missing_ = nullptr;
};

struct Loaded {
  Verbs verbs{};
  std::string why_not;
};

/// Looks up libibverbs' functions by name and version at run time, so that a program of ours also runs on hosts without
/// RDMA. Missing ones are told in `why_not`.
Loaded load() {
  Loaded loaded;
  void* library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    loaded.why_not = std::string("this host has no ") + kLibrary + " (package rdma-core)";
    return loaded;
  }
  Finder finder(library);
  Verbs& v = loaded.verbs;
  finder.find(v.get_device_list, "ibv_get_device_list", "IBVERBS_1.1");
  finder.find(v.free_device_list, "ibv_free_device_list", "IBVERBS_1.1");
  finder.find(v.get_device_name, "ibv_get_device_name", "IBVERBS_1.1");
  finder.find(v.open_device, "ibv_open_device", "IBVERBS_1.1");
  finder.find(v.close_device, "ibv_close_device", "IBVERBS_1.1");
  finder.find(v.query_device, "ibv_query_device", "IBVERBS_1.1");
  finder.find(v.query_port, "ibv_query_port", "IBVERBS_1.1");
  finder.find(v.query_gid, "ibv_query_gid", "IBVERBS_1.1");
  finder.find(v.alloc_pd, "ibv_alloc_pd", "IBVERBS_1.1");
  finder.find(v.dealloc_pd, "ibv_dealloc_pd", "IBVERBS_1.1");
  finder.find(v.reg_mr, "ibv_reg_mr", "IBVERBS_1.1");
  finder.find_optional(v.reg_dmabuf_mr, "ibv_reg_dmabuf_mr");
  finder.find(v.dereg_mr, "ibv_dereg_mr", "IBVERBS_1.1");
  finder.find(v.create_comp_channel, "ibv_create_comp_channel", "IBVERBS_1.0");
  finder.find(v.destroy_comp_channel, "ibv_destroy_comp_channel", "IBVERBS_1.0");
  finder.find(v.create_cq, "ibv_create_cq", "IBVERBS_1.1");
  finder.find(v.destroy_cq, "ibv_destroy_cq", "IBVERBS_1.1");
  finder.find(v.get_cq_event, "ibv_get_cq_event", "IBVERBS_1.1");
  finder.find(v.ack_cq_events, "ibv_ack_cq_events", "IBVERBS_1.1");
  finder.find(v.modify_qp, "ibv_modify_qp", "IBVERBS_1.1");
  finder.find(v.destroy_qp, "ibv_destroy_qp", "IBVERBS_1.1");
  finder.find(v.qp_to_qp_ex, "ibv_qp_to_qp_ex", "IBVERBS_1.6");
  finder.find(v.get_async_event, "ibv_get_async_event", "IBVERBS_1.1");
  finder.find(v.ack_async_event, "ibv_ack_async_event", "IBVERBS_1.1");
  finder.find(v.wc_status_str, "ibv_wc_status_str", "IBVERBS_1.1");
  if (finder.missing()) {
    loaded.why_not = std::string(kLibrary) + " is too old: it has no " + finder.missing();
  }
  return loaded;
}

}  // namespace

ibv_qp* Verbs::create_qp_ex(ibv_context* context, ibv_qp_init_attr_ex* attributes) const {
  verbs_context* extended = verbs_get_ctx_op(context, create_qp_ex);
  if (!extended) return errno = EOPNOTSUPP, nullptr;
  return extended->create_qp_ex(context, attributes);
}

int Verbs::port_attributes(ibv_context* context, uint8_t port, ibv_port_attr* attributes) const {
  verbs_context* extended = verbs_get_ctx_op(context, query_port);
  if (extended) return extended->query_port(context, port, attributes, sizeof *attributes);
  std::memset(attributes, 0, sizeof *attributes);
  return query_port(context, port, reinterpret_cast<_compat_ibv_port_attr*>(attributes));
}

Result<const Verbs*, Message> load_verbs() {
  static Loaded loaded = load();
  if (!loaded.why_not.empty()) return Message{Status::kUnavailable, loaded.why_not};
  return &loaded.verbs;
}

}  // namespace memkv::transport::rdma
