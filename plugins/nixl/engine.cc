#include "engine.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>

#include "base/clock.h"
#include "log.h"

namespace memkv::nixl {
namespace {

using abi::Status;

constexpr uint64_t kStopGraceNs = 1'000'000'000;  // past the deadline, for what cannot be stopped
constexpr auto kStopTurns = 3;                    // of a release, for a put that is about to leave the socket
constexpr Deadline kProofWait{1'000'000'000};     // for servers to say what they think of the credential
base::LogLimiter forks_logged{10};
base::LogLimiter strangers_logged{1};
base::LogLimiter unasked_logged{1};
base::LogLimiter registrations_logged{1}, requests_logged{1}, questions_logged{1};

/// A bug of the caller: what it handed over was never given out here, or was given back already.
Status not_ours(const char* call, const char* what) {
  log_line_sometimes(strangers_logged, "{}: {}", call, what);
  return Status::kInvalidParam;
}

/// Nothing that is thrown (no memory, no thread) crosses into NIXL.
Status failed(base::LogLimiter& limit, const char* what, const std::exception& e) {
  log_line_sometimes(limit, "{}: {}", what, e.what());
  return Status::kBackend;
}

constexpr const char* kNoRegistration = "that is no live registration of this backend; nothing was done";
constexpr const char* kNoTransfer = "that is no live transfer of this backend; nothing was done";

}  // namespace

Engine::Engine(const abi::InitParams& init) : Backend(init) { open(); }

void Engine::refuse(const std::string& why) {
  log_line("backend {} of agent '{}' cannot be made: {}", type, agent, why);
  metrics_file_.reset();  // it asks a driver
  drivers_.clear();
  init_error = true;
}

void Engine::open() {
  auto options = read_options(type, params);
  if (!options) return refuse(options.error().text);
  *options_ = std::move(*options);
  if (!options_->ignored.empty()) log_line("S3 parameters without a meaning here are ignored: {}", options_->ignored);
  params = effective(*options_);
  registry_ = std::make_unique<Registry>(options_->key_prefix());
  shared_->planner =
      std::make_unique<Planner>(PlanOptions{.coalesce = options_->coalesce, .copies = {{{}, {}}, {{}, {}}}});
  movers_ = std::make_unique<LocalMovers>(uint64_t{options_->staging_mb} << 20);
  if (const auto opened = open_drivers(); !opened) return refuse(opened.error().text);
  if (const auto proved = prove_credential(); !proved) return refuse(proved.error().text);
  if (options_->metrics_file.empty()) return;
  metrics_file_ = std::make_unique<MetricsFile>(options_->metrics_file, agent, *counters_,
                                                [&first = *drivers_.front()] { return first.rail_counters(); });
  if (!metrics_file_->write_now()) {
    refuse("metrics_file " + options_->metrics_file + " cannot be written: " + std::strerror(errno));
  }
}

Result<void, Message> Engine::open_drivers() {
  for (uint32_t i = 0; i < options_->io_threads; i++) {
    auto driver = Driver::open(options_->client);
    if (!driver) return Message{driver.error().status, driver.error().text + names_hint()};
    drivers_.push_back(std::move(*driver));
  }
  return {};
}

std::string Engine::names_hint() const {
  return options_->object_storage ? " (under the name OBJ secret_key is auth_key, endpoint_override is servers)" : "";
}

/// A wrong credential is said here, where somebody looks, and not by misses for ever. Servers that are down, or say
/// nothing for a second, prove nothing and are no reason against the backend.
Result<void, Message> Engine::prove_credential() {
  const std::vector<memkv::Status> answers = drivers_.front()->ask_servers(kProofWait);
  for (size_t i = 0; i < answers.size(); i++) {
    if (answers[i] != memkv::Status::kUnauthorized) continue;
    const std::string who = "server " + options_->client.servers[i];
    const std::string what = options_->client.namespace_key.empty()
                                 ? " wants a credential: set auth_key or MEMKV_AUTH_KEY"
                                 : " does not accept the credential of auth_key (or MEMKV_AUTH_KEY)";
    return Message{answers[i],
                   who + what + ": 64 hex characters or @FILE, as `memkv setup` made them there" + names_hint()};
  }
  return {};
}

Engine::~Engine() {
  const bool forked = guard_.forked();  // the parent's threads are not here, and its locks may be held for good
  const bool quiet = !forked && stop_all([](const Work&) { return true; });
  if (!forked && !quiet) log_line("transfers under way cannot be stopped: they are left alone with all they need");
  if (!quiet) abandon();
  if (quiet && !init_error && options_->summary)
    log_line("backend {} of agent '{}': {}", type, agent, summary(*counters_));
}

void Engine::abandon() {
  (void)metrics_file_.release();
  for (auto& driver : drivers_) (void)driver.release();
  (void)movers_.release();
  (void)shared_.release();
  (void)transfers_.release();
  (void)registry_.release();
  (void)counters_.release();
  (void)options_.release();
}

/// False: not within the deadline of a write and a second.
bool Engine::stop_all(const std::function<bool(const Work&)>& which) const {
  const uint64_t deadline_ns =
      base::SystemClock().now_ns() + options_->timeout_ns(abi::Operation::kWrite) + kStopGraceNs;
  bool quiet = true;
  for (const auto& driver : drivers_) quiet = driver->stop_all(which, deadline_ns) && quiet;
  return quiet;
}

/// True, with a line that says so, in the child of a fork.
bool Engine::refuse_fork() const {
  if (!guard_.forked()) return false;
  log_line_sometimes(forks_logged, "agent '{}' was made before fork(): the child has to make one of its own", agent);
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
      return register_object(desc, out);
    default:
      return Status::kNotSupported;
  }
} catch (const std::exception& e) {
  return failed(registrations_logged, "memory cannot be registered", e);
}

Status Engine::register_object(const abi::BlobDesc& desc, abi::Metadata*& out) {
  out = registry_->add_object(desc).release();
  return out ? Status::kSuccess : Status::kInvalidParam;
}

/// NICs that do not take the memory (a limit of locked memory, say) are no reason to refuse it: all transports move it
/// without, rdma through slots.
Status Engine::register_dram(const abi::BlobDesc& desc, abi::Metadata*& out) {
  auto registration = registry_->add_memory(desc, MemoryKind::kHost);
  const auto added = add_regions(desc, memkv::MemoryKind::kHost, *registration);
  if (!added.ok() && added.error().status == memkv::Status::kInvalid) return Status::kInvalidParam;
  if (!added.ok() && !slots_told_.exchange(true)) {
    log_line("over rdma, host memory goes through slots: {}", added.error().what);
  }
  out = registration.release();
  return Status::kSuccess;
}

Status Engine::register_vram(const abi::BlobDesc& desc, abi::Metadata*& out) {
  const auto device = movers_->open_vram(desc.address, desc.device);
  if (!device.ok()) {
    log_line("VRAM cannot be registered: {}", device.error().text);
    return device.error().status == memkv::Status::kInvalid ? Status::kInvalidParam : Status::kBackend;
  }
  auto registration = registry_->add_memory(desc, MemoryKind::kCuda);
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
  log_line("VRAM goes through host memory: {}", added.error().what);
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
  Registration* registration = registry_->find(metadata);
  if (!registration) return not_ours("deregisterMem", kNoRegistration);
  const auto uses = [metadata](const Work& work) { return static_cast<const Request&>(work).planned().uses(metadata); };
  const bool quiet = stop_all(uses);
  if (!quiet) log_line("transfers with memory that is deregistered could not be stopped in time");
  release_regions(*registration);
  registry_->remove(*registration);
  return quiet ? Status::kSuccess : Status::kBackend;
}

Status Engine::loadLocalMD(abi::Metadata* in, abi::Metadata*& out) {
  if (!registry_->find(in)) return not_ours("loadLocalMD", kNoRegistration);
  out = in;
  return Status::kSuccess;
}

// Transfers.

/// Without memory for the request there is a handle all the same: posted, it has failed, and checkXfer says so.
Status Engine::prepXfer(const abi::Operation& operation, const abi::MetaList& local, const abi::MetaList& remote,
                        const std::string&, abi::RequestHandle*& handle, const abi::OptionalArgs*) const try {
  handle = nullptr;
  if (refuse_fork()) return Status::kBackend;
  const Status lists = check_lists(*registry_, local, remote);
  if (lists == Status::kInvalidParam) return lists;
  std::unique_ptr<Request> request;
  if (lists == Status::kSuccess) {
    auto made = make_request(operation, local, remote);
    if (!made) return made.error();
    request = std::move(*made);
  }
  TransferHandle& transfer = transfers_->take();
  transfer.request = std::move(request);
  handle = &transfer;
  return Status::kSuccess;
} catch (const std::exception& e) {
  return failed(requests_logged, "a transfer cannot be prepared", e);
}

Result<std::unique_ptr<Request>, Status> Engine::make_request(const abi::Operation& operation,
                                                              const abi::MetaList& local,
                                                              const abi::MetaList& remote) const try {
  auto request = std::make_unique<Request>(operation, *options_, *counters_, pick_driver(), *movers_);
  request->set_checked(registry_->removed());
  {
    const std::lock_guard lock(shared_->planning);
    const uint64_t since = base::SystemClock().now_ns();
    request->plan(*shared_->planner, local, remote);
    counters_->plan_ns.add(base::SystemClock().now_ns() - since);
  }
  if (request->planned().staged_write_bytes_max() > movers_->staging.bytes()) {
    log_line("a write of {} bytes from VRAM does not fit the staging memory: raise staging_mb, now {}",
             request->planned().staged_write_bytes_max(), options_->staging_mb);
    return Status::kInvalidParam;
  }
  return request;
} catch (const std::exception& e) {
  failed(requests_logged, "a transfer cannot be prepared, it will fail", e);
  return std::unique_ptr<Request>();
}

/// Looks again only when something was deregistered since.
bool Engine::all_live(Request& request) const {
  const uint64_t removed = registry_->removed();
  if (request.checked() == removed) return true;
  const auto live = [this](const abi::Metadata* one) { return registry_->find(one) != nullptr; };
  const auto registrations = request.planned().registrations();
  if (!std::all_of(registrations.begin(), registrations.end(), live)) return false;
  request.set_checked(removed);
  return true;
}

/// An error here ends engines (vLLM's core, for one): whatever has failed already, checkXfer tells it.
Status Engine::postXfer(const abi::Operation&, const abi::MetaList&, const abi::MetaList&, const std::string&,
                        abi::RequestHandle*& handle, const abi::OptionalArgs*) const {
  if (refuse_fork()) return Status::kBackend;
  TransferHandle* transfer = transfers_->find(handle);
  if (!transfer) return not_ours("postXfer", kNoTransfer);
  if (!transfer->request) return Status::kInProgress;
  Request& request = *transfer->request;
  if (request.status() == Status::kInProgress) return Status::kRepostActive;
  if (!all_live(request))
    return not_ours("postXfer", "its memory or an object of it was deregistered; nothing was done");
  request.set_posted();
  try {
    request.driver().start(request);
  } catch (const std::bad_alloc&) {
    request.fail_unstarted();
  }
  return request.status() == Status::kSuccess ? Status::kSuccess : Status::kInProgress;
}

Status Engine::checkXfer(abi::RequestHandle* handle) const {
  TransferHandle* transfer = transfers_->find(handle);
  if (!transfer) return not_ours("checkXfer", kNoTransfer);
  if (!transfer->request) return Status::kBackend;
  Request& request = *transfer->request;
  if (const Status status = request.status(); status != Status::kInProgress) return status;
  if (refuse_fork()) return Status::kBackend;
  request.driver().poll();
  return request.status();
}

/// May be refused once. An agent that is asked again forgets the request whatever is said then: so that waits.
Status Engine::releaseReqH(abi::RequestHandle* handle) const {
  if (handle == nullptr) return Status::kSuccess;
  if (guard_.forked()) return Status::kSuccess;  // the parent's: left as it is
  TransferHandle* transfer = transfers_->find(handle);
  if (!transfer) return not_ours("releaseReqH", kNoTransfer);
  if (transfer->request && !stop(*transfer->request)) return Status::kRepostActive;
  transfer->request.reset();
  transfers_->give_back(*transfer);
  return Status::kSuccess;
}

/// False: not yet.
bool Engine::stop(Request& request) const {
  bool quiet = request.driver().stop(request);
  for (int turn = 0; !quiet && turn < kStopTurns; turn++) {
    request.driver().poll();
    quiet = request.driver().stop(request);
  }
  if (quiet) return true;
  if (request.refuse_release()) return false;
  if (stop_all([&](const Work& work) { return &work == &request; })) return true;
  log_line("a transfer that was released cannot be stopped: it is left alone with all it needs");
  return false;
}

// Questions.

/// What cannot be asked for, whatever the reason, is not there: callers then compute it, or ask again.
Status Engine::queryMem(const abi::BlobList& list, abi::QueryResponse& out) const try {
  out.assign(list.descs.size(), std::nullopt);
  if (refuse_fork()) return Status::kBackend;
  if (list.memory != abi::Memory::kObject) return Status::kNotSupported;
  try {
    ask_for_keys(list, out);
  } catch (const std::exception& e) {
    failed(questions_logged, "keys cannot be asked for, they count as absent", e);
  }
  return Status::kSuccess;
} catch (const std::exception& e) {
  return failed(questions_logged, "keys cannot be asked for", e);
}

void Engine::ask_for_keys(const abi::BlobList& list, abi::QueryResponse& out) const {
  Batch batch;
  for (const abi::BlobDesc& desc : list.descs) batch.exists(registry_->key_of(desc), /*touch=*/true);
  std::vector<Outcome> outcomes;
  const Deadline deadline(options_->states_timeout() ? options_->timeout_ns(abi::Operation::kRead) : 0);
  pick_driver().run(batch, deadline, outcomes);
  counters_->queries.add();
  counters_->queried_keys.add(outcomes.size());
  size_t unasked = 0;
  for (size_t i = 0; i < outcomes.size(); i++) {
    unasked += outcomes[i].unreachable || is_failure(outcomes[i].status);
    if (!outcomes[i].exists) continue;
    out[i].emplace();
    counters_->found_keys.add();
  }
  counters_->unasked_keys.add(unasked);
  if (unasked == 0) return;
  log_line_sometimes(
      unasked_logged,
      "{} of {} keys could not be asked for and count as absent: their servers are down, or did not answer in time",
      unasked, outcomes.size());
}

}  // namespace memkv::nixl
