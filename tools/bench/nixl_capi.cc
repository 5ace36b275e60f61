#include "tools/bench/nixl_capi.h"

#include <dlfcn.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace memkv::bench {
namespace {

namespace fs = std::filesystem;

constexpr int kDram = 0, kObject = 3, kRead = 0, kWrite = 1;
constexpr const char* kLibrary = "libnixl_capi.so";

fs::path own_folder() { return fs::read_symlink("/proc/self/exe").parent_path(); }

/// The newest wheel in the test environments of this source tree.
std::vector<fs::path> wheels_of_tree() {
  std::vector<fs::path> found;
  std::error_code ignored;
  const fs::path folder = own_folder().parent_path().parent_path().parent_path() / ".venv-nixl";
  for (const auto& entry : fs::directory_iterator(folder, ignored)) found.push_back(entry.path());
  std::sort(found.rbegin(), found.rend());
  return found;
}

/// Where the active python3 looks for packages. Empty if there is none.
std::vector<fs::path> python_path() {
  std::vector<fs::path> found;
  FILE* python = popen("python3 -c 'import sys; print(*filter(None, sys.path), sep=chr(10))' 2>/dev/null", "r");
  if (python == nullptr) return found;
  char line[PATH_MAX + 2];
  while (fgets(line, sizeof line, python) != nullptr) found.emplace_back(std::string(line, strcspn(line, "\n")));
  pclose(python);
  return found;
}

/// Finds the library, which lies in a hidden folder of the wheel.
fs::path library_in(const fs::path& folder) {
  std::error_code ignored;
  if (fs::exists(folder / kLibrary, ignored)) return folder / kLibrary;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (fs::exists(entry.path() / kLibrary, ignored)) return entry.path() / kLibrary;
  }
  return {};
}

/// Looks in `folder`, then in MEMKV_NIXL_WHEEL, then wherever a wheel is installed.
Result<fs::path, Message> find_library(const std::string& folder) {
  const char* variable = getenv("MEMKV_NIXL_WHEEL");
  const std::string named = !folder.empty() ? folder : variable != nullptr ? variable : "";
  std::vector<fs::path> places = named.empty() ? wheels_of_tree() : std::vector<fs::path>{named};
  if (named.empty()) {
    for (fs::path& place : python_path()) places.push_back(std::move(place));
  }
  for (const fs::path& place : places) {
    if (const fs::path library = library_in(place); !library.empty()) return library;
  }
  return Message{Status::kInvalid,
                 fmt::format("no {} in {}: install NIXL for this python3 (pip install nixl-cu12), or name the folder "
                             "of a wheel with --wheel or MEMKV_NIXL_WHEEL",
                             kLibrary, named.empty() ? "the packages of python3" : named)};
}

/// Resolves all functions. Returns the name of the first one that is missing, or empty.
std::string resolve(void* library, NixlApi& api) {
  std::string missing;
  const auto get = [&](auto& function, const char* name) {
    void* symbol = dlsym(library, (std::string("nixl_capi_") + name).c_str());
    if (symbol == nullptr && missing.empty()) missing = name;
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol);
  };
  get(api.create_agent, "create_agent"), get(api.destroy_agent, "destroy_agent");
  get(api.create_params, "create_params"), get(api.params_add, "params_add");
  get(api.destroy_params, "destroy_params");
  get(api.create_backend, "create_backend"), get(api.destroy_backend, "destroy_backend");
  get(api.create_opt_args, "create_opt_args"), get(api.destroy_opt_args, "destroy_opt_args");
  get(api.opt_args_add_backend, "opt_args_add_backend");
  get(api.create_reg_dlist, "create_reg_dlist"), get(api.reg_dlist_add_desc, "reg_dlist_add_desc");
  get(api.destroy_reg_dlist, "destroy_reg_dlist");
  get(api.create_xfer_dlist, "create_xfer_dlist"), get(api.xfer_dlist_add_desc, "xfer_dlist_add_desc");
  get(api.destroy_xfer_dlist, "destroy_xfer_dlist");
  get(api.register_mem, "register_mem"), get(api.deregister_mem, "deregister_mem");
  get(api.create_xfer_req, "create_xfer_req"), get(api.post_xfer_req, "post_xfer_req");
  get(api.get_xfer_status, "get_xfer_status");
  get(api.release_xfer_req, "release_xfer_req"), get(api.destroy_xfer_req, "destroy_xfer_req");
  return missing;
}

Message failed(const char* what, int code) {
  return {Status::kUnavailable, fmt::format("NIXL: {} failed ({}); NIXL_LOG_LEVEL=DEBUG says more", what, code)};
}

}  // namespace

