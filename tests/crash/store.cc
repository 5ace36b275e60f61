#include "tests/crash/store.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "base/unique_fd.h"
#include "tests/support/pattern.h"

namespace memkv::test {
namespace {

constexpr int kReadySeconds = 300;  ///< long enough for a busy machine
constexpr const char* kNamespaceNames[kTenants] = {"default", "second"};

void append_second_tenant(const std::string& config) {
  std::ofstream(config, std::ios::app) << "namespaces:\n  - name: second\n    auth_key: " << kSecondCredential << "\n";
}

/// A sector that will rot.
struct Target {
  const char* what;
  uint64_t place;
};

/// Chooses each kind of sector equally often, since recovery does not need most of a drive's bytes.
Target choose_target(const DriveImage& image, uint32_t shard, const std::optional<NewestSegment>& segment,
                     uint64_t random) {
  const uint64_t kind = random % 8, drawn = mix(random + 1);
  const uint64_t slice = image.slice_of(shard);
  if (kind == 0) return {"superblock", format::kSuperblockOffsets[0]};
  if (kind == 1) return {"anchor", slice + drawn % 2 * base::kSectorBytes};
  // Logs are written from the front, so most of the second half is empty.
  const Target any = {"sector", slice + drawn % (image.slice_bytes() / 2) / base::kSectorBytes * base::kSectorBytes};
  if (kind == 2 || !segment) return any;
  if (kind == 3) return {"header of the newest segment", segment->start};
  if (segment->extents.empty()) return any;
  const bool last = kind <= 5;
  const auto& extent = last ? segment->extents.back() : segment->extents[drawn % segment->extents.size()];
  const uint64_t start = segment->start + uint64_t{extent.block} * base::kSectorBytes;
  if (kind % 2 == 0) return {last ? "header of the last extent" : "header of an extent", start};
  return {last ? "sector of the last extent" : "sector of an extent",
          start + mix(drawn) % extent.header.extent_bytes / base::kSectorBytes * base::kSectorBytes};
}

/// Takes 64 MiB of the server's memory for hot chunks.
void add_tier(const std::string& config) {
  std::ifstream in(config);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::string section = "\nmemory:\n";
  text.insert(text.find(section) + section.size(), "  tier_size: 64MiB\n");
  std::ofstream(config) << text;
}

}  // namespace

TortureStore::TortureStore(const StorePlan& plan) : plan_(plan) {
  config_ = setup_file_drives(dir_, plan.drives, std::to_string(plan.drive_bytes >> 20) + "MiB", plan.shards);
  append_second_tenant(config_);
  if (plan.drives != 1) add_tier(config_);
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

DamageDone TortureStore::damage(const RoundPlan& round) {
  if (away_ >= 0) {
    std::filesystem::rename(drive_path(away_) + ".away", drive_path(away_));
    away_ = -1;
    return {};  // the drive comes back empty: its blocks are misses already
  }
  switch (round.damage) {
    case RoundPlan::Damage::kNone:
      return {};
    case RoundPlan::Damage::kDriveLeaves:
      away_ = static_cast<int>(round.damage_seed % static_cast<uint64_t>(plan_.drives));
      std::filesystem::rename(drive_path(away_), drive_path(away_) + ".away");
      return {.may_miss = true, .may_be_older = {}};
    case RoundPlan::Damage::kRot:
      return rot(round.damage_seed);
  }
  return {};
}

std::string TortureStore::drive_path(int drive) const { return dir_ / ("store-d" + std::to_string(drive) + ".memkv"); }

/// Damages one sector each on some drives, at least on one.
DamageDone TortureStore::rot(uint64_t seed) {
  std::mt19937_64 random(seed);
  DamageDone done{.may_miss = true, .may_be_older = {}};
  const auto first = static_cast<int>(random() % static_cast<uint64_t>(plan_.drives));
  for (int drive = 0; drive < plan_.drives; ++drive) {
    const uint64_t drawn = random();
    if (drive == first || drawn % 3 == 0) rot_drive(drive, mix(drawn), done);
  }
  return done;
}

/// Flips one bit of a sector, or zeroes the sector.
void TortureStore::rot_drive(int drive, uint64_t random, DamageDone& done) const {
  const auto image = DriveImage::open(drive_path(drive));
  if (!image) return;
  const auto shard = static_cast<uint32_t>(mix(random) % image->shards());
  const auto segment = image->newest_segment(shard);
  const Target target = choose_target(*image, shard, segment, random);
  const base::UniqueFd fd(open(drive_path(drive).c_str(), O_RDWR | O_CLOEXEC));
  unsigned char sector[base::kSectorBytes];
  const auto place = static_cast<off_t>(target.place);
  if (pread(fd.get(), sector, sizeof sector, place) != static_cast<ssize_t>(sizeof sector)) return;
  if (random / 8 % 4 == 0) {
    std::memset(sector, 0, sizeof sector);
  } else {
    sector[mix(random + 2) % base::kSectorBytes] ^= static_cast<unsigned char>(1U << (random / 32 % 8));
  }
  if (pwrite(fd.get(), sector, sizeof sector, place) != static_cast<ssize_t>(sizeof sector)) return;
  std::vector<engine::Digest> digests;
  if (segment) digests = may_be_older(*segment, target.place);
  const auto is_lost = [&](const BlockId& block) {
    const auto digest = image->digest_of(kNamespaceNames[tenant_of(block.client)], key_of(block));
    return digest && std::find(digests.begin(), digests.end(), *digest) != digests.end();
  };
  for (BlockId block; block.client < kClientCount; ++block.client) {
    for (block.key = 0; block.key < kBlocksPerClient; ++block.key) {
      if (is_lost(block)) done.may_be_older.insert(block);
    }
  }
  std::printf("rot: drive %d, shard %u, %s at %lu, nothing vouches for %zu records of it\n", drive, shard, target.what,
              static_cast<unsigned long>(target.place), digests.size());
}

}  // namespace memkv::test
