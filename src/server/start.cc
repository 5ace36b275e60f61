/// `memkv start`: wires all parts of the server together. Nothing else in the program does.

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>
#include <utility>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pause.h"
#include "base/random.h"
#include "base/standard_streams.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "io/congestion.h"
#include "io/limits.h"
#include "io/socket.h"
#include "server/budget.h"
#include "server/door.h"
#include "server/drive_losses.h"
#include "server/options.h"
#include "server/own_credential.h"
#include "server/ready_file.h"
#include "server/server.h"
#include "server/shm_socket.h"
#include "server/slots.h"
#include "server/start_options.h"
#include "server/status.h"
#include "server/storage.h"
#include "shard/worker.h"
#include "transport/rdma/devices.h"
#include "transport/shm/window.h"

namespace memkv::server {
namespace {

constexpr int kExitConfig = 2;  // what the user wrote is wrong
constexpr int kExitFailed = 5;  // the machine could not do it
constexpr uint64_t kProgressNs = 3 * base::kNsPerSecond;
constexpr uint64_t kStopNsMax = 25 * base::kNsPerSecond;
constexpr int kPollMs = 200;
constexpr int kPollMsReady = 1000;  // what happens wakes it; each look without need is CPU time of an idle server

int fail(int code, const std::string& text) {
  constexpr uint32_t kPatienceMs = 1000;  // how long a message waits for its reader at the end
  (void)base::write_stderr(fmt::format("memkv start: {}\n", text), kPatienceMs);
  return code;
}

/// Makes a worker's reactor. `epoll_told`: the log already says that a worker runs without io_uring.
Result<std::unique_ptr<io::Reactor>, Message> make_reactor(io::ReactorKind kind, bool& epoll_told) {
  std::string why_not;
  const io::ReactorOptions options{.kind = kind, .ops_max = 16384, .device_threads = 4};
  auto reactor = io::make_reactor(options, &why_not);
  if (!reactor) {
    const std::string why = why_not.empty() ? std::strerror(reactor.error().sys_errno) : why_not;
    return Message{reactor.error().status, fmt::format("io: {}: {}", reactor.error().what, why)};
  }
  if (!why_not.empty() && !std::exchange(epoll_told, true)) {
    MEMKV_LOG(kWarn, "io_uring is not available ({}): running on epoll and threads, which costs CPU", why_not);
  }
  return std::move(reactor).value();
}

/// The running server: owns all parts, starts them in order and stops them in the opposite order.
/// open() says the order. Thread: main, except the static callbacks.
class Server {
 public:
  Server(Options options, const StartOptions& start) : options_(std::move(options)), start_(start) {}
  ~Server();
  int run();

 private:
  int open();
  int prepare();
  int make_drive();
  void remove_unused_drive();
  int open_storage();
  void open_rdma();
  int make_workers();
  int open_door();
  Result<void, Message> plan(uint32_t workers);
  wire::Windows windows() const {
    return {.get_ring_bytes = options_.shm.ring_bytes, .put_ring_bytes = options_.shm.ring_bytes};
  }
  Result<void> start_threads();
  int serve();
  int stop(int code);
  void read_signals(int timeout_ms);
  bool all(shard::Worker::State state) const;
  void report_progress();
  bool report_ready();
  static void on_change(void* context);

