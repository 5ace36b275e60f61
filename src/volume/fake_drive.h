#pragma once
/// A drive for tests of set-up code. It has blocking access only, and keeps what was written to it.

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/assert.h"
#include "format/format.h"
#include "io/device.h"

namespace memkv::volume {

/// The power supply of a test's drives. Writes reach them until `writes_left` is used up; then the power is off.
struct FakePower {
  int64_t writes_left = INT64_MAX;
  int64_t writes_done = 0;
};

class FakeDrive final : public io::DriveFile {
 public:
  FakeDrive(std::string path, uint64_t size_bytes, FakePower& power) : power_(power) {
    info_.path = std::move(path);
    info_.size_bytes = size_bytes;
  }

  const io::DeviceInfo& info() const override { return info_; }
  int fd() const override { return -1; }
  std::unique_ptr<io::BlockDevice> bind(io::Reactor&) override { return nullptr; }
  Result<void> read_now(uint64_t offset, std::span<std::byte> out) override {
    check(offset, out.size());
    if (fail_reads) return Error{Status::kIo, 5, "fake"};
    for (size_t at = 0; at < out.size(); at += base::kSectorBytes) {
      const auto found = sectors.find(offset + at);
      if (found == sectors.end()) {
        std::memset(out.data() + at, 0, base::kSectorBytes);
      } else {
        std::memcpy(out.data() + at, found->second.data(), base::kSectorBytes);
      }
    }
    return {};
  }
  Result<void> write_now(uint64_t offset, std::span<const std::byte> bytes) override {
    check(offset, bytes.size());
    if (fail_writes || power_.writes_left <= 0) return Error{Status::kIo, 5, "fake"};
    --power_.writes_left;
    ++power_.writes_done;
    for (size_t at = 0; at < bytes.size(); at += base::kSectorBytes) {
      std::memcpy(sectors[offset + at].data(), bytes.data() + at, base::kSectorBytes);
    }
    return {};
  }

  /// A copy of the superblock, for a test to look at or to damage.
  format::Superblock& copy(int i) {
    return *reinterpret_cast<format::Superblock*>(sectors[format::kSuperblockOffsets[i]].data());
  }
  void resize(uint64_t size_bytes) { info_.size_bytes = size_bytes; }

  struct alignas(8) Sector : std::array<std::byte, base::kSectorBytes> {};
  std::map<uint64_t, Sector> sectors;
  bool fail_reads = false;
  bool fail_writes = false;

 private:
  void check(uint64_t offset, uint64_t bytes) const {
    MEMKV_ASSERT(offset % base::kSectorBytes == 0 && bytes % base::kSectorBytes == 0);
    MEMKV_ASSERT(offset <= info_.size_bytes && bytes <= info_.size_bytes - offset);
  }

  io::DeviceInfo info_;
  FakePower& power_;
};

}  // namespace memkv::volume
