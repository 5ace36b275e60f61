#include "sim/drive.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"

namespace memkv::sim {
namespace {

constexpr uint64_t kSector = base::kSectorBytes;
/// An anchor says how far a log was complete at least this often. Two writes that are lost within less time may hide a
/// segment.
constexpr uint64_t kAnchorNs = 1200 * kMs;
constexpr uint64_t kSliceBytes = 16 * 1024;

std::vector<std::byte> gather(std::span<const iovec> pieces) {
  std::vector<std::byte> bytes(io::pieces_bytes(pieces));
  std::byte* to = bytes.data();
  for (const iovec& piece : pieces) {
    std::memcpy(to, piece.iov_base, piece.iov_len);
    to += piece.iov_len;
  }
  return bytes;
}

}  // namespace

/// The drive as one thread of a process sees it.
class DriveDevice final : public io::BlockDevice {
 public:
  DriveDevice(Drive& drive, SimLoop& loop, const io::DeviceInfo& info) : drive_(drive), loop_(loop), info_(info) {}

  const io::DeviceInfo& info() const override { return info_; }
  Result<void> read(io::IoOp& op, uint64_t offset, std::span<const iovec> pieces) override {
    return start(op, Drive::Flight::Kind::kRead, io::IoOp::Kind::kRead, offset, pieces, false);
  }
  Result<void> write(io::IoOp& op, uint64_t offset, std::span<const iovec> pieces, bool dsync) override {
    return start(op, Drive::Flight::Kind::kWrite, io::IoOp::Kind::kWrite, offset, pieces, dsync);
  }
  Result<void> sync(io::IoOp& op) override {
    return start(op, Drive::Flight::Kind::kSync, io::IoOp::Kind::kSync, 0, {}, false);
  }
  const io::DriveLoad* load() const override { return &load_; }

 private:
  Result<void> start(io::IoOp& op, Drive::Flight::Kind kind, io::IoOp::Kind io_kind, uint64_t offset,
                     std::span<const iovec> pieces, bool dsync) {
    const uint64_t bytes = io::pieces_bytes(pieces);
    MEMKV_ASSERT(base::is_aligned(offset, kSector) && base::is_aligned(bytes, kSector));
    if (kind != Drive::Flight::Kind::kSync && (bytes == 0 || offset + bytes > info_.size_bytes)) {
      return Error{Status::kInvalid, 0, "simulated drive: range outside of the drive"};
    }
    if (auto begun = loop_.begin(op, io_kind); !begun) return begun;
    auto flight = std::make_unique<Drive::Flight>();
    flight->op = &op;
    flight->loop = &loop_;
    flight->load = &load_;
    flight->kind = kind;
    flight->offset = offset;
    flight->bytes = bytes;
    flight->pieces = pieces;
    flight->dsync = dsync;
    load_.begin(flight->load_flight, io_kind, bytes, loop_.now_ns());
    return drive_.submit(std::move(flight));
  }

  Drive& drive_;
  SimLoop& loop_;
  const io::DeviceInfo info_;
  io::DriveLoad load_;
};

/// The drive as a process that opened it sees it. Set-up reads and writes take no simulated time.
class OpenDrive final : public io::DriveFile {
 public:
  explicit OpenDrive(Drive& drive) : drive_(drive) {
    info_.path = fmt::format("drive{}", drive.number());
    info_.size_bytes = base::align_down(drive.bytes(), kSector);
    info_.volatile_cache = drive.volatile_cache();
  }
  const io::DeviceInfo& info() const override { return info_; }
  int fd() const override { return -1; }
  std::unique_ptr<io::BlockDevice> bind(io::Reactor& reactor) override {
    return std::make_unique<DriveDevice>(drive_, static_cast<SimLoop&>(reactor), info_);
  }
  Result<void> read_now(uint64_t offset, std::span<std::byte> out) override {
    if (drive_.faults_.gone || drive_.hit(drive_.faults_.read_error)) return broken();
    drive_.read_bytes(offset, out);
    return {};
  }
  Result<void> write_now(uint64_t offset, std::span<const std::byte> bytes) override {
    if (drive_.faults_.gone || drive_.hit(drive_.faults_.write_error)) return broken();
    drive_.land(offset, bytes, /*durable=*/true);
    return {};
  }

