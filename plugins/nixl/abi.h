#pragma once
/// The binary interface of a NIXL storage backend (NIXL 1.0 and later, LP64, Itanium C++ ABI, libstdc++'s new strings),
/// in our own words: NIXL's packages ship no headers, and the plugin links to nothing of theirs. Names of methods are
/// NIXL's, since the guide to a plugin speaks of them; everything else is layout.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace memkv::nixl::abi {

inline constexpr int kVersion = 1;

enum class Status : int32_t {
  kInProgress = 1,
  kSuccess = 0,
  kNotPosted = -1,
  kInvalidParam = -2,
  kBackend = -3,
  kNotFound = -4,
  kNotAllowed = -6,
  kRepostActive = -7,
  kNotSupported = -9,
  kCanceled = -11,
};
enum class Memory : int32_t { kDram = 0, kVram = 1, kBlock = 2, kObject = 3, kFile = 4 };
enum class Operation : int32_t { kRead = 0, kWrite = 1 };
enum class SyncMode : int32_t { kNone = 0, kStrict = 1, kReadWrite = 2 };

using Params = std::unordered_map<std::string, std::string>;
using QueryResponse = std::vector<std::optional<Params>>;
using Notifications = std::vector<std::pair<std::string, std::string>>;

/// What a registration left with the backend. NIXL carries the pointer and never looks inside.
struct Metadata {
  virtual ~Metadata() = default;
  bool is_private = true;
};

/// A prepared transfer, the backend's part. NIXL carries the pointer and never looks inside.
struct RequestHandle {
  virtual ~RequestHandle() = default;
};

struct BasicDesc {
  uintptr_t address = 0;  ///< of an object: the offset in it
  size_t length = 0;
  uint64_t device = 0;
};
/// A registration, or a question whether an object exists.
struct BlobDesc : BasicDesc {
  std::string meta_info;
};
/// One element of a transfer.
struct MetaDesc : BasicDesc {
  Metadata* metadata = nullptr;
};

/// NIXL's descriptor lists are polymorphic; a backend only reads them.
template <typename Desc>
struct DescList {
  const void* vtable = nullptr;
  Memory memory = Memory::kDram;
  std::vector<Desc> descs;
};
using MetaList = DescList<MetaDesc>;
using BlobList = DescList<BlobDesc>;

struct OptionalArgs {
  std::string notification;
  bool has_notification = false;
  std::string custom_param;
};

struct InitParams {
  std::string agent;
  std::string type;
  Params* params = nullptr;
  bool progress_thread = false;
  uint64_t progress_delay_us = 0;
  SyncMode sync_mode = SyncMode::kNone;
  bool telemetry = false;
};

/// The base of a backend: NIXL reads `type`, `params` and `init_error` in place and calls by vtable slot.
class Backend {
 public:
  explicit Backend(const InitParams& init)
      : type(init.type), params(init.params ? *init.params : Params{}), agent(init.agent), telemetry(init.telemetry) {}
  virtual ~Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  virtual bool supportsRemote() const = 0;
  virtual bool supportsLocal() const = 0;
  virtual bool supportsNotif() const = 0;
  virtual std::vector<Memory> getSupportedMems() const = 0;
  virtual Status registerMem(const BlobDesc& desc, const Memory& memory, Metadata*& out) = 0;
  virtual Status deregisterMem(Metadata* metadata) = 0;
  virtual Status connect(const std::string& remote_agent) = 0;
  virtual Status disconnect(const std::string& remote_agent) = 0;
  virtual Status unloadMD(Metadata* metadata) = 0;
  virtual Status prepXfer(const Operation& operation, const MetaList& local, const MetaList& remote,
                          const std::string& remote_agent, RequestHandle*& handle, const OptionalArgs* args) const = 0;
  virtual Status postXfer(const Operation& operation, const MetaList& local, const MetaList& remote,
                          const std::string& remote_agent, RequestHandle*& handle, const OptionalArgs* args) const = 0;
  virtual Status checkXfer(RequestHandle* handle) const = 0;
  virtual Status releaseReqH(RequestHandle* handle) const = 0;
  virtual Status prepRemoteMemView(const BlobList&, void*&, const OptionalArgs*) const { return Status::kNotSupported; }
  virtual Status prepLocalMemView(const MetaList&, void*&, const OptionalArgs*) const { return Status::kNotSupported; }
  virtual void releaseMemView(void*) const {}
  virtual Status getPublicData(const Metadata*, std::string&) const { return Status::kBackend; }
  virtual Status getConnInfo(std::string&) const { return Status::kBackend; }
  virtual Status loadRemoteConnInfo(const std::string&, const std::string&) { return Status::kBackend; }
  virtual Status loadRemoteMD(const BlobDesc&, const Memory&, const std::string&, Metadata*&) {
    return Status::kBackend;
  }
  virtual Status loadLocalMD(Metadata* in, Metadata*& out) = 0;
  virtual Status getNotifs(Notifications&) { return Status::kBackend; }
  virtual Status genNotif(const std::string&, const std::string&) const { return Status::kBackend; }
  virtual Status queryMem(const BlobList& list, QueryResponse& out) const = 0;
  virtual Status estimateXferCost(const Operation&, const MetaList&, const MetaList&, const std::string&,
                                  RequestHandle* const&, std::chrono::microseconds&, std::chrono::microseconds&,
                                  int32_t&, const void*) const {
    return Status::kNotSupported;
  }

