#include "sim/fabric.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "base/assert.h"
#include "sim/loop.h"
#include "sim/network.h"
#include "sim/wire.h"

namespace memkv::sim {

Fabric::Fabric(World& world, Network& network)
    : world_(world), wire_(std::make_unique<Wire>(*this, network)), network_(network) {}

Fabric::~Fabric() = default;

void Fabric::complain(std::string what) {
  world_.trace().add(world_.now_ns(), "rdma: " + what);
  if (complaint_.empty()) complaint_ = std::move(what);
}

// Devices.

void Fabric::add_device(uint32_t host, uint32_t rail) {
  auto& all = devices_[host];
  if (all.size() <= rail) all.resize(rail + 1);
  if (all[rail] != nullptr) return;
  auto* device = new RdmaDevice{};
  device->host = host;
  device->rail = rail;
  const std::string name = fmt::format("sim{}", rail);
  std::memcpy(device->name, name.c_str(), name.size() + 1);
  const std::string node = fmt::format("simverbs{}", next_node_++);
  std::memcpy(device->dev_name, node.c_str(), node.size() + 1);
  device->gid.raw[0] = 0xfd;
  device->gid.raw[10] = static_cast<uint8_t>(rail);
  for (unsigned i = 0; i < 4; i++) device->gid.raw[12 + i] = static_cast<uint8_t>(host >> (24 - 8 * i));
  all[rail] = device;
}

void Fabric::remove_device(uint32_t host, uint32_t rail) {
  auto& all = devices_[host];
  if (rail >= all.size() || all[rail] == nullptr) return;
  RdmaDevice* device = std::exchange(all[rail], nullptr);
  device->present = false;
  const bool with_event = world_.random().chance(1, 2), flushes = world_.random().chance(1, 2);
  for (RdmaContext* context : contexts_) {
    if (context->device != device || context->vanished) continue;
    context->vanished = true;
    context->tells_fatal = with_event;
    wire_->vanish(*context, flushes);
  }
}

bool Fabric::has_node(std::string_view name) const {
  return std::any_of(devices_.begin(), devices_.end(), [&](const auto& host) {
    return std::any_of(host.second.begin(), host.second.end(),
                       [&](const RdmaDevice* device) { return device != nullptr && name == device->dev_name; });
  });
}

uint32_t Fabric::rails(uint32_t host) const {
  const auto at = devices_.find(host);
  return at == devices_.end() ? 0 : static_cast<uint32_t>(at->second.size());
}

std::vector<RdmaDevice*> Fabric::devices_of(uint32_t host) const {
  std::vector<RdmaDevice*> there;
  const auto at = devices_.find(host);
  if (at == devices_.end()) return there;
  std::copy_if(at->second.begin(), at->second.end(), std::back_inserter(there), [](auto* d) { return d != nullptr; });
  return there;
}

uint64_t Fabric::dark_until_ns(const RdmaDevice& a, const RdmaDevice& b) const {
  uint64_t until = 0;
  for (const RdmaDevice* device : {&a, &b}) {
    until = std::max(until, network_.dark_until_ns(device->host));
    const auto faults = faults_.find(device->host);
    if (faults == faults_.end()) continue;
    const auto dark = faults->second.dark_ns.find(device->rail);
    if (dark != faults->second.dark_ns.end()) until = std::max(until, dark->second);
  }
  return until;
}

void Fabric::kill_host(uint32_t host) {
  for (RdmaContext* context : contexts_) {
    if (context->device->host != host) continue;
    context->vanished = true;
    wire_->vanish(*context, false);
    // The dead may have an op here, which must not be told of anything any more.
    for (auto& [number, epoll] : epolls_) {
      const bool theirs = std::any_of(epoll.channels.begin(), epoll.channels.end(),
                                      [&](const Watched& w) { return channels_.at(w.fd)->owner == context; });
      if (theirs) epoll.op = nullptr;
    }
  }
  std::erase_if(contexts_, [&](const RdmaContext* context) { return context->device->host == host; });
}

void Fabric::heal(uint32_t host) {
  faults_[host] = {};
  for (uint32_t rail = 0; rail < rails(host); rail++) add_device(host, rail);
}

void Fabric::prepare_start(uint32_t host) {
  if (rails(host) == 0) return;
  faults_[host].no_memory_until_ns = 0;
  if (devices_of(host).empty()) add_device(host, 0);
}

size_t Fabric::objects_of(uint32_t host) const {
  size_t sum = 0;
  for (const RdmaContext* context : contexts_) sum += context->device->host == host ? context->objects : 0;
  return sum;
}

// Contexts and memory.

RdmaContext* Fabric::open(RdmaDevice& device) {
  if (!device.present) return errno = ENODEV, nullptr;
  auto* context = new RdmaContext{};
  context->device = &device;
  contexts_.push_back(context);
  return context;
}

void Fabric::close(RdmaContext& context) {
  if (context.objects != 0) complain("a device is closed under its queue pairs");
  std::erase(contexts_, &context);
  delete &context;
}

ibv_mr* Fabric::register_memory(ibv_pd& pd, void* data, size_t size, int access) {
  const RdmaContext& context = context_of(pd.context);
  if (context.vanished) return errno = EIO, nullptr;
  if (world_.now_ns() < faults_[context.device->host].no_memory_until_ns) return errno = ENOMEM, nullptr;
  auto* memory = new RdmaMemory{};
  memory->context = pd.context;
  memory->pd = &pd;
  memory->addr = data;
  memory->length = size;
  memory->access = access;
  next_key_++;
  memory->lkey = next_key_ << 1;
  memory->rkey = memory->lkey | 1;
  keys_[memory->lkey] = keys_[memory->rkey] = memory;
  return memory;
}

void Fabric::deregister(RdmaMemory& memory) {
  keys_.erase(memory.lkey);
  keys_.erase(memory.rkey);
  delete &memory;
}

RdmaMemory* Fabric::find(uint32_t key, const ibv_pd* pd, uint64_t address, uint64_t bytes, int access) {
  const auto at = keys_.find(key);
  if (at == keys_.end()) return nullptr;
  RdmaMemory& memory = *at->second;
  const auto begin = reinterpret_cast<uint64_t>(memory.addr);
  const bool covers = address >= begin && bytes <= memory.length && address - begin <= memory.length - bytes;
  return memory.pd == pd && covers && (memory.access & access) == access ? &memory : nullptr;
}

// Channels.

RdmaChannel* Fabric::make_channel(RdmaContext& owner) {
  auto* channel = new RdmaChannel{};
  channel->context = &owner.extended.context;
  channel->owner = &owner;
  channel->fd = next_fd_++;
  channels_[channel->fd] = channel;
  owner.objects++;
  return channel;
}

void Fabric::destroy(RdmaChannel& channel) {
  for (auto& [number, epoll] : epolls_) {
    std::erase_if(epoll.channels, [&](const Watched& watched) { return watched.fd == channel.fd; });
  }
  channels_.erase(channel.fd);
  channel.owner->objects--;
  delete &channel;
}

void Fabric::push(RdmaQueue& queue, const ibv_wc& completion) {
  if (queue.done.size() >= static_cast<size_t>(queue.cqe)) complain("a completion queue overran");
  queue.done.push_back(completion);
  if (!std::exchange(queue.armed, false) || queue.channel == nullptr) return;
  static_cast<RdmaChannel*>(queue.channel)->events.push_back(&queue);
  wake(queue.channel->fd);
}

bool Fabric::is_ready(const Epoll& epoll) const {
  return std::any_of(epoll.channels.begin(), epoll.channels.end(),
                     [&](const Watched& watched) { return !channels_.at(watched.fd)->events.empty(); });
}

void Fabric::wake(int channel_fd) {
  for (auto& [number, epoll] : epolls_) {
    if (epoll.op == nullptr) continue;
    const bool watches = std::any_of(epoll.channels.begin(), epoll.channels.end(),
                                     [&](const Watched& watched) { return watched.fd == channel_fd; });
    if (watches) epoll.loop->end(*std::exchange(epoll.op, nullptr), 1);
  }
}

int Fabric::make_epoll() {
  epolls_[next_fd_] = {};
  return next_fd_++;
}

int Fabric::control_epoll(int epoll, int op, int fd, const epoll_event* event) {
  std::vector<Watched>& channels = epolls_.at(epoll).channels;
  MEMKV_ASSERT(op == EPOLL_CTL_ADD || op == EPOLL_CTL_DEL, "the product asks for nothing else");
  if (op == EPOLL_CTL_DEL) {
    return std::erase_if(channels, [&](const Watched& watched) { return watched.fd == fd; }) > 0 ? 0 : -ENOENT;
  }
  channels.push_back({fd, event->data.ptr});
  if (!channels_.at(fd)->events.empty()) wake(fd);
  return 0;
}

int Fabric::wait_epoll(int epoll, epoll_event* events, int count) const {
  int found = 0;
  for (const Watched& watched : epolls_.at(epoll).channels) {
    if (found == count || channels_.at(watched.fd)->events.empty()) continue;
    events[found].events = EPOLLIN;
    events[found++].data.ptr = watched.data;
  }
  return found;
}

void Fabric::close_epoll(int fd) {
  MEMKV_ASSERT(epolls_.at(fd).op == nullptr, "closed under an op");
  epolls_.erase(fd);
}

void Fabric::watch(io::IoOp& op, SimLoop& loop) {
  Epoll& epoll = epolls_.at(op.fd);
  MEMKV_ASSERT(epoll.op == nullptr, "two ops on one epoll instance");
  if (is_ready(epoll)) return loop.end(op, 1);
  epoll.op = &op;
  epoll.loop = &loop;
}

void Fabric::unwatch(io::IoOp& op) {
  Epoll& epoll = epolls_.at(op.fd);
  if (epoll.op == &op) epoll.op = nullptr;
}

}  // namespace memkv::sim