 private:
  Error broken() {
    drive_.counts_.errors++;
    return {Status::kIo, EIO, "simulated drive: I/O error"};
  }
  Drive& drive_;
  io::DeviceInfo info_;
};

Drive::Drive(World& world, uint32_t number, const Options& options, uint64_t seed)
    : world_(world), number_(number), options_(options), random_(seed), sectors_(options.bytes / kSector) {}

Drive::~Drive() = default;

std::unique_ptr<io::DriveFile> Drive::open() {
  if (faults_.gone) return nullptr;
  return std::make_unique<OpenDrive>(*this);
}

// Ops.

Result<void> Drive::submit(std::unique_ptr<Flight> flight) {
  uint64_t delay = random_.between(options_.latency_ns_min, options_.latency_ns_max);
  if (world_.now_ns() < faults_.slow_until_ns) delay += random_.below(faults_.slow_ns_max + 1);
  if (world_.now_ns() < faults_.hangs_until_ns) delay += faults_.hangs_until_ns - world_.now_ns();
  flight->cache_age = cache_age_;
  const uint64_t id = flight->serial = ++serial_;
  if (flight->kind == Flight::Kind::kWrite) flight->tells_of = oldest_untold(*flight);
  flights_.emplace(id, std::move(flight));
  world_.after(delay, [this, id] { options_.bytes_per_s > 0 ? serve(id) : finish(id); });
  return {};
}

/// The drive begins to move the op's bytes, slice by slice in turn with the other ops.
void Drive::serve(uint64_t id) {
  const auto at = flights_.find(id);
  if (at == flights_.end()) return;
  turns_.push_back({id, at->second->bytes});
  if (turns_.size() == 1) serve_slice();
}

void Drive::serve_slice() {
  const uint64_t bytes = std::min(turns_.front().bytes_left, kSliceBytes);
  world_.after(bytes * kSecond / options_.bytes_per_s, [this, bytes] {
    Turn turn = turns_.front();
    turns_.pop_front();
    turn.bytes_left -= bytes;
    if (turn.bytes_left > 0) turns_.push_back(turn);
    if (!turns_.empty()) serve_slice();
    if (turn.bytes_left == 0) finish(turn.id);
  });
}

void Drive::finish(uint64_t id) {
  const auto at = flights_.find(id);
  if (at == flights_.end()) return;  // the process that submitted it is dead
  const std::unique_ptr<Flight> flight = std::move(at->second);
  flights_.erase(at);
  const int32_t result = take_effect(*flight);
  flight->load->end(flight->load_flight, result >= 0);
  flight->loop->end(*flight->op, result);
}

int32_t Drive::take_effect(Flight& flight) {
  if (faults_.gone) return counts_.errors++, -ENODEV;
  switch (flight.kind) {
    case Flight::Kind::kRead:
      return do_read(flight);
    case Flight::Kind::kWrite:
      return do_write(flight);
    case Flight::Kind::kSync:
      break;
  }
  std::erase_if(cache_, [&](const auto& entry) {
    if (entry.second.age >= flight.cache_age) return false;
    platter(entry.first) = entry.second.bytes;
    return true;
  });
  return 0;
}

int32_t Drive::do_read(const Flight& flight) {
  counts_.reads++;
  if (hit(faults_.read_error)) return counts_.errors++, -EIO;
  uint64_t offset = flight.offset;
  for (const iovec& piece : flight.pieces) {
    read_bytes(offset, {static_cast<std::byte*>(piece.iov_base), piece.iov_len});
    offset += piece.iov_len;
  }
  if (hit(faults_.read_flip)) {
    const iovec& piece = flight.pieces[random_.below(flight.pieces.size())];
    static_cast<std::byte*>(piece.iov_base)[random_.below(piece.iov_len)] ^= std::byte{4};
  }
  return static_cast<int32_t>(flight.bytes);
}

void Drive::read_bytes(uint64_t offset, std::span<std::byte> out) const {
  MEMKV_ASSERT(base::is_aligned(offset, kSector) && base::is_aligned(out.size(), kSector));
  for (size_t at = 0; at < out.size(); at += kSector) {
    const uint64_t number = (offset + at) / kSector;
    const auto cached = cache_.empty() ? cache_.end() : cache_.find(number);
    if (cached != cache_.end()) {
      std::memcpy(out.data() + at, cached->second.bytes.data(), kSector);
    } else if (sectors_[number] != nullptr) {
      std::memcpy(out.data() + at, sectors_[number]->data(), kSector);
    } else {
      std::memset(out.data() + at, 0, kSector);
    }
  }
}

int32_t Drive::do_write(const Flight& flight) {
  counts_.writes++;
  const auto done = static_cast<int32_t>(flight.bytes);
  const std::vector<std::byte> bytes = gather(flight.pieces);
  if (hit(faults_.write_error)) {
    counts_.errors++;
    land_partly(flight.offset, bytes, flight.dsync);
    return -EIO;
  }
  if (hit(faults_.lost_write)) {
    counts_.lost++;
    world_.trace().add(world_.now_ns(), fmt::format("drive {}: the write of {} sectors at {} is lost", number_,
                                                    flight.bytes / kSector, flight.offset / kSector));
    note_write(flight, true);
    return done;
  }
  if (hit(faults_.misdirected_write)) {
    counts_.misdirected++;
    note_write(flight, true);
    const uint64_t room = slices_.bytes > 0 ? slices_.from / kSector : 0;
    const uint64_t other = room + random_.below(sectors_.size() - bytes.size() / kSector - room + 1);
    world_.trace().add(world_.now_ns(), fmt::format("drive {}: the write of {} sectors at {} lands at {}", number_,
                                                    flight.bytes / kSector, flight.offset / kSector, other));
    for (size_t at = 0; at < bytes.size(); at += kSector) note_damage(other + at / kSector);
    land(other * kSector, bytes, flight.dsync);
    return done;
  }
  note_write(flight, false);
  land(flight.offset, bytes, flight.dsync);
  return done;
}

// The bytes themselves.

Drive::Sector& Drive::platter(uint64_t number) {
  std::unique_ptr<Sector>& sector = sectors_[number];
  if (sector == nullptr) {
    sector = std::make_unique<Sector>();
    written_.push_back(number);
  }
  return *sector;
}

void Drive::land_sector(uint64_t number, const std::byte* bytes, bool durable) {
  for (Copy& copy : copies_) copy.damaged = copy.damaged && copy.sector != number;
  if (durable || !options_.volatile_cache) {
    cache_.erase(number);
    std::memcpy(platter(number).data(), bytes, kSector);
    return;
  }
  Cached& cached = cache_.try_emplace(number, Cached{cache_age_, {}}).first->second;
  std::memcpy(cached.bytes.data(), bytes, kSector);
}

void Drive::land(uint64_t offset, std::span<const std::byte> bytes, bool durable) {
  for (size_t at = 0; at < bytes.size(); at += kSector)
    land_sector((offset + at) / kSector, bytes.data() + at, durable);
  cache_age_++;
}

/// Lands the write whole, not at all, from the front up to some sector, or each sector by chance: drives promise no
/// order inside one write.
void Drive::land_partly(uint64_t offset, std::span<const std::byte> bytes, bool durable) {
  const size_t sectors = bytes.size() / kSector;
  const uint64_t way = random_.below(4);
  const size_t front = way == 0 ? 0 : way == 1 ? sectors : random_.below(sectors + 1);
  for (size_t i = 0; i < sectors; i++) {
    if (way == 3 ? random_.chance(1, 2) : i < front)
      land_sector(offset / kSector + i, bytes.data() + i * kSector, durable);
  }
  counts_.torn++;
  cache_age_++;
}

void Drive::tear_in_flight() {
  for (auto& [id, flight] : flights_) {
    if (flight->kind == Flight::Kind::kWrite && !faults_.gone) {
      land_partly(flight->offset, gather(flight->pieces), flight->dsync);
    }
    (void)flight.release();  // it stays in a list of the dead process
  }
  flights_.clear();
}

void Drive::cut_power() {
  tear_in_flight();
  const uint64_t way = random_.below(4);  // what becomes of the cache: lost, kept, or each sector by chance
  for (const auto& [number, cached] : cache_) {
    const bool lands = way == 1 || (way > 1 && random_.chance(1, 2));
    if (lands)
      platter(number) = cached.bytes;
    else
      counts_.dropped_from_cache++;
  }
  cache_.clear();
}

// Rot, and whether it hits what is the one exception.

std::optional<size_t> Drive::slice_of(uint64_t offset) const {
  if (slices_.bytes == 0 || offset < slices_.from) return std::nullopt;
  return (offset - slices_.from) / slices_.bytes;
}

/// Finds the oldest write of the slice that is in flight when this one begins, or that has ended but whose owner was
/// not told yet. This write can vouch for those before that one, and for no others.
uint64_t Drive::oldest_untold(const Flight& flight) const {
  const auto slice = slice_of(flight.offset);
  uint64_t oldest = flight.serial;
  for (const auto& [id, other] : flights_) {
    if (other->kind == Flight::Kind::kWrite && slice_of(other->offset) == slice) oldest = std::min(oldest, id);
  }
  if (!slice || *slice >= newest_.size()) return oldest;
  for (const Newest& write : newest_[*slice]) {
    if (write.loop == flight.loop && write.turn == flight.loop->told_turns()) oldest = std::min(oldest, write.serial);
  }
  return oldest;
}

void Drive::note_write(const Flight& flight, bool damaged) {
  const auto slice = slice_of(flight.offset);
  if (!slice) return;
  if (*slice >= newest_.size()) newest_.resize(*slice + 1);
  std::vector<Newest>& writes = newest_[*slice];
  lost_ns_.resize(newest_.size());
  std::vector<uint64_t>& lost = lost_ns_[*slice];
  std::erase_if(lost, [&](uint64_t ns) { return ns + kAnchorNs < world_.now_ns(); });
  if (damaged) lost.push_back(world_.now_ns());
  if (!damaged) std::erase_if(writes, [&](const Newest& write) { return write.serial < flight.tells_of; });
  writes.push_back({flight.serial, flight.offset, flight.bytes, damaged, flight.loop, flight.loop->told_turns()});
}

void Drive::note_damage(uint64_t sector) {
  for (std::vector<Newest>& writes : newest_) {
    for (Newest& write : writes) {
      if (sector * kSector >= write.offset && sector * kSector < write.offset + write.bytes) write.damaged = true;
    }
  }
  for (Copy& copy : copies_) copy.damaged = copy.damaged || copy.sector == sector;
}

bool Drive::last_good_copy(uint64_t sector) const {
  return (copies_[0].sector == sector && copies_[1].damaged) || (copies_[1].sector == sector && copies_[0].damaged);
}

bool Drive::newest_damaged() const {
  const bool several = std::any_of(lost_ns_.begin(), lost_ns_.end(), [](const auto& lost) { return lost.size() > 1; });
  return several || std::any_of(newest_.begin(), newest_.end(), [](const std::vector<Newest>& writes) {
           return std::any_of(writes.begin(), writes.end(), [](const Newest& write) { return write.damaged; });
         });
}

std::optional<uint64_t> Drive::rot(bool newest) {
  std::vector<uint64_t> choice;
  for (const std::vector<Newest>& writes : newest_) {
    if (!newest || writes.empty()) continue;
    choice.push_back(writes.back().offset / kSector + random_.below(writes.back().bytes / kSector));
  }
  if (choice.empty()) choice = written_;
  if (choice.empty()) return std::nullopt;
  const uint64_t number = choice[random_.below(choice.size())];
  if (last_good_copy(number)) return std::nullopt;
  platter(number)[random_.below(kSector)] ^= static_cast<std::byte>(1u << random_.below(8));
  counts_.rotten++;
  note_damage(number);
  return number;
}

std::optional<uint64_t> Drive::zero_sector() {
  if (written_.empty()) return std::nullopt;
  const uint64_t number = written_[random_.below(written_.size())];
  if (last_good_copy(number)) return std::nullopt;
  platter(number).fill(std::byte{0});
  counts_.rotten++;
  note_damage(number);
  return number;
}

}  // namespace memkv::sim
