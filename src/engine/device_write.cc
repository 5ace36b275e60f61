#include "engine/device_write.h"

#include "base/assert.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kAgainNs = 1'000'000;
constexpr int32_t kRefused = -5;  // EIO

}  // namespace

void DeviceWrite::set_up(io::Reactor& reactor, io::BlockDevice& device, bool dsync, io::IoOp::Fn on_done,
                         void* context) {
  reactor_ = &reactor;
  device_ = &device;
  dsync_ = dsync;
  io_.on_done = on_done;
  io_.context = context;
  again_.context = this;
  again_.on_done = [](io::Timer& timer) { static_cast<DeviceWrite*>(timer.context)->start_again(); };
}

DeviceWrite::~DeviceWrite() {
  if (reactor_ != nullptr) reactor_->stop(again_);
}

void DeviceWrite::start(std::byte* memory, size_t bytes, uint64_t offset) {
  MEMKV_ASSERT(!pending(), "the drive has its memory");
  piece_ = {memory, bytes};
  offset_ = offset;
  start_again();
}

void DeviceWrite::start_again() {
  const auto started = device_->write(io_, offset_, {&piece_, 1}, dsync_ && rules().durable);
  if (started) return;
  if (started.error().status != Status::kBusy) {
    MEMKV_ASSERT(reactor_->post(io_, kRefused).ok());
    return;
  }
  reactor_->start(again_, reactor_->now_ns() + kAgainNs);
}

}  // namespace memkv::engine
