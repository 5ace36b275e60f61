/// Fuzzes the checks of superblocks, and Volume::open() over two drives of a store whose superblocks the input changes.
/// First byte: bit 0 makes checksums right, bit 1 accepts losses. Then come patches: copy (2 bits used), offset (2
/// bytes), length (1 byte), and that many bytes.

#include <string>

#include "base/bytes.h"
#include "base/hex.h"
#include "base/log.h"
#include "format/format_check.h"
#include "volume/fake_drive.h"
#include "volume/volume.h"

using namespace memkv;
using namespace memkv::volume;

namespace {

constexpr uint64_t kDriveBytes = uint64_t{24} << 20;

struct Input {
  const uint8_t* data;
  size_t size;
  uint8_t byte() {
    if (size == 0) return 0;
    --size;
    return *data++;
  }
};

void patch(FakeDrive& drive, int copy, Input& input) {
  const size_t offset = input.byte() + size_t{256} * input.byte();
  const size_t length = input.byte();
  auto* bytes = reinterpret_cast<uint8_t*>(&drive.copy(copy));
  for (size_t i = 0; i < length && input.size > 0; ++i) bytes[(offset + i) % sizeof(format::Superblock)] = input.byte();
}

void use(Volume& volume) {
  for (uint32_t i = 0; i < volume.drive_count(); ++i) {
    if (volume.drive(i) != nullptr) (void)volume.slice_offset(i, volume.superblock().shard_count - 1);
  }
  (void)volume.missing();
  (void)volume.namespace_id("fuzz");
  (void)volume.take_out(0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  base::set_log_level(base::LogLevel::kOff);
  FakePower power;
  FakeDrive a("a", kDriveBytes, power);
  FakeDrive b("b", kDriveBytes, power);
  if (!Volume::format({&a, &b}, {}).ok()) __builtin_trap();
  Input input{data, size};
  const uint8_t flags = input.byte();
  while (input.size > 0) {
    const uint8_t where = input.byte();
    patch((where & 2) != 0 ? b : a, where & 1, input);
  }
  for (FakeDrive* drive : {&a, &b}) {
    for (const int copy : {0, 1}) {
      if ((flags & 1) != 0) seal(drive->copy(copy));
    }
  }
  Volume::OpenOptions options;
  if ((flags & 2) != 0) options.accept_loss = {base::hex_encode(base::bytes_of(b.copy(0).drive_id, 4))};
  auto volume =
      Volume::open((flags & 2) != 0 ? std::vector<io::DriveFile*>{&a} : std::vector<io::DriveFile*>{&a, &b}, options);
  if (volume.ok()) use(**volume);
  return 0;
}