  Options options_;
  const StartOptions& start_;
  io::HostPort bind_;
  base::UniqueFd signals_, events_;
  std::unique_ptr<Storage> storage_;
  uint32_t workers_wanted_ = 1;
  Budget budget_;
  shard::Identity identity_;
  StatusSources sources_;
  DriveLosses losses_{sources_, events_};
  std::unique_ptr<transport::rdma::Devices> rdma_;    // null: no RDMA here; the workers use it, so it outlives them
  std::unique_ptr<transport::ShmBudget> shm_budget_;  ///< outlives the workers and the door
  std::vector<std::unique_ptr<shard::Worker>> workers_;
  std::vector<Credential> credentials_;
  std::unique_ptr<Door> door_;
  std::vector<std::thread> threads_;  ///< one for each worker
  std::thread door_thread_;
  bool stop_wanted_ = false;
  bool drive_is_new_ = false;  ///< this start made the file of the embedded default
  uint64_t next_progress_ns_ = 0;
  base::SystemClock clock_;
};

Server::~Server() { MEMKV_ASSERT(threads_.empty() && !door_thread_.joinable(), "stop() joins them"); }

int Server::run() {
  int code = open();
  if (code == 0) code = serve();
  if (code != 0) remove_unused_drive();
  return code;
}

int Server::open() {
  if (const int code = prepare(); code != 0) return code;
  if (const int code = make_drive(); code != 0) return code;
  if (const int code = open_storage(); code != 0) return code;
  open_rdma();
  if (const int code = make_workers(); code != 0) return code;
  if (const int code = open_door(); code != 0) return code;
  if (const auto started = start_threads(); !started) {
    // Nothing was acknowledged yet, and workers that run would wait for the missing ones: the process ends here.
    const int code =
        fail(kExitFailed, fmt::format("{}: {}", std::strerror(started.error().sys_errno), started.error().what));
    if (!sources_.shm_socket.empty()) ::unlink(sources_.shm_socket.c_str());
    remove_unused_drive();
    _exit(code);
  }
  return 0;
}

int Server::make_drive() {
  if (!is_embedded(start_)) return 0;
  const auto go_on = [](uint64_t, uint64_t, void* self) {
    static_cast<Server*>(self)->read_signals(0);
    return !static_cast<Server*>(self)->stop_wanted_;
  };
  const auto made = make_default_drive(go_on, this);
  if (!made) return fail(kExitFailed, made.error().text);
  drive_is_new_ = *made;
  return 0;
}

/// Removes the file that this start made, if no client has used it. The server still holds the file's lock meanwhile.
void Server::remove_unused_drive() {
  uint64_t ops = 0;
  for (const auto& worker : workers_) ops += worker->stats().ops.load(std::memory_order_relaxed);
  if (drive_is_new_ && ops == 0) remove_default_drive();
}

/// Starts the workers' threads, then the door: whoever is let in finds a worker that runs.
Result<void> Server::start_threads() {
  MEMKV_ASSERT(threads_.empty() && door_ != nullptr && !workers_.empty(), "open() makes them before");
  for (auto& worker : workers_) {
    auto thread =
        base::start_thread(fmt::format("memkv-worker-{}", worker->index()).c_str(), [&w = *worker] { w.run(); });
    if (!thread) return thread.error();
    threads_.push_back(std::move(*thread));
  }
  auto thread = base::start_thread("memkv-door", [this] { door_->run(); });
  if (!thread) return thread.error();
  door_thread_ = std::move(*thread);
  return {};
}

/// What must be done before the first thread starts: block signals, since threads inherit that, and settle the address.
/// An address that other machines can reach needs a credential. Returns an exit code; 0: go on.
int Server::prepare() {
  base::set_log_level(options_.log_level.value_or(base::LogLevel::kInfo));
  ::signal(SIGPIPE, SIG_IGN);
  io::raise_open_files();
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);  // before the first thread, since threads inherit it
  signals_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  events_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!signals_ || !events_) return fail(kExitFailed, fmt::format("no signalfd or eventfd: {}", std::strerror(errno)));
  auto bind = io::parse_host_port(options_.address);
  if (!bind) return fail(kExitConfig, fmt::format("network.address {}: {}", options_.address, bind.error().text));
  bind_ = std::move(bind).value();
  if (options_.namespaces.empty() && !is_loopback(bind_.host)) {
    return fail(
        kExitConfig,
        fmt::format("network.address {} can be reached from other machines and there is no credential: "
                    "set network.auth_key (64 hex digits or @FILE; `memkv setup` makes one), or listen on 127.0.0.1",
                    options_.address));
  }
  sources_.started_ns = clock_.now_ns();
  sources_.started_wall_s = clock_.wall_s();
  return 0;
}

int Server::open_storage() {
  const bool epoll =
      options_.io == io::ReactorKind::kEpoll || (options_.io == io::ReactorKind::kAuto && !io::uring_usable(nullptr));
  auto workers = choose_workers(options_, io::process_limits(), epoll);
  if (!workers) return fail(kExitConfig, workers.error().text);
  workers_wanted_ = *workers;
  auto storage = Storage::open(options_, workers_wanted_);
  if (!storage)
    return fail(storage.error().status == Status::kInvalid ? kExitConfig : kExitFailed, storage.error().text);
  storage_ = std::move(storage).value();
  for (const std::string& name : storage_->missing()) {
    MEMKV_LOG(kWarn, "degraded: missing {}: its blocks are misses", name);
  }
  if (options_.namespaces.empty()) options_.namespaces.push_back({"default", local_credential(options_, bind_.port)});
  for (const NamespaceOption& space : options_.namespaces) {
    auto id = storage_->namespace_id(space.name);
    if (!id) return fail(kExitFailed, id.error().text);
    credentials_.push_back({wire::key_id_of(space.secret), space.secret, *id});
  }
  return 0;
}

