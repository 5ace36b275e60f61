#include "server/drive_losses.h"

#include <unistd.h>

#include "base/log.h"
#include "base/pause.h"

namespace memkv::server {

void DriveLosses::on_drive_out(void* context, uint8_t drive_index, const char* why) {
  auto& losses = *static_cast<DriveLosses*>(context);
  MEMKV_ASSERT(drive_index < losses.sources_.drives.size() && why != nullptr);
  MEMKV_LOG(kError, "drive {} is given up: {}", losses.sources_.drives[drive_index].path, why);
  losses.sources_.drive_reasons[drive_index].store(why, std::memory_order_relaxed);
  losses.failed_.fetch_or(uint64_t{1} << drive_index);
  const uint64_t one = 1;
  (void)!::write(losses.wake_.get(), &one, sizeof one);
}

/// Takes drives out of the membership. A drive that fails to record the new membership is out as well. The workers are
/// told of all of them.
void DriveLosses::take_out(Storage& storage, const std::vector<std::unique_ptr<shard::Worker>>& workers) {
  const uint64_t failed = failed_.exchange(0);
  if (failed == 0) return;
  const auto is_in = [this](uint8_t i) { return sources_.drive_states[i].load() == DriveState::kIn; };
  for (uint8_t i = 0; i < sources_.drives.size(); i++) {
    if ((failed >> i & 1) == 0 || !is_in(i) || !storage.is_in(i)) continue;
    if (auto done = storage.take_out(i); !done) {
      MEMKV_LOG(kError, "drive {}: the membership without it could not be written: {}", sources_.drives[i].path,
                done.error().what);
    }
  }
  uint64_t out = 0;
  for (uint8_t i = 0; i < sources_.drives.size(); i++) {
    if (is_in(i) && ((failed >> i & 1) != 0 || !storage.is_in(i))) out |= uint64_t{1} << i;
  }
  if (out != 0) tell_out(out, workers);
}

void DriveLosses::tell_out(uint64_t drives, const std::vector<std::unique_ptr<shard::Worker>>& workers) {
  for (uint8_t i = 0; i < sources_.drives.size(); i++) {
    if ((drives >> i & 1) == 0) continue;
    const char* none = nullptr;
    sources_.drive_reasons[i].compare_exchange_strong(none, "its superblock cannot be written");
    sources_.drive_states[i].store(DriveState::kOut);
    MEMKV_LOG(kWarn, "degraded: drive {} is out of the store, its blocks are misses", sources_.drives[i].path);
  }
  shard::WorkerMessage message;
  message.kind = shard::WorkerMessage::Kind::kDrivesOut;
  message.drives = drives;
  for (auto& worker : workers) {
    while (!worker->push(message)) base::nap();  // full: it is at work
  }
}

}  // namespace memkv::server
