#include "sim/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/random.h"
#include "sim/calls.h"

namespace memkv::sim {
namespace {

shard::WorkerOptions worker_options(uint32_t index, const ServerSpec& spec) {
  const uint32_t scale = spec.pool_scale;
  shard::WorkerOptions options;
  options.index = static_cast<uint16_t>(index);
  options.ops_max = 128 * scale;
  options.frames_max = 64 * scale;
  options.connections_max = spec.connections_max;
  options.uploads_max = 8;
  options.slots = {{(2u << 20) + 8192, 4 * scale}, {72 * 1024, 8 * scale}, {16 * 1024, 16 * scale}};
  options.spin_ns = 0;
  options.drain_ns = 500 * kMs;
  return options;
}

}  // namespace

class ServerProcess::WorkerActor final : public Actor {
 public:
  WorkerActor(std::string name, SimLoop& loop, std::unique_ptr<shard::Worker> made, uint32_t host)
      : Actor(std::move(name)), worker(std::move(made)), loop_(loop), host_(host) {}
  bool runnable() const override { return !over() && loop_.runnable(); }
  uint64_t next_ns() const override { return over() ? kNever : loop_.next_ns(); }
  void turn() override {
    use_host(host_);
    worker->turn(kSecond);
  }
  uint64_t clock_offset_ns() const override { return loop_.clock_offset_ns(); }
  bool over() const { return worker->state() == shard::Worker::State::kStopped; }

  std::unique_ptr<shard::Worker> worker;

 private:
  SimLoop& loop_;
  const uint32_t host_;
};

class ServerProcess::DoorActor final : public Actor {
 public:
  DoorActor(std::string name, std::unique_ptr<Door> made, uint32_t host)
      : Actor(std::move(name)), door(std::move(made)), host_(host) {}
  bool runnable() const override { return door->loop().runnable(); }
  uint64_t next_ns() const override { return door->loop().next_ns(); }
  void turn() override {
    use_host(host_);
    door->loop().run_once(kSecond);
  }
  uint64_t clock_offset_ns() const override { return door->loop().clock_offset_ns(); }

  std::unique_ptr<Door> door;

 private:
  const uint32_t host_;
};

/// What the server's main thread does while it serves: it writes the membership when drives go out.
class ServerProcess::MainActor final : public Actor {
 public:
  MainActor(std::string name, ServerProcess& process) : Actor(std::move(name)), process_(process) {}
  bool runnable() const override { return process_.drives_failed_ != 0; }
  uint64_t next_ns() const override { return kNever; }
  void turn() override { process_.take_drives_out(); }
  uint64_t clock_offset_ns() const override { return process_.clock_offset_ns_; }

