#include "engine.h"

#include <cerrno>
#include <cstring>
#include <exception>

#include "log.h"

namespace memkv::nixl {
namespace {

using abi::Status;

constexpr uint64_t kStopGraceNs = 1'000'000'000;  // past the deadline, for what cannot be stopped
constexpr auto kStopTurns = 3;                    // of a release, for a put that is about to leave the socket
LogLimit forks_logged{10'000'000'000};

Request& request_of(abi::RequestHandle* handle) { return *static_cast<Request*>(handle); }

/// Nothing that is thrown (no memory, no thread) crosses into NIXL.
Status failed(const char* what, const std::exception& e) {
  log_line(std::string(what) + ": " + e.what());
  return Status::kBackend;
}

}  // namespace

Engine::Engine(const abi::InitParams& init) : Backend(init) { open(); }

void Engine::refuse(const std::string& why) {
  log_line("backend " + type + " of agent '" + agent + "' cannot be made: " + why);
  metrics_file_.reset();  // it asks a driver
  drivers_.clear();
  init_error = true;
}

void Engine::open() {
  auto options = read_options(type, params);
  if (!options) return refuse(options.error().text);
  *options_ = std::move(*options);
  if (!options_->ignored.empty()) log_line("S3 parameters without a meaning here are ignored: " + options_->ignored);
  params = effective(*options_);
  registry_ = std::make_unique<Registry>(options_->key_prefix());
  shared_->planner =
      std::make_unique<Planner>(PlanOptions{.coalesce = options_->coalesce, .copies = {{{}, {}}, {{}, {}}}});
  movers_ = std::make_unique<LocalMovers>(uint64_t{options_->staging_mb} << 20);
  for (uint32_t i = 0; i < options_->io_threads; i++) {
    auto driver = Driver::open(options_->client);
    if (!driver) return refuse(driver.error().text);
    drivers_.push_back(std::move(*driver));
  }
  if (options_->metrics_file.empty()) return;
  metrics_file_ = std::make_unique<MetricsFile>(options_->metrics_file, agent, *counters_,
                                                [&first = *drivers_.front()] { return first.rail_counters(); });
  if (!metrics_file_->write_now()) {
    refuse("metrics_file " + options_->metrics_file + " cannot be written: " + std::strerror(errno));
  }
}

Engine::~Engine() {
  const bool forked = guard_.forked();  // the parent's threads are not here, and its locks may be held for good
  const bool quiet = !forked && stop_all([](const Work&) { return true; });
  if (!forked && !quiet) log_line("transfers under way cannot be stopped: they are left alone with all they need");
  if (!quiet) abandon();
  if (quiet && !init_error && options_->summary)
    log_line("backend " + type + " of agent '" + agent + "': " + summary(*counters_));
}

void Engine::abandon() {
  (void)metrics_file_.release();
  for (auto& driver : drivers_) (void)driver.release();
  (void)movers_.release();
  (void)shared_.release();
  (void)registry_.release();
  (void)counters_.release();
  (void)options_.release();
}

/// False: not within the deadline of a write and a second.
bool Engine::stop_all(const std::function<bool(const Work&)>& which) const {
  const uint64_t deadline_ns = monotonic_ns() + options_->timeout_ns(abi::Operation::kWrite) + kStopGraceNs;
  bool quiet = true;
  for (const auto& driver : drivers_) quiet = driver->stop_all(which, deadline_ns) && quiet;
  return quiet;
}

/// True, with a line that says so, in the child of a fork.
bool Engine::refuse_fork() const {
  if (!guard_.forked()) return false;
  uint64_t held_back = 0;
  if (forks_logged.pass(held_back)) {
    log_line("agent '" + agent + "' was made before fork(): the child has to make one of its own");
  }
  return true;
}

/// A thread keeps to one: its connections stay warm, and threads keep out of each other's way.
Driver& Engine::pick_driver() const {
  static std::atomic<size_t> threads{0};
  thread_local const size_t number = threads.fetch_add(1, std::memory_order_relaxed);
  return *drivers_[number % drivers_.size()];
}

std::vector<abi::Memory> Engine::getSupportedMems() const {
  return {abi::Memory::kDram, abi::Memory::kVram, abi::Memory::kObject};
}

// Registrations.

Status Engine::registerMem(const abi::BlobDesc& desc, const abi::Memory& memory, abi::Metadata*& out) try {
  out = nullptr;
  if (refuse_fork()) return Status::kBackend;
  switch (memory) {
    case abi::Memory::kDram:
      return register_dram(desc, out);
    case abi::Memory::kVram:
      return register_vram(desc, out);
    case abi::Memory::kObject:
      out = registry_->add_object(desc).release();
      return out ? Status::kSuccess : Status::kInvalidParam;
    default:
      return Status::kNotSupported;
  }
} catch (const std::exception& e) {
  return failed("memory cannot be registered", e);
}

/// NICs that do not take the memory (a limit of locked memory, say) are no reason to refuse it: all transports move it
/// without, rdma through slots.
Status Engine::register_dram(const abi::BlobDesc& desc, abi::Metadata*& out) {
  auto registration = Registry::add_memory(desc, MemoryKind::kHost);
  const auto added = add_regions(desc, memkv::MemoryKind::kHost, *registration);
  if (!added.ok() && added.error().status == memkv::Status::kInvalid) return Status::kInvalidParam;
  if (!added.ok() && !slots_told_.exchange(true)) {
    log_line(std::string("over rdma, host memory goes through slots: ") + added.error().what);
  }
  out = registration.release();
  return Status::kSuccess;
}

Status Engine::register_vram(const abi::BlobDesc& desc, abi::Metadata*& out) {
  const auto device = movers_->open_vram(desc.address, desc.device);
  if (!device.ok()) {
    log_line("VRAM cannot be registered: " + device.error().text);
    return device.error().status == memkv::Status::kInvalid ? Status::kInvalidParam : Status::kBackend;
  }
  auto registration = Registry::add_memory(desc, MemoryKind::kCuda);
  registration->device = *device;  // the memory's own, whatever number the caller has for it
  make_direct(desc, *registration);
  out = registration.release();
  return Status::kSuccess;
}

/// With the NICs, so that its bytes need no staging. Where that cannot be, they are staged as ever.
void Engine::make_direct(const abi::BlobDesc& desc, Registration& registration) {
  const auto added = add_regions(desc, memkv::MemoryKind::kCuda, registration);
  registration.direct = added.ok();
  if (added.ok() || staging_told_.exchange(true)) return;
  log_line(std::string("VRAM goes through host memory: ") + added.error().what);
}

/// With every driver's session, or with none.
Result<void> Engine::add_regions(const abi::BlobDesc& desc, memkv::MemoryKind kind, Registration& registration) {
  registration.regions.reserve(drivers_.size());
  for (const auto& driver : drivers_) {
    auto region =
        driver->register_memory(reinterpret_cast<void*>(desc.address), desc.length, kind, registration.device);
    if (!region) {
      release_regions(registration);
      return region.error();
    }
    registration.regions.push_back(std::move(*region));
  }
  return {};
}

/// Each belongs to a driver's session.
void Engine::release_regions(Registration& registration) {
  for (size_t i = 0; i < registration.regions.size(); i++) drivers_[i]->release(std::move(registration.regions[i]));
  registration.regions.clear();
}

Status Engine::deregisterMem(abi::Metadata* metadata) {
  if (metadata == nullptr) return Status::kSuccess;
  if (refuse_fork()) return Status::kBackend;
  const std::unique_ptr<Registration> registration(static_cast<Registration*>(metadata));
  const auto uses = [metadata](const Work& work) { return static_cast<const Request&>(work).uses(metadata); };
  const bool quiet = stop_all(uses);
  if (!quiet) log_line("transfers with memory that is deregistered could not be stopped in time");
  release_regions(*registration);
  return quiet ? Status::kSuccess : Status::kBackend;
}

Status Engine::loadLocalMD(abi::Metadata* in, abi::Metadata*& out) {
  out = in;
  return Status::kSuccess;
}

// Transfers.

Status Engine::prepXfer(const abi::Operation& operation, const abi::MetaList& local, const abi::MetaList& remote,
                        const std::string&, abi::RequestHandle*& handle, const abi::OptionalArgs*) const try {
  handle = nullptr;
  if (refuse_fork()) return Status::kBackend;
  if (const Status wrong = check_lists(local, remote); wrong != Status::kSuccess) return wrong;
  auto request = std::make_unique<Request>(operation, *options_, *counters_, pick_driver(), *movers_);
  {
    const std::lock_guard lock(shared_->planning);
    const uint64_t since = monotonic_ns();
    request->plan(*shared_->planner, local, remote);
    counters_->plan_ns.add(monotonic_ns() - since);
  }
  if (request->staged_write_bytes_max() > movers_->staging.bytes()) {
    log_line("a write of " + std::to_string(request->staged_write_bytes_max()) +
             " bytes from VRAM does not fit the staging memory: raise staging_mb, now " +
             std::to_string(options_->staging_mb));
    return Status::kInvalidParam;
  }
  handle = request.release();
  return Status::kSuccess;
} catch (const std::exception& e) {
  return failed("a transfer cannot be prepared", e);
}

Status Engine::postXfer(const abi::Operation&, const abi::MetaList&, const abi::MetaList&, const std::string&,
                        abi::RequestHandle*& handle, const abi::OptionalArgs*) const {
  if (refuse_fork()) return Status::kBackend;
  if (handle == nullptr) return Status::kInvalidParam;
  Request& request = request_of(handle);
  if (request.status() == Status::kInProgress) return Status::kRepostActive;
  request.set_posted();
  request.driver().start(request);
  return request.status();
}

Status Engine::checkXfer(abi::RequestHandle* handle) const {
  if (handle == nullptr) return Status::kInvalidParam;
  Request& request = request_of(handle);
  if (const Status status = request.status(); status != Status::kInProgress) return status;
  if (refuse_fork()) return Status::kBackend;
  request.driver().poll();
  return request.status();
}

/// May be refused once. An agent that is asked again forgets the request whatever is said then: so that waits.
Status Engine::releaseReqH(abi::RequestHandle* handle) const {
  if (handle == nullptr) return Status::kSuccess;
  if (guard_.forked()) return Status::kSuccess;  // the parent's: left as it is
  Request& request = request_of(handle);
  bool quiet = request.driver().stop(request);
  for (int turn = 0; !quiet && turn < kStopTurns; turn++) {
    request.driver().poll();
    quiet = request.driver().stop(request);
  }
  if (!quiet && request.refuse_release()) return Status::kRepostActive;
  if (!quiet && !stop_all([&](const Work& work) { return &work == &request; })) {
    log_line("a transfer that was released cannot be stopped: it is left alone with all it needs");
    return Status::kRepostActive;
  }
  delete &request;
  return Status::kSuccess;
}

// Questions.

Status Engine::queryMem(const abi::BlobList& list, abi::QueryResponse& out) const try {
  out.assign(list.descs.size(), std::nullopt);
  if (refuse_fork()) return Status::kBackend;
  if (list.memory != abi::Memory::kObject) return Status::kNotSupported;
  Batch batch;
  for (const abi::BlobDesc& desc : list.descs) batch.exists(registry_->key_of(desc), /*touch=*/true);
  std::vector<Outcome> outcomes;
  pick_driver().run(batch, Deadline(options_->timeout_ns(abi::Operation::kRead)), outcomes);
  counters_->queries.add();
  counters_->queried_keys.add(outcomes.size());
  for (size_t i = 0; i < outcomes.size(); i++) {
    if (!outcomes[i].exists) continue;
    out[i].emplace();
    counters_->found_keys.add();
  }
  return Status::kSuccess;
} catch (const std::exception& e) {
  return failed("keys cannot be asked for", e);
}

}  // namespace memkv::nixl
