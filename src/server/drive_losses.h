#pragma once
/// What happens when a drive fails while the server runs: a worker gives it up, main takes it out of the membership,
/// and then all workers stop using it.

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/unique_fd.h"
#include "server/status.h"
#include "server/storage.h"
#include "shard/worker.h"

namespace memkv::server {

/// Carries lost drives from the workers to main. Thread: main, except on_drive_out().
class DriveLosses {
 public:
  /// `wake`: an eventfd that wakes main. `sources` is told of drives as they go out.
  DriveLosses(StatusSources& sources, const base::UniqueFd& wake) : sources_(sources), wake_(wake) {}

  /// A worker's store has given a drive up. This only notes it; main takes the drive out. `context` is this object.
  /// Thread: worker.
  static void on_drive_out(void* context, uint8_t drive_index, const char* why);
  /// Writes the membership without the drives that were given up, then tells all workers.
  void take_out(Storage& storage, const std::vector<std::unique_ptr<shard::Worker>>& workers);

 private:
  void tell_out(uint64_t drives, const std::vector<std::unique_ptr<shard::Worker>>& workers);

  StatusSources& sources_;
  const base::UniqueFd& wake_;
  std::atomic<uint64_t> failed_{0};  ///< bit i: a store gave drive i up, and the membership still has it
};

}  // namespace memkv::server