/// Opens RDMA, once for all workers. If that fails, clients come over the other transports.
void Server::open_rdma() {
  if (!options_.rdma) return;
  auto host = transport::rdma::Devices::open(options_.rdma_devices);
  if (host) {
    rdma_ = std::move(*host);
  } else if (!options_.rdma_devices.empty()) {
    MEMKV_LOG(kWarn, "rdma: not used: {}", host.error().text);
  } else {
    MEMKV_LOG(kInfo, "rdma: not used: {}", host.error().text);
  }
  sources_.rdma = rdma_.get();
}

/// Deals the shards to the workers in turn, divides the memory among them, and makes each with its reactor. The workers
/// do not run yet. Returns an exit code; 0: go on.
int Server::make_workers() {
  const uint32_t shards = storage_->shard_count();
  const uint32_t count = std::min(workers_wanted_, shards);
  if (options_.workers > shards) {
    MEMKV_LOG(kWarn, "workers: {} wanted, but the store has {} shards: {} run", options_.workers, shards, count);
  }
  base::os_random(base::mut_bytes_of(identity_.boot_id.data(), identity_.boot_id.size()));
  identity_.store_id = storage_->store_id();
  identity_.shard_seed = storage_->shard_seed();
  identity_.digest_key = storage_->digest_key();
  identity_.worker_count = static_cast<uint16_t>(count);
  identity_.shard_count = static_cast<uint8_t>(shards);
  identity_.context = this;
  identity_.on_change = on_change;
  identity_.status_json = [](void* context, uint64_t namespace_id) {
    return status_json(static_cast<Server*>(context)->sources_, namespace_id);
  };
  std::vector<std::vector<uint32_t>> shards_of(count);
  for (uint32_t s = 0; s < shards; s++) {
    identity_.worker_of_shard[s] = static_cast<uint8_t>(s % count);
    shards_of[s % count].push_back(s);
  }

  if (auto planned = plan(count); !planned) return fail(kExitConfig, planned.error().text);
  const uint64_t pool = budget_.slot_bytes;
  sources_.slot_pool_bytes = pool;
  sources_.planned_bytes = budget_.bytes;
  std::vector<io::SlotClass> classes = slot_classes(pool / count);
  if (const std::string why = give_each_two_slots(classes, credentials_.size(), pool / count); !why.empty()) {
    return fail(kExitConfig, why + ": raise memory.max_size, or have fewer workers or namespaces");
  }
  const ShardMemory memory{options_.index_block_bytes, budget_.tier_bytes / shards};
  bool epoll_told = false;
  for (uint32_t i = 0; i < count; i++) {
    auto reactor = make_reactor(options_.io, epoll_told);
    if (!reactor) return fail(kExitFailed, reactor.error().text);
    shard::WorkerOptions worker_options;
    worker_options.index = static_cast<uint16_t>(i);
    worker_options.slots = classes;
    if (!io::process_limits().may_poll()) worker_options.spin_ns = 0;
    worker_options.connections_max = budget_.connections_max;
    worker_options.prefault_devices = storage_->memory_mode();
    worker_options.rdma = rdma_.get();
    // With more tenants, one that lies about what it has consumed could read on in a page of another's (0037).
    worker_options.tcp_one_copy = options_.tcp_one_copy && credentials_.size() == 1;
    for (const Credential& credential : credentials_) worker_options.namespaces.push_back(credential.namespace_id);
    auto worker = shard::Worker::make(std::move(reactor).value(), identity_, std::move(worker_options));
    if (!worker)
      return fail(kExitFailed, fmt::format("memory for worker {}: {} ({})", i, worker.error().what,
                                           std::strerror(worker.error().sys_errno)));
    storage_->plan(**worker, shards_of[i], memory, DriveLosses::on_drive_out, &losses_);
    workers_.push_back(std::move(worker).value());
  }
  if (const uint64_t limit = io::memlock_limit_bytes();
      limit < pool && workers_.front()->reactor_name() == "io_uring") {
    MEMKV_LOG(kWarn,
              "the memlock limit is {}: buffers of {} are not registered with the kernel, which costs CPU; raise it "
              "(ulimit -l)",
              base::format_bytes(limit), base::format_bytes(pool));
  }
  return 0;
}

