#include "transport/rdma/devices.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "base/pause.h"
#include "base/thread.h"

namespace memkv::transport::rdma {
namespace {

constexpr size_t kJobs =
    16 * 1024;  // room for the clients of 64 workers at once, so that no worker waits to push a job
constexpr uint64_t kLookNs = 50'000'000;
constexpr uint64_t kRetryNs = 500'000'000;

void log_device(const Device& device) {
  const DeviceAddress& address = device.address();
  MEMKV_LOG(kInfo, "rdma: device {} on {} has address {} ({}), path MTU {}", device.name(),
            address.netdev.empty() ? "?" : address.netdev, to_string(address.gid), address.why,
            128u << static_cast<unsigned>(address.mtu));
}

}  // namespace

HelperThread::HelperThread(Look look, void* context, std::unique_ptr<io::Reactor> reactor)
    : look_(look), context_(context), reactor_(std::move(reactor)), jobs_(kJobs, reactor_.get()) {}

std::unique_ptr<Helper> HelperThread::make(const char* name, Look look, void* context) {
  auto reactor = io::make_epoll_reactor({.kind = io::ReactorKind::kEpoll, .ops_max = 16, .device_threads = 0});
  if (!reactor) return nullptr;
  std::unique_ptr<HelperThread> helper(new HelperThread(look, context, std::move(*reactor)));
  auto thread = base::start_thread(name, [self = helper.get()] { self->loop(); });
  if (!thread) return nullptr;
  helper->thread_ = std::move(*thread);
  return helper;
}

HelperThread::~HelperThread() {
  if (!thread_.joinable()) return;
  stop_.store(true, std::memory_order_release);
  reactor_->wake();
  thread_.join();
}

void HelperThread::push(BlockingJob& job) {
  MEMKV_ASSERT(!job.pending, "one thing at a time");
  job.pending = true;
  while (!jobs_.push(&job)) base::nap();
}

void HelperThread::loop() {
  while (!stop_.load(std::memory_order_acquire)) {
    while (auto job = jobs_.pop()) {
      (*job)->run(**job);
      (*job)->deliver(**job, (*job)->deliver_to);
      if (look_) look_(context_);
    }
    if (look_) look_(context_);
    reactor_->run_once(kLookNs);
  }
}

Result<std::unique_ptr<Devices>, Message> Devices::open(std::vector<std::string> names) {
  auto verbs = load_verbs();
  if (!verbs) return verbs.error();
  return open({**verbs, HelperThread::make}, std::move(names));
}

/// Opens each device that is listed, or each that there is, and starts the two helpers. One device is enough; those that
/// cannot be opened now stay in the list only if somebody named them.
Result<std::unique_ptr<Devices>, Message> Devices::open(const DevicesBase& base, std::vector<std::string> names) {
  const Verbs& verbs = base.verbs;
  const bool listed = !names.empty();
  if (!listed) names = list_devices(verbs);
  if (names.empty()) return Message{Status::kUnavailable, "this host has no RDMA device"};
  if (names.size() > kRailsMax) names.resize(kRailsMax);
  std::unique_ptr<Devices> host(new Devices(verbs));
  std::string why;
  bool any = false;
  for (const std::string& name : names) {
    auto device = Device::open(verbs, name);
    if (!device) {
      why = device.error().text;
      if (listed) MEMKV_LOG(kWarn, "rdma: {}", why);
      if (!listed) continue;
    }
    Rail& rail = *host->rails_.emplace_back(std::make_unique<Rail>());
    rail.name = name;
    if (!device) continue;
    log_device(**device);
    rail.device.store(std::move(*device));
    any = true;
  }
  if (!any) return Message{Status::kUnavailable, "no RDMA device can be used: " + why};
  host->set_up_ = base.make_helper(
      "memkv-rdma-up", [](void* self) { static_cast<Devices*>(self)->look(); }, host.get());
  host->tear_down_ = base.make_helper("memkv-rdma-down", nullptr, nullptr);
  if (host->set_up_ && host->tear_down_) return host;
  return Message{Status::kIo, "no event loop or no thread for a helper (see ulimit -n, ulimit -u and pids.max)"};
}

Devices::~Devices() {
  set_up_.reset();
  tear_down_.reset();
}

/// Thread: set-up. A device that went is taken again when it is back.
void Devices::look() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const uint64_t now_ns = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  const bool may_open = now_ns >= next_try_ns_;
  if (may_open) next_try_ns_ = now_ns + kRetryNs;
  for (size_t i = 0; i < rails_.size(); i++) {
    Rail& rail = *rails_[i];
    const std::shared_ptr<Device> device = rail.device.load();
    if (device) device->look();
    if (device && device->dead()) close_rail(rail, i);
    if (!rail.device.load() && may_open) open_rail(rail, i);
  }
}

