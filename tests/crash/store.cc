#include "tests/crash/store.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/unique_fd.h"
#include "tests/support/pattern.h"

namespace memkv::test {
namespace {

constexpr uint64_t kSlicesOffset = uint64_t{1} << 20;  ///< docs/data-file.md, Layout
constexpr uint64_t kSectorBytes = 4096;
constexpr int kReadySeconds = 300;                ///< of a busy machine
constexpr uint64_t kSliceStartBytes = 64 * 1024;  ///< anchors, the first segment's header, and what follows them

void append_second_tenant(const std::string& config) {
  std::ofstream(config, std::ios::app) << "namespaces:\n  - name: second\n    auth_key: " << kSecondCredential << "\n";
}

}  // namespace

TortureStore::TortureStore(const StorePlan& plan) : plan_(plan) {
  config_ = setup_file_drives(dir_, plan.drives, std::to_string(plan.drive_bytes >> 20) + "MiB", plan.shards);
  append_second_tenant(config_);
}

std::string TortureStore::credential(int tenant) const {
  return tenant == 0 ? credential_of(dir_) : std::string(kSecondCredential);
}

ServerProcess::Options TortureStore::options(const RoundPlan& round, const std::string& address) const {
  ServerProcess::Options options;
  options.args = {"--config",  config_,  "--workers",  std::to_string(round.workers),
                  "--io",      round.io, "--memory",   "192MiB",
                  "--shm-dir", folder(), "--shm-size", "128MiB"};
  options.address = address;
  options.dir = folder();
  options.ready_timeout_s = kReadySeconds;
  return options;
}

bool TortureStore::start(const RoundPlan& round, bool same_address, std::string& why) {
  const std::string address = same_address ? server_->address() : "127.0.0.1:0";
  server_ = ServerProcess::launch(options(round, address));
  return server_->wait_until_ready(why);
}

void TortureStore::kill_while_starting(const RoundPlan& round) {
  server_ = ServerProcess::launch(options(round, "127.0.0.1:0"));
  usleep(static_cast<useconds_t>(round.starting_ms) * 1000);
  server_->kill_now();
}

bool TortureStore::damage(const RoundPlan& round) {
  if (away_ >= 0) {
    std::filesystem::rename(drive_path(away_) + ".away", drive_path(away_));
    away_ = -1;
    return true;
  }
  switch (round.damage) {
    case RoundPlan::Damage::kNone:
      return false;
    case RoundPlan::Damage::kDriveLeaves:
      away_ = static_cast<int>(round.damage_seed % static_cast<uint64_t>(plan_.drives));
      std::filesystem::rename(drive_path(away_), drive_path(away_) + ".away");
      return true;
    case RoundPlan::Damage::kRot:
      rot(round.damage_seed);
      return true;
  }
  return false;
}

std::string TortureStore::drive_path(int drive) const { return dir_ / ("store-d" + std::to_string(drive) + ".memkv"); }

/// One sector each of some drives, of one at least.
void TortureStore::rot(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto first = static_cast<int>(random() % static_cast<uint64_t>(plan_.drives));
  for (int drive = 0; drive < plan_.drives; ++drive) {
    const uint64_t drawn = random();
    if (drive == first || drawn % 3 == 0) rot_drive(drive, mix(drawn));
  }
}

/// Flips one bit or zeroes a sector: of the first superblock, of a slice's start, or of the first half of a slice,
/// which is written first.
void TortureStore::rot_drive(int drive, uint64_t random) const {
  const auto shards = static_cast<uint64_t>(plan_.shards);
  const uint64_t slice_bytes = (plan_.drive_bytes - kSlicesOffset) / shards / kSectorBytes * kSectorBytes;
  const uint64_t slice = kSlicesOffset + mix(random) % shards * slice_bytes;
  const uint64_t kind = random % 8;
  const uint64_t span = kind == 0 ? kSectorBytes : kind <= 2 ? kSliceStartBytes : slice_bytes / 2;
  const uint64_t place = (kind == 0 ? 0 : slice) + mix(random + 1) % span / kSectorBytes * kSectorBytes;
  const base::UniqueFd fd(open(drive_path(drive).c_str(), O_RDWR | O_CLOEXEC));
  unsigned char sector[kSectorBytes];
  if (pread(fd.get(), sector, sizeof sector, static_cast<off_t>(place)) != static_cast<ssize_t>(sizeof sector)) return;
  if (random / 8 % 4 == 0) {
    std::memset(sector, 0, sizeof sector);
  } else {
    sector[mix(random + 2) % kSectorBytes] ^= static_cast<unsigned char>(1U << (random / 32 % 8));
  }
  if (pwrite(fd.get(), sector, sizeof sector, static_cast<off_t>(place)) != static_cast<ssize_t>(sizeof sector)) return;
  std::printf("rot: drive %d, sector at %lu\n", drive, static_cast<unsigned long>(place));
}

}  // namespace memkv::test