  const std::string type;
  Params params;
  std::vector<uint64_t> events;  ///< never filled: nobody reads them
  std::mutex events_mutex;
  bool init_error = false;
  const std::string agent;
  const bool telemetry;
};

/// What nixl_plugin_init() gives.
struct Plugin {
  int version = kVersion;
  Backend* (*create)(const InitParams* init) = nullptr;
  void (*destroy)(Backend* backend) = nullptr;
  const char* (*name)() = nullptr;
  const char* (*plugin_version)() = nullptr;
  Params (*options)() = nullptr;
  std::vector<Memory> (*memories)() = nullptr;
};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
static_assert(sizeof(void*) == 8 && sizeof(std::string) == 32 && sizeof(Params) == 56 && sizeof(std::mutex) == 40);
static_assert(sizeof(std::vector<uint64_t>) == 24 && sizeof(std::optional<Params>) == 64);
static_assert(sizeof(Status) == 4 && sizeof(Memory) == 4 && sizeof(Operation) == 4 && sizeof(SyncMode) == 4);
static_assert(sizeof(Metadata) == 16 && offsetof(Metadata, is_private) == 8 && sizeof(RequestHandle) == 8);
static_assert(sizeof(BasicDesc) == 24 && offsetof(BasicDesc, address) == 0 && offsetof(BasicDesc, length) == 8 &&
              offsetof(BasicDesc, device) == 16);
static_assert(sizeof(BlobDesc) == 56 && offsetof(BlobDesc, meta_info) == 24);
static_assert(sizeof(MetaDesc) == 32 && offsetof(MetaDesc, metadata) == 24);
static_assert(sizeof(MetaList) == 40 && offsetof(MetaList, memory) == 8 && offsetof(MetaList, descs) == 16);
static_assert(sizeof(BlobList) == 40 && offsetof(BlobList, memory) == 8 && offsetof(BlobList, descs) == 16);
static_assert(sizeof(OptionalArgs) == 72 && offsetof(OptionalArgs, has_notification) == 32 &&
              offsetof(OptionalArgs, custom_param) == 40);
static_assert(sizeof(InitParams) == 96 && offsetof(InitParams, type) == 32 && offsetof(InitParams, params) == 64 &&
              offsetof(InitParams, progress_thread) == 72 && offsetof(InitParams, progress_delay_us) == 80 &&
              offsetof(InitParams, sync_mode) == 88 && offsetof(InitParams, telemetry) == 92);
static_assert(sizeof(Backend) == 208 && offsetof(Backend, type) == 8 && offsetof(Backend, params) == 40 &&
              offsetof(Backend, events) == 96 && offsetof(Backend, events_mutex) == 120 &&
              offsetof(Backend, init_error) == 160 && offsetof(Backend, agent) == 168 &&
              offsetof(Backend, telemetry) == 200);
static_assert(sizeof(Plugin) == 56 && offsetof(Plugin, create) == 8 && offsetof(Plugin, destroy) == 16 &&
              offsetof(Plugin, name) == 24 && offsetof(Plugin, plugin_version) == 32 &&
              offsetof(Plugin, options) == 40 && offsetof(Plugin, memories) == 48);
#pragma GCC diagnostic pop

}  // namespace memkv::nixl::abi