/// Lets go of a device that is gone. Links notice by themselves: what they had in flight fails.
void Devices::close_rail(Rail& rail, size_t index) {
  rail.device.store(nullptr);
  const auto all = memory_.snapshot();
  for (const auto& registration : *all) registration->drop(index);
}

void Devices::open_rail(Rail& rail, size_t index) {
  auto device = Device::open(verbs_, rail.name);
  if (!device) return;
  log_device(**device);
  rail.device.store(*device);  // first: whoever adds memory from here on registers it there
  const auto all = memory_.snapshot();
  for (const auto& registration : *all) {
    if (registration->keys(index, **device) || !registration->use()) continue;
    if (auto added = registration->add(index, *device); !added) {
      MEMKV_LOG_EVERY(10, kWarn, "rdma: device {}: {}", rail.name, added.error().what);
    }
    registration->unuse();
  }
}

std::shared_ptr<Device> Devices::device_for(const wire::RdmaEnd& peer, size_t& rail) const {
  for (size_t i = 0; i < rails_.size(); i++) {
    std::shared_ptr<Device> device = rails_[i]->device.load();
    if (!device || device->address().network_bits == 0) continue;
    if (!same_network(device->address().gid, peer.gid, device->address().network_bits)) continue;
    rail = i;
    return device;
  }
  for (size_t i = 0; i < rails_.size(); i++) {
    rail = (peer.rail + i) % rails_.size();
    if (auto device = rails_[rail]->device.load()) return device;
  }
  return nullptr;
}

/// Registers the memory on each device that is there now, and collects what the ones that refused it said.
std::vector<Devices::Refusal> Devices::add_to_rails(Registration& registration) {
  std::vector<Refusal> refusals;
  for (size_t i = 0; i < rails_.size(); i++) {
    auto device = rails_[i]->device.load();
    if (device && !device->dead() && registration.keys(i, *device)) continue;
    Result<void> added;
    if (device && !device->dead()) added = registration.add(i, device);
    if (!device || device->dead()) {
      registration.drop(i);
    } else if (!added) {
      refusals.push_back({i, added.error()});
    }
  }
  return refusals;
}

Result<std::shared_ptr<Registration>> Devices::add_memory(void* data, size_t size, Access access) {
  auto registration = std::make_shared<Registration>(data, size, access);
  if (const auto refusals = add_to_rails(*registration); !refusals.empty()) return refusals.front().error;
  memory_.add(registration);          // now others find and use it: it can be refused no more
  (void)add_to_rails(*registration);  // a device went or came meanwhile, and did not find it
  return registration;
}

Result<std::shared_ptr<Registration>, Message> Devices::add_gpu_memory(void* data, size_t size, int cuda_device) {
  auto dmabuf = export_gpu_memory(data, size, cuda_device);
  if (!dmabuf) return dmabuf.error();
  auto registration = std::make_shared<Registration>(data, size, std::move(*dmabuf));
  const auto refusals = add_to_rails(*registration);
  bool any = false;
  for (size_t i = 0; i < rails_.size(); i++) any = any || registration->is_on(i);
  if (any) {
    memory_.add(registration);
    (void)add_to_rails(*registration);
    return registration;
  }
  std::string why;
  for (const auto& [rail, error] : refusals) {
    why += fmt::format("; RDMA device {}: {}", rails_[rail]->name, error.what);
    if (error.sys_errno != 0) why += fmt::format(": {}", std::strerror(error.sys_errno));
  }
  return Message{Status::kUnsupported, why.empty() ? "no RDMA device is there now" : why.substr(2)};
}

void Devices::remove_memory(std::shared_ptr<Registration> registration, void (*wait)(void* context), void* context) {
  memory_.remove(*registration);
  while (!registration->retire()) wait(context);
  registration->let_go();
}

}  // namespace memkv::transport::rdma