 private:
  ServerProcess& process_;
};

ServerProcess::ServerProcess(World& world, Network& network, const ServerSpec& spec)
    : world_(world), network_(network), spec_(spec), clock_offset_ns_(world.random().below(1'000'000) * kSecond) {}

ServerProcess::~ServerProcess() {
  for (auto& worker : workers_) world_.remove(*worker);
  if (door_) world_.remove(*door_);
  if (main_) world_.remove(*main_);
}

Result<std::unique_ptr<ServerProcess>, Message> ServerProcess::start(World& world, Network& network,
                                                                     const ServerSpec& spec,
                                                                     std::vector<Drive*> drives) {
  std::unique_ptr<ServerProcess> process(new ServerProcess(world, network, spec));
  if (auto opened = process->open(drives); !opened) return opened.error();
  return process;
}

Result<void, Message> ServerProcess::open(const std::vector<Drive*>& drives) {
  std::vector<io::DriveFile*> borrowed;
  for (Drive* drive : drives) {
    auto file = drive->open();
    if (file == nullptr) continue;
    borrowed.push_back(file.get());
    files_.push_back(std::move(file));
  }
  if (borrowed.empty()) return Message{Status::kInvalid, "no drive is there"};
  auto volume = volume::Volume::open(borrowed, {.accept_loss = spec_.accept_loss});
  if (!volume) return volume.error();
  volume_ = std::move(*volume);
  for (const Tenant& tenant : spec_.tenants) {
    auto id = volume_->namespace_id(tenant.name);
    if (!id) return Message{id.error().status, fmt::format("namespace {}: {}", tenant.name, id.error().what)};
    namespace_ids_.push_back(*id);
  }
  const format::Superblock& super = volume_->superblock();
  const uint32_t shards = super.shard_count;
  const uint32_t count = std::min(spec_.workers, shards);
  base::os_random(base::mut_bytes_of(identity_.boot_id.data(), identity_.boot_id.size()));
  std::memcpy(identity_.store_id.data(), super.store_id, sizeof super.store_id);
  identity_.shard_seed = super.shard_seed;
  identity_.digest_key = {super.digest_key[0], super.digest_key[1]};
  identity_.worker_count = static_cast<uint16_t>(count);
  identity_.shard_count = static_cast<uint8_t>(shards);
  identity_.context = this;
  rdma_ = std::make_unique<ProcessRdma>(world_, network_.rdma(), spec_.host, spec_.name, clock_offset_ns_);
  std::vector<std::vector<uint32_t>> shards_of(count);
  for (uint32_t s = 0; s < shards; s++) {
    identity_.worker_of_shard[s] = static_cast<uint8_t>(s % count);
    shards_of[s % count].push_back(s);
  }
  for (uint32_t i = 0; i < count; i++) {
    if (auto made = make_worker(i, shards_of[i]); !made) return made;
  }
  std::vector<shard::Worker*> workers;
  for (auto& worker : workers_) workers.push_back(worker->worker.get());
  std::vector<Door::Credential> credentials;
  for (size_t i = 0; i < spec_.tenants.size(); i++) {
    const wire::Secret& secret = spec_.tenants[i].secret;
    credentials.push_back({wire::key_id_of(secret), secret, namespace_ids_[i]});
  }
  auto door = std::make_unique<Door>(world_, network_, spec_.host, spec_.name, clock_offset_ns_, std::move(credentials),
                                     std::move(workers));
  if (spec_.shm.bytes_max > 0) {
    shm_budget_ = std::make_unique<transport::ShmBudget>(spec_.shm.bytes_max, spec_.tenants.size());
    door->open_shm(identity_.boot_id, spec_.shm.windows, *shm_budget_);
  }
  door_ = std::make_unique<DoorActor>(spec_.name + ".door", std::move(door), spec_.host);
  main_ = std::make_unique<MainActor>(spec_.name + ".main", *this);
  for (auto& worker : workers_) world_.add(*worker);
  world_.add(*door_);
  world_.add(*main_);
  for (auto& worker : workers_) worker->worker->start();
  return {};
}

/// Plans the worker as server/storage.cc does.
Result<void, Message> ServerProcess::make_worker(uint32_t index, const std::vector<uint32_t>& shards) {
  auto loop = std::make_unique<SimLoop>(world_, network_, SimLoop::Likeness::kUring, clock_offset_ns_);
  SimLoop& borrowed = *loop;
  shard::WorkerOptions options = worker_options(index, spec_);
  options.rdma = rdma_->devices().get();
  auto worker = shard::Worker::make(std::move(loop), identity_, std::move(options));
  if (!worker) return Message{worker.error().status, worker.error().what};
  std::vector<io::BlockDevice*> devices;
  for (uint32_t d = 0; d < volume_->drive_count(); d++) {
    io::DriveFile* file = volume_->drive(d);
    auto device = file ? file->bind(borrowed) : nullptr;
    devices.push_back(device.get());
    if (device) (*worker)->stores().keep(std::move(device));
  }
  for (const uint32_t number : shards) {
    shard::ShardPlan plan;
    plan.number = number;
    engine::StoreOptions& store = plan.options;
    std::memcpy(store.store_id, identity_.store_id.data(), identity_.store_id.size());
    store.shard = number;
    store.stripe_width = volume_->superblock().stripe_width;
    store.index_entries_max = spec_.index_entries_max;
    store.tier_bytes = spec_.tier_bytes;
    store.on_drive_out = on_drive_out;
    store.on_drive_out_context = this;
    for (uint32_t d = 0; d < volume_->drive_count(); d++) {
      engine::DriveSlice slice;
      slice.device = devices[d];
      slice.drive_index = static_cast<uint8_t>(d);
      if (devices[d] != nullptr) {
        slice.offset_bytes = volume_->slice_offset(d, number);
        slice.size_bytes = volume_->superblock_of(d).slice_bytes;
        slice.segment_bytes = volume_->superblock_of(d).segment_bytes;
        slice.life = volume_->superblock_of(d).life;
        slice.dsync = devices[d]->info().volatile_cache;
      }
      store.slices.push_back(slice);
    }
    (*worker)->stores().plan(std::move(plan));
  }
  workers_.push_back(std::make_unique<WorkerActor>(fmt::format("{}.worker{}", spec_.name, index), borrowed,
                                                   std::move(*worker), spec_.host));
  return {};
}

void ServerProcess::on_drive_out(void* context, uint8_t drive_index, const char* why) {
  auto& process = *static_cast<ServerProcess*>(context);
  process.drives_failed_ |= uint64_t{1} << drive_index;
  process.world_.trace().add(process.world_.now_ns(),
                             fmt::format("{} gives drive {} up: {}", process.spec_.name, drive_index, why));
}

/// As in server/drive_losses.cc: a drive that does not record the membership is out as well.
void ServerProcess::take_drives_out() {
  const uint64_t failed = std::exchange(drives_failed_, 0);
  const uint32_t count = volume_->drive_count();
  const auto is_out = [&](uint32_t i) { return (drives_out_ >> i & 1) != 0; };
  for (uint32_t i = 0; i < count; i++) {
    if ((failed >> i & 1) != 0 && !is_out(i) && volume_->drive(i) != nullptr) (void)volume_->take_out(i);
  }
  shard::WorkerMessage message;
  message.kind = shard::WorkerMessage::Kind::kDrivesOut;
  for (uint32_t i = 0; i < count; i++) {
    const bool now_out = (failed >> i & 1) != 0 || volume_->drive(i) == nullptr;
    if (!is_out(i) && now_out) message.drives |= uint64_t{1} << i;
  }
  drives_out_ |= message.drives;
  if (message.drives == 0) return;
  for (auto& worker : workers_) MEMKV_ASSERT(worker->worker->push(message));
}

bool ServerProcess::ready() const {
  return !killed_ && std::all_of(workers_.begin(), workers_.end(), [](const auto& w) { return w->worker->ready(); });
}

bool ServerProcess::failed() const {
  return std::any_of(workers_.begin(), workers_.end(),
                     [](const auto& w) { return w->worker->state() == shard::Worker::State::kFailed; });
}

bool ServerProcess::stopped() const {
  return std::all_of(workers_.begin(), workers_.end(), [](const auto& w) { return w->over(); });
}

void ServerProcess::stop() {
  door_->door->stop();
  shard::WorkerMessage message;
  message.kind = shard::WorkerMessage::Kind::kStop;
  for (auto& worker : workers_) MEMKV_ASSERT(worker->worker->push(message));
}

void ServerProcess::kill() {
  killed_ = true;
  for (auto& worker : workers_) {
    world_.remove(*worker);
    (void)worker->worker.release();  // and all that it owns: when a process is killed no destructor runs
  }
  world_.remove(*door_);
  (void)door_->door.release();
  (void)shm_budget_.release();
  world_.remove(*main_);
  rdma_->kill();
  network_.kill_host(spec_.host);
}

void ServerProcess::pause_until(uint64_t ns) {
  for (auto& worker : workers_) worker->pause_until(ns);
  door_->pause_until(ns);
  main_->pause_until(ns);
  rdma_->pause_until(ns);
}

void ServerProcess::stall_thread(uint64_t pick, uint64_t ns) {
  const uint64_t which = pick % (workers_.size() + 1);
  if (which < workers_.size())
    workers_[which]->pause_until(ns);
  else
    door_->pause_until(ns);
}

shard::Worker& ServerProcess::worker(size_t i) { return *workers_[i]->worker; }

ServerCounts ServerProcess::counts() const {
  ServerCounts sum;
  for (const auto& worker : workers_) {
    if (worker->worker == nullptr) continue;
    for (const shard::Shard& shard : worker->worker->stores().shards()) {
      const engine::StoreCounters& c = shard.store->counters();
      sum.dropped +=
          c.dropped_evicted + c.dropped_corrupt + c.dropped_drive_out + c.dropped_index_full + c.recovered_rot;
      sum.store.blocks += c.blocks;
      sum.store.puts += c.puts;
      sum.store.hits += c.hits;
      sum.store.misses += c.misses;
      sum.store.gets += c.gets;
      sum.store.dropped_corrupt += c.dropped_corrupt;
      sum.store.recovered_torn += c.recovered_torn;
      sum.store.recovered_rot += c.recovered_rot;
      sum.store.tier_hits += c.tier_hits;
      sum.store.tier_shared += c.tier_shared;
      sum.store.tier_evictions += c.tier_evictions;
      sum.store.tier_prefetches += c.tier_prefetches;
      sum.store.tier_prefetches_used += c.tier_prefetches_used;
    }
  }
  return sum;
}

uint64_t ServerProcess::check_whole() const {
  for (const auto& worker : workers_) worker->worker->check_whole();
  if (shm_budget_ == nullptr) return 0;
  shm_budget_->collect();
  MEMKV_ASSERT(shm_budget_->in_use() == shm_budget_->kept(), "a window is left that no connection has");
  return shm_budget_->kept();
}

const std::string& ServerProcess::socket_path() const { return door_->door->socket_path(); }
void ServerProcess::remove_socket() { door_->door->remove_socket(); }

}  // namespace memkv::sim
