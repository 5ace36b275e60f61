#pragma once
/// Drives that failed while the server runs: from the worker that gives one up to the membership without it.

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/unique_fd.h"
#include "server/status.h"
#include "server/storage.h"
#include "shard/worker.h"

namespace memkv::server {

/// Thread: main, but for on_drive_out().
class DriveLosses {
 public:
  /// `wake`: an eventfd that wakes main. The sources are written as drives go out.
  DriveLosses(StatusSources& sources, const base::UniqueFd& wake) : sources_(sources), wake_(wake) {}

  /// A store gave a drive up; main takes it out. `context`: this. Thread: worker.
  static void on_drive_out(void* context, uint8_t drive_index, const char* why);
  /// Writes the membership without the drives that were given up, then tells all workers.
  void take_out(Storage& storage, const std::vector<std::unique_ptr<shard::Worker>>& workers);

 private:
  void tell_out(uint64_t drives, const std::vector<std::unique_ptr<shard::Worker>>& workers);

  StatusSources& sources_;
  const base::UniqueFd& wake_;
  std::atomic<uint64_t> failed_{0};  ///< bit i: a store gave drive i up, the membership must follow
};

}  // namespace memkv::server
