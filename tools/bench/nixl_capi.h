#pragma once
/// NIXL's C interface (libnixl_capi.so of an installed NIXL wheel), loaded at run time. Source: docs/nixl.md.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "memkv/error.h"

namespace memkv::bench {

/// The functions that the benchmark calls. Handles are opaque. Each function returns 0 (done), 1 (under way) or a
/// negative code.
struct NixlApi {
  using Handle = void*;
  int (*create_agent)(const char* name, Handle* agent);
  int (*destroy_agent)(Handle agent);
  int (*create_params)(Handle* params);
  int (*params_add)(Handle params, const char* key, const char* value);
  int (*destroy_params)(Handle params);
  int (*create_backend)(Handle agent, const char* name, Handle params, Handle* backend);
  int (*destroy_backend)(Handle backend);
  int (*create_opt_args)(Handle* args);
  int (*opt_args_add_backend)(Handle args, Handle backend);
  int (*destroy_opt_args)(Handle args);
  int (*create_reg_dlist)(int memory, Handle* list);
  int (*reg_dlist_add_desc)(Handle list, uintptr_t address, size_t bytes, uint64_t device, const void* meta,
                            size_t meta_bytes);
  int (*destroy_reg_dlist)(Handle list);
  int (*create_xfer_dlist)(int memory, Handle* list);
  int (*xfer_dlist_add_desc)(Handle list, uintptr_t address, size_t bytes, uint64_t device);
  int (*destroy_xfer_dlist)(Handle list);
  int (*register_mem)(Handle agent, Handle list, Handle args);
  int (*deregister_mem)(Handle agent, Handle list, Handle args);
  int (*create_xfer_req)(Handle agent, int operation, Handle local, Handle remote, const char* remote_agent,
                         Handle* request, Handle args);
  int (*post_xfer_req)(Handle agent, Handle request, Handle args);
  int (*get_xfer_status)(Handle agent, Handle request);
  int (*release_xfer_req)(Handle agent, Handle request);
  int (*destroy_xfer_req)(Handle request);
};

/// Looks for the library in `folder`, in MEMKV_NIXL_WHEEL, and in .venv-nixl of the source tree. Sets NIXL_PLUGIN_DIR
/// to a folder that holds `plugin` as the MEMKV backend. The library stays loaded.
Result<const NixlApi*, Message> load_nixl(const std::string& folder, const std::string& plugin_folder);

/// The plugin beside this program (build tree or installation), or empty.
std::string find_plugin();

/// One agent with a MEMKV backend, and the memory and objects that it moves bytes between. Thread: one.
class NixlAgent {
 public:
  using Params = std::map<std::string, std::string>;
  struct Object {
    uint64_t device = 0;
    std::string key;
    uint64_t bytes = 0;
  };
  static Result<std::unique_ptr<NixlAgent>, Message> make(const NixlApi& api, const std::string& name,
                                                          const Params& params, std::byte* memory, size_t bytes,
                                                          const std::vector<Object>& objects);
  ~NixlAgent();  ///< end its requests first
  NixlAgent(const NixlAgent&) = delete;
  NixlAgent& operator=(const NixlAgent&) = delete;

  struct Desc {
    std::byte* address;
    uint64_t device;  ///< device number of the object
  };
  /// One transfer of `descs`, each of `bytes` at the object's beginning. It can be posted any number of times.
  class Request {
   public:
    Request(NixlAgent& agent, bool write, const std::vector<Desc>& descs, size_t bytes);
    ~Request();
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;
    /// Posts it and polls to its end. False: it failed.
    bool run();

   private:
    NixlAgent& agent_;
    NixlApi::Handle request_ = nullptr;
  };

 private:
  NixlAgent(const NixlApi& api, std::string name) : api_(api), name_(std::move(name)) {}
  Result<void, Message> open(const Params& params, std::byte* memory, size_t bytes, const std::vector<Object>& objects);

  const NixlApi& api_;
  const std::string name_;
  NixlApi::Handle agent_ = nullptr, backend_ = nullptr, args_ = nullptr, memory_ = nullptr, objects_ = nullptr;
};

}  // namespace memkv::bench
