#pragma once
/// The backend: what NIXL calls, on top of registry, drivers and requests.

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "abi.h"
#include "base/fork_guard.h"
#include "counters.h"
#include "driver.h"
#include "handle_table.h"
#include "local_movers.h"
#include "metrics_file.h"
#include "options.h"
#include "plan.h"
#include "registry.h"
#include "request.h"

namespace memkv::nixl {

/// What NIXL holds of a transfer.
struct TransferHandle final : abi::RequestHandle {
  std::unique_ptr<Request> request;  ///< null: there was no memory for it, and checkXfer says that it has failed
};

/// What comes back as an error from anything but checkXfer ends engines. So an error there means a bug of the caller
/// (or the child of a fork); what servers, drives, networks and the machine do, checkXfer tells. Thread: any, as NIXL's
/// sync modes allow: transfers and questions concurrently, registrations too.
class Engine final : public abi::Backend {
 public:
  explicit Engine(const abi::InitParams& init);
  ~Engine() override;

  bool supportsRemote() const override { return false; }
  bool supportsLocal() const override { return true; }
  bool supportsNotif() const override { return false; }
  std::vector<abi::Memory> getSupportedMems() const override;

  abi::Status registerMem(const abi::BlobDesc& desc, const abi::Memory& memory, abi::Metadata*& out) override;
  abi::Status deregisterMem(abi::Metadata* metadata) override;
  abi::Status connect(const std::string&) override { return abi::Status::kSuccess; }
  abi::Status disconnect(const std::string&) override { return abi::Status::kSuccess; }
  /// May come before deregisterMem or after it: nothing to do, and no look inside.
  abi::Status unloadMD(abi::Metadata*) override { return abi::Status::kSuccess; }
  abi::Status loadLocalMD(abi::Metadata* in, abi::Metadata*& out) override;

  abi::Status prepXfer(const abi::Operation& operation, const abi::MetaList& local, const abi::MetaList& remote,
                       const std::string& remote_agent, abi::RequestHandle*& handle,
                       const abi::OptionalArgs* args) const override;
  abi::Status postXfer(const abi::Operation& operation, const abi::MetaList& local, const abi::MetaList& remote,
                       const std::string& remote_agent, abi::RequestHandle*& handle,
                       const abi::OptionalArgs* args) const override;
  abi::Status checkXfer(abi::RequestHandle* handle) const override;
  abi::Status releaseReqH(abi::RequestHandle* handle) const override;
  abi::Status queryMem(const abi::BlobList& list, abi::QueryResponse& out) const override;

  const Counters& counters() const { return *counters_; }

 private:
  /// What several threads of const methods share.
  struct Shared {
    std::mutex planning;
    std::unique_ptr<Planner> planner;
  };

  void open();
  Result<void, Message> open_drivers();
  Result<void, Message> prove_credential();
  std::string names_hint() const;
  void refuse(const std::string& why);
  abi::Status register_object(const abi::BlobDesc& desc, abi::Metadata*& out);
  abi::Status register_dram(const abi::BlobDesc& desc, abi::Metadata*& out);
  abi::Status register_vram(const abi::BlobDesc& desc, abi::Metadata*& out);
  void make_direct(const abi::BlobDesc& desc, Registration& registration);
  Result<void> add_regions(const abi::BlobDesc& desc, memkv::MemoryKind kind, Registration& registration);
  void release_regions(Registration& registration);
  bool refuse_fork() const;
  bool all_live(Request& request) const;
  bool stop(Request& request) const;
  /// Null: there is no memory for it.
  Result<std::unique_ptr<Request>, abi::Status> make_request(const abi::Operation& operation,
                                                             const abi::MetaList& local,
                                                             const abi::MetaList& remote) const;
  void ask_for_keys(const abi::BlobList& list, abi::QueryResponse& out) const;
  Driver& pick_driver() const;
  bool stop_all(const std::function<bool(const Work&)>& which) const;
  void abandon();

  std::unique_ptr<Options> options_ = std::make_unique<Options>();
  const base::ForkGuard guard_;
  std::unique_ptr<Counters> counters_ = std::make_unique<Counters>();
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<HandleTable<TransferHandle>> transfers_ = std::make_unique<HandleTable<TransferHandle>>();
  std::unique_ptr<Shared> shared_ = std::make_unique<Shared>();
  std::unique_ptr<LocalMovers> movers_;
  std::vector<std::unique_ptr<Driver>> drivers_;
  std::unique_ptr<MetricsFile> metrics_file_;
  std::atomic<bool> staging_told_{false};  // why VRAM goes through host memory
  std::atomic<bool> slots_told_{false};    // why host memory goes through slots
};

}  // namespace memkv::nixl