std::string find_plugin() {
  for (const char* place : {"../lib/libplugin_MEMKV.so", "../lib/memkv/nixl/libplugin_MEMKV.so",
                            "../lib/x86_64-linux-gnu/memkv/nixl/libplugin_MEMKV.so"}) {
    std::error_code ignored;
    const fs::path path = fs::weakly_canonical(own_folder() / place, ignored);
    if (fs::exists(path, ignored)) return path;
  }
  return {};
}

Result<const NixlApi*, Message> load_nixl(const std::string& folder, const std::string& plugin_folder) {
  static NixlApi api;
  auto path = find_library(folder);
  if (!path) return path.error();
  setenv("NIXL_PLUGIN_DIR", plugin_folder.c_str(), 1);
  setenv("NIXL_LOG_LEVEL", "ERROR", 0);
  void* library = dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return Message{Status::kInvalid, fmt::format("{}: {}", path->string(), dlerror())};
  if (const std::string missing = resolve(library, api); !missing.empty()) {
    return Message{Status::kVersion,
                   fmt::format("{} has no nixl_capi_{}: NIXL 1.0 or newer is needed", path->string(), missing)};
  }
  return &api;
}

Result<std::unique_ptr<NixlAgent>, Message> NixlAgent::make(const NixlApi& api, const std::string& name,
                                                            const Params& params, std::byte* memory, size_t bytes,
                                                            const std::vector<Object>& objects) {
  std::unique_ptr<NixlAgent> agent(new NixlAgent(api, name));
  if (auto opened = agent->open(params, memory, bytes, objects); !opened) return opened.error();
  return agent;
}

Result<void, Message> NixlAgent::open(const Params& params, std::byte* memory, size_t bytes,
                                      const std::vector<Object>& objects) {
  NixlApi::Handle map = nullptr;
  if (int code = api_.create_agent(name_.c_str(), &agent_); code != 0) return failed("create_agent", code);
  if (int code = api_.create_params(&map); code != 0) return failed("create_params", code);
  for (const auto& [key, value] : params) api_.params_add(map, key.c_str(), value.c_str());
  const int made = api_.create_backend(agent_, "MEMKV", map, &backend_);
  api_.destroy_params(map);
  if (made != 0) return failed("create_backend MEMKV", made);
  if (int code = api_.create_opt_args(&args_); code != 0) return failed("create_opt_args", code);
  api_.opt_args_add_backend(args_, backend_);
  api_.create_reg_dlist(kDram, &memory_);
  api_.reg_dlist_add_desc(memory_, reinterpret_cast<uintptr_t>(memory), bytes, 0, "", 0);
  if (int code = api_.register_mem(agent_, memory_, args_); code != 0) return failed("register_mem", code);
  api_.create_reg_dlist(kObject, &objects_);
  for (const Object& object : objects)
    api_.reg_dlist_add_desc(objects_, 0, object.bytes, object.device, object.key.data(), object.key.size());
  if (int code = api_.register_mem(agent_, objects_, args_); code != 0) return failed("register_mem", code);
  return {};
}

NixlAgent::~NixlAgent() {
  for (NixlApi::Handle list : {objects_, memory_}) {
    if (list == nullptr) continue;
    api_.deregister_mem(agent_, list, args_);
    api_.destroy_reg_dlist(list);
  }
  if (args_ != nullptr) api_.destroy_opt_args(args_);
  if (backend_ != nullptr) api_.destroy_backend(backend_);
  if (agent_ != nullptr) api_.destroy_agent(agent_);
}

NixlAgent::Request::Request(NixlAgent& agent, bool write, const std::vector<Desc>& descs, size_t bytes)
    : agent_(agent) {
  const NixlApi& api = agent.api_;
  NixlApi::Handle local = nullptr, remote = nullptr;
  api.create_xfer_dlist(kDram, &local);
  api.create_xfer_dlist(kObject, &remote);
  for (const Desc& desc : descs) {
    api.xfer_dlist_add_desc(local, reinterpret_cast<uintptr_t>(desc.address), bytes, 0);
    api.xfer_dlist_add_desc(remote, 0, bytes, desc.device);
  }
  const int code = api.create_xfer_req(agent.agent_, write ? kWrite : kRead, local, remote, agent.name_.c_str(),
                                       &request_, agent.args_);
  if (code < 0) request_ = nullptr;
  api.destroy_xfer_dlist(local);
  api.destroy_xfer_dlist(remote);
}

NixlAgent::Request::~Request() {
  if (request_ == nullptr) return;
  agent_.api_.release_xfer_req(agent_.agent_, request_);
  agent_.api_.destroy_xfer_req(request_);
}

bool NixlAgent::Request::run() {
  if (request_ == nullptr) return false;
  int code = agent_.api_.post_xfer_req(agent_.agent_, request_, agent_.args_);
  while (code == 1) code = agent_.api_.get_xfer_status(agent_.agent_, request_);
  return code == 0;
}

}  // namespace memkv::bench