/// Works out all memory before any of it is touched. If it is too much, that is a message now; later, the kernel would
/// kill the process.
Result<void, Message> Server::plan(uint32_t workers) {
  const shard::WorkerOptions each;
  Needs needs;
  needs.memory_mode = storage_->memory_mode();
  needs.store_bytes = needs.memory_mode ? storage_->raw_bytes() : 0;
  needs.index_bytes = storage_->index_bytes(options_.index_block_bytes);
  needs.shard_bytes = storage_->shard_count() * engine::store_buffer_bytes(storage_->drives().size());
  needs.worker_bytes = workers * shard::WorkerPools::bytes(each);
  needs.connection_bytes = shard::WorkerConnections::bytes_each();
  needs.window_bytes = transport::ShmWindow::bytes(windows());
  needs.tier_bytes_min = storage_->shard_count() * engine::kTierBytesMin;
  needs.workers = workers;
  needs.namespaces = credentials_.size();
  auto budget = plan_budget(options_, needs, io::process_limits());
  if (!budget) return budget.error();
  budget_ = *budget;
  if (options_.tier_bytes.value_or(0) > budget_.tier_bytes)
    MEMKV_LOG(kWarn, "memory.tier_size: there is no RAM tier, which takes drives, and at least {} for {} shards",
              base::format_bytes(needs.tier_bytes_min), storage_->shard_count());
  return {};
}

/// Listens on TCP and shared memory, then fills in what the status tells of this server. Returns an exit code; 0: go
/// on.
int Server::open_door() {
  DoorOptions options;
  options.host = bind_.host;
  options.port = bind_.port;
  auto congestion = io::choose_congestion(options_.congestion, "network.congestion");
  if (!congestion) return fail(kExitConfig, congestion.error().text);
  if (!congestion->note.empty()) MEMKV_LOG(kInfo, "{}", congestion->note);
  options.congestion = congestion->name;
  options.server_name = options_.name;
  options.windows = windows();
  shm_budget_ = std::make_unique<transport::ShmBudget>(budget_.shm_bytes, credentials_.size());
  options.shm_budget = shm_budget_.get();
  sources_.shm_budget = shm_budget_.get();
  ShmSocket shm = ShmSocket::open_if_possible(options_.shm, windows(), budget_.shm_bytes, identity_.boot_id);
  sources_.shm_socket = shm.path();
  std::vector<shard::Worker*> workers;
  for (auto& worker : workers_) workers.push_back(worker.get());
  auto door = Door::make(options, credentials_, workers, std::move(shm));
  if (!door) return fail(kExitFailed, door.error().text);
  door_ = std::move(door).value();

  sources_.name = options_.name;
  sources_.address = io::format_host_port(bind_.host.empty() ? "0.0.0.0" : bind_.host, door_->port());
  sources_.mode = to_string(options_.mode);
  sources_.io = workers_.front()->reactor_name();
  sources_.congestion = io::get_congestion(door_->listen_fd());
  sources_.room = {storage_->raw_bytes(), options_.index_block_bytes};
  sources_.shard_count = storage_->shard_count();
  sources_.drives = storage_->drives();
  sources_.missing = storage_->missing();
  for (size_t i = 0; i < sources_.drives.size(); i++) {
    sources_.drive_states[i].store(sources_.drives[i].present ? DriveState::kIn : DriveState::kMissing);
    sources_.drives[i].fitting_bytes = storage_->fitting_bytes(static_cast<uint32_t>(i), options_.index_block_bytes);
  }
  for (auto& worker : workers_) sources_.workers.push_back(worker.get());
  sources_.door = door_.get();
  return 0;
}

void Server::on_change(void* context) {
  const uint64_t one = 1;
  (void)!::write(static_cast<Server*>(context)->events_.get(), &one, sizeof one);
}

bool Server::all(shard::Worker::State state) const {
  return std::all_of(workers_.begin(), workers_.end(), [&](const auto& worker) { return worker->state() == state; });
}

/// Waits for a signal, an event, or `timeout_ms`, whichever comes first.
void Server::read_signals(int timeout_ms) {
  pollfd polled[] = {{signals_.get(), POLLIN, 0}, {events_.get(), POLLIN, 0}};
  if (::poll(polled, 2, timeout_ms) <= 0) return;
  uint64_t ignored = 0;
  (void)!::read(events_.get(), &ignored, sizeof ignored);
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    if (!stop_wanted_) MEMKV_LOG(kInfo, "stopping: signal {}", info.ssi_signo);
    stop_wanted_ = true;
  }
}

void Server::report_progress() {
  const uint64_t now = clock_.now_ns();
  if (next_progress_ns_ == 0) next_progress_ns_ = sources_.started_ns + kProgressNs;
  if (now < next_progress_ns_) return;
  next_progress_ns_ = now + kProgressNs;
  uint64_t records = 0;
  size_t open = 0;
  for (const auto& worker : workers_) {
    records += worker->stats().store_counters().recovered_records;
    open += worker->state() == shard::Worker::State::kReady ? 1 : 0;
  }
  MEMKV_LOG(kInfo, "recovering: {} records so far, {} of {} workers are ready", records, open, workers_.size());
}

bool Server::report_ready() {
  uint64_t blocks = 0;
  for (const auto& worker : workers_) blocks += worker->stats().store_counters().blocks;
  MEMKV_LOG(kInfo, "ready on {} (workers: {}, shards: {}, {}, congestion control {}, blocks: {}, storage {}{})",
            sources_.address, workers_.size(), sources_.shard_count, sources_.io, sources_.congestion, blocks,
            sources_.mode, sources_.missing.empty() ? "" : ", degraded");
  if (start_.ready_file.empty()) return true;
  if (auto written = write_ready_file(start_.ready_file, sources_.address); !written) {
    MEMKV_LOG(kError, "--ready-file {}", written.error().text);
    return false;
  }
  return true;
}

int Server::serve() {
  bool ready = false;
  while (!stop_wanted_) {
    read_signals(ready ? kPollMsReady : kPollMs);
    losses_.take_out(*storage_, workers_);
    if (ready) continue;
    for (const auto& worker : workers_) {
      if (worker->state() != shard::Worker::State::kFailed) continue;
      return stop(fail(kExitFailed, fmt::format("worker {} could not open its shards: {}", worker->index(),
                                                memkv::to_string(worker->open_status()))));
    }
    if (all(shard::Worker::State::kReady)) {
      ready = true;
      if (!report_ready()) return stop(kExitFailed);
    } else {
      report_progress();
    }
  }
  return stop(0);
}

/// Stops the door, then drains the workers for a limited time. Ops that have not ended by then are left to the kernel.
int Server::stop(int code) {
  MEMKV_ASSERT(threads_.size() == workers_.size() && door_thread_.joinable(), "start_threads() comes first");
  door_->stop();
  door_thread_.join();
  shard::WorkerMessage message;
  message.kind = shard::WorkerMessage::Kind::kStop;
  for (auto& worker : workers_) {
    while (!worker->push(message)) base::nap();  // full: it is at work
  }
  const uint64_t until = clock_.now_ns() + kStopNsMax;
  while (!all(shard::Worker::State::kStopped) && clock_.now_ns() < until) {
    read_signals(kPollMs);
    losses_.take_out(*storage_, workers_);
  }
  if (!all(shard::Worker::State::kStopped)) {
    MEMKV_LOG(kError, "ops are still under way after {}: leaving them", base::format_duration_ns(kStopNsMax));
    std::fflush(nullptr);
    _exit(kExitFailed);
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  if (code == 0) MEMKV_LOG(kInfo, "stopped");
  return code;
}

}  // namespace

int run_start(const StartOptions& start) {
  if (!start.ready_file.empty()) {
    if (auto done = remove_ready_file(start.ready_file); !done) {
      return fail(kExitConfig, fmt::format("--ready-file {}", done.error().text));
    }
  }
  auto options = merge_options(start);
  if (!options) return fail(kExitConfig, options.error().text);
  Server server(std::move(options).value(), start);
  return server.run();
}

}  // namespace memkv::server
