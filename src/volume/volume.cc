/// Volume: opens a store's drives, agrees on the membership, and writes what changes of it.

#include "volume/volume.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/random.h"
#include "base/test_rules.h"
#include "base/units.h"
#include "format/format_check.h"
#include "volume/membership.h"
#include "volume/superblock_io.h"

namespace memkv::volume {

namespace {

std::string hex(const uint8_t (&id)[16]) { return base::hex_encode(base::bytes_of(id, sizeof id)); }
bool same_id(const uint8_t (&a)[16], const uint8_t (&b)[16]) { return std::memcmp(a, b, sizeof a) == 0; }
uint64_t bit(uint32_t index) { return uint64_t{1} << index; }
Message message(Status status, std::string text) { return {status, std::move(text)}; }

/// The name that messages and --accept-loss use for a member: the first 8 hex digits of its id.
std::string name_of(const format::SuperblockMember& member) { return hex(member.drive_id).substr(0, 8); }

class OpenVolume final : public Volume {
 public:
  const format::Superblock& superblock() const override { return store_; }
  uint32_t drive_count() const override { return store_.member_count; }
  io::DriveFile* drive(uint32_t index) const override {
    MEMKV_ASSERT(index < drive_count());
    return members_[index].file;
  }
  const format::Superblock& superblock_of(uint32_t index) const override {
    MEMKV_ASSERT(index < drive_count());
    return members_[index].superblock;
  }
  std::vector<std::string> missing() const override;
  Result<void> take_out(uint32_t index) override;
  Result<uint64_t> namespace_id(std::string_view name) override;

  /// open() takes these steps, in this order.
  Result<void, Message> read(const std::vector<io::DriveFile*>& drives);
  Result<void, Message> agree(const std::vector<std::string>& accept_loss);
  Result<void, Message> settle();

 private:
  Result<void, Message> admit(MemberDrive drive);
  Result<void, Message> check_loss(const std::vector<std::string>& accept_loss) const;
  void adopt_namespaces();
  bool settled() const;
  Result<void> write_everywhere();
  Result<void> write_member(uint32_t index);

  format::Superblock store_{};           // fields that all drives share; until agree() those of the first drive
  std::vector<MemberDrive> members_;     // by index; `file` is null where a member is missing or out
  std::vector<std::string> unreadable_;  // paths of drives that could not be read
  std::string first_path_;
  Membership membership_;
  bool dirty_ = false;  // a change of store_ is not on all members yet
};

// --- reading ---------------------------------------------------------------------------------------------------------

Message read_failed(const std::string& path, const Error& error, const format::Superblock& superblock) {
  switch (error.status) {
    case Status::kMiss:
      return message(Status::kMiss,
                     path + ": not formatted: check the path, or format it with `memkv setup --drive " + path + "`");
    case Status::kVersion:
      return message(Status::kVersion,
                     fmt::format("{}: has format version {}, this program knows {} and older: use a newer program",
                                 path, superblock.format_version, format::kFormatVersion));
    default:
      return message(Status::kCorrupt,
                     path +
                         ": both superblocks are damaged: leave the drive out of the list to start without it (its "
                         "blocks are lost), or format it anew");
  }
}

Result<void, Message> OpenVolume::read(const std::vector<io::DriveFile*>& drives) {
  if (drives.empty()) return message(Status::kInvalid, "no drives given: name the files or block devices of the store");
  for (io::DriveFile* file : drives) {
    MemberDrive drive;
    if (const auto read = read_superblock(*file, drive); !read) {
      if (read.error().status != Status::kIo) return read_failed(file->info().path, read.error(), drive.superblock);
      unreadable_.push_back(file->info().path);
      MEMKV_LOG(kError, "{}: superblocks cannot be read; the drive counts as missing", file->info().path);
      continue;
    }
    if (auto admitted = admit(drive); !admitted) return admitted;
  }
  if (!members_.empty()) return {};
  return message(Status::kIo,
                 fmt::format("{}: cannot be read, and no other drive is there: check the drives", unreadable_.front()));
}

/// Takes one drive into the store that is being opened. The first drive says which store that is. Each further drive
/// must belong to the same store, name the same members, and not be there already.
Result<void, Message> OpenVolume::admit(MemberDrive drive) {
  const std::string& path = drive.file->info().path;
  const format::Superblock& superblock = drive.superblock;
  if (members_.empty()) {
    store_ = superblock;
    first_path_ = path;
    members_.resize(superblock.member_count);
  }
  if (!same_id(superblock.store_id, store_.store_id)) {
    return message(Status::kInvalid,
                   fmt::format("{} belongs to another store ({}) than {} ({}): name the drives of one store", path,
                               hex(superblock.store_id), first_path_, hex(store_.store_id)));
  }
  if (superblock.member_count != store_.member_count || superblock.shard_count != store_.shard_count ||
      !same_id(superblock.drive_id, store_.members[superblock.drive_index].drive_id)) {
    return message(
        Status::kCorrupt,
        fmt::format("{} and {} do not agree on the drives of their store: leave one of them out", path, first_path_));
  }
  if (members_[superblock.drive_index].file != nullptr) {
    return message(
        Status::kInvalid,
        fmt::format("{} and {} are the same drive {} or one is a copy of the other: name one of them",
                    members_[superblock.drive_index].file->info().path, path, hex(superblock.drive_id).substr(0, 8)));
  }
  const uint64_t size_bytes = superblock.members[superblock.drive_index].size_bytes;
  if (drive.file->info().size_bytes < size_bytes) {
    return message(Status::kInvalid,
                   fmt::format("{} has shrunk: {} bytes, formatted with {}: give it its size back, or leave it out",
                               path, drive.file->info().size_bytes, size_bytes));
  }
  members_[superblock.drive_index] = drive;
  return {};
}

// --- agreeing --------------------------------------------------------------------------------------------------------

Result<void, Message> OpenVolume::agree(const std::vector<std::string>& accept_loss) {
  std::vector<MemberState> states;
  for (uint32_t i = 0; i < members_.size(); ++i) {
    if (members_[i].file != nullptr)
      states.push_back({i, members_[i].superblock.membership_epoch, members_[i].superblock.members_in});
  }
  MEMKV_ASSERT(!states.empty(), "read() leaves at least one member");
  const auto decided = decide_membership(states);
  if (!decided) {
    return message(
        Status::kInvalid,
        "the drives tell of two different memberships of one epoch, as after a split of the store: name only "
        "the drives that were used last");
  }
  membership_ = *decided;
  if (auto lost = check_loss(accept_loss); !lost) return lost;
  adopt_namespaces();
  return {};
}

/// Refuses to start when half of the members or more are missing, unless the owner has named each missing one as lost.
/// The message lists the options that do so.
Result<void, Message> OpenVolume::check_loss(const std::vector<std::string>& accept_loss) const {
  uint32_t present = 0;
  std::string missing, options;
  bool accepted = true;
  std::vector<std::string> unknown = accept_loss;
  for (uint32_t i = 0; i < members_.size(); ++i) {
    const std::string name = name_of(store_.members[i]);
    const bool here = members_[i].file != nullptr;
    if (!here) std::erase(unknown, name);
    if ((membership_.in & bit(i)) == 0) continue;
    if (here) ++present;
    if (here) continue;
    accepted = accepted && std::find(accept_loss.begin(), accept_loss.end(), name) != accept_loss.end();
    missing += fmt::format("{}drive {} ({}, {})", missing.empty() ? "" : ", ", i, name,
                           base::format_bytes(store_.members[i].size_bytes));
    options += " --accept-loss " + name;
  }
  if (!unknown.empty()) {
    return message(Status::kInvalid, fmt::format("--accept-loss {}: no such drive is missing{}{}", unknown.front(),
                                                 missing.empty() ? "" : "; missing are ", missing));
  }
  const auto members = static_cast<uint32_t>(std::popcount(membership_.in));
  if (2 * present > members || (accepted && present > 0)) return {};
  std::string text = fmt::format(
      "only {} of {} drives of the store are there; missing: {}: bring them back, or start without them and lose "
      "their blocks with{}",
      present, members, missing, options);
  for (const std::string& path : unreadable_) text += fmt::format("; {} cannot be read", path);
  return message(Status::kUnavailable, std::move(text));
}

/// Namespaces are only ever appended, so the longest table of any member contains all others.
void OpenVolume::adopt_namespaces() {
  const format::Superblock* longest = nullptr;
  for (uint32_t i = 0; i < members_.size(); ++i) {
    if (members_[i].file == nullptr || (membership_.in & bit(i)) == 0) continue;
    if (longest == nullptr || members_[i].superblock.namespace_count > longest->namespace_count)
      longest = &members_[i].superblock;
  }
  MEMKV_ASSERT(longest != nullptr);
  store_ = *longest;
}

// --- settling --------------------------------------------------------------------------------------------------------

/// Empties a drive that comes back after it was out: it gets a new life, in which its old logs are not valid. Both
/// superblock copies are written, so that no copy is left with the former life.
Result<void> begin_life(MemberDrive& drive) {
  format::Superblock next = drive.superblock;
  base::os_random(base::mut_bytes_of(&next.life, sizeof next.life));
  for (int copy = 0; copy < 2; ++copy) {
    if (auto written = write_superblock(drive, next); !written) return written;
  }
  return {};
}

/// True if all members are present and agree, in both copies and in this version of the format: nothing needs to be
/// written.
bool OpenVolume::settled() const {
  return std::all_of(members_.begin(), members_.end(), [this](const MemberDrive& member) {
    const bool in = (membership_.in & bit(static_cast<uint32_t>(&member - members_.data()))) != 0;
    if (member.file == nullptr) return !in;
    return in && !member.one_copy && member.superblock.membership_epoch == membership_.epoch &&
           member.superblock.namespace_count == store_.namespace_count &&
           member.superblock.format_version == format::kFormatVersion;
  });
}

/// Brings all present drives to one membership, before anything is acknowledged under it. Missing members are out;
/// those that were out come back empty.
Result<void, Message> OpenVolume::settle() {
  const auto failed = [](const MemberDrive& member, const Error& error) {
    return message(error.status,
                   fmt::format("{}: writing failed (errno {}): leave the drive out of the list to start without it",
                               member.file->info().path, error.sys_errno));
  };
  const bool unchanged = settled();
  if (store_.format_version < format::kFormatVersion) {
    MEMKV_LOG(kInfo, "the store is of format version {}: it is of version {} from now on, which older programs refuse",
              store_.format_version, format::kFormatVersion);
  }
  uint64_t in = 0;
  for (uint32_t i = 0; i < members_.size(); ++i) {
    MemberDrive& member = members_[i];
    if (member.file == nullptr) {
      member.superblock.drive_index = i;
      continue;
    }
    in |= bit(i);
    if ((membership_.in & bit(i)) != 0 || !base::rules().membership) continue;
    MEMKV_LOG(kWarn, "{}: was out of its store (membership {} of {}): comes back empty", member.file->info().path,
              member.superblock.membership_epoch, membership_.epoch);
    if (auto begun = begin_life(member); !begun) return failed(member, begun.error());
  }
  MEMKV_ASSERT(in != 0, "check_loss() starts no store without a member");
  store_.members_in = in;
  store_.membership_epoch = unchanged ? membership_.epoch : membership_.epoch_seen + 1;
  if (unchanged) return {};
  for (uint32_t i = 0; i < members_.size(); ++i) {
    if (members_[i].file == nullptr) continue;
    if (auto written = write_member(i); !written) return failed(members_[i], written.error());
  }
  return {};
}

// --- changes ---------------------------------------------------------------------------------------------------------

/// Writes both copies, one after another. If one of them is lost later, the drive then does not fall back to an earlier
/// membership, in which a drive that is out would still be in.
Result<void> OpenVolume::write_member(uint32_t index) {
  MEMKV_ASSERT(index < members_.size() && members_[index].file != nullptr, "a missing member cannot be written");
  format::Superblock next = members_[index].superblock;
  next.format_version = format::kFormatVersion;
  next.membership_epoch = store_.membership_epoch;
  next.members_in = store_.members_in;
  next.namespace_count = store_.namespace_count;
  std::copy(std::begin(store_.namespaces), std::end(store_.namespaces), next.namespaces);
  for (int copy = 0; copy < 2; ++copy) {
    if (auto written = write_superblock(members_[index], next); !written) return written;
  }
  return {};
}

Result<void> OpenVolume::write_everywhere() {
  for (uint32_t i = 0; i < members_.size(); ++i) {
    if (members_[i].file == nullptr) continue;
    if (auto written = write_member(i); !written) {
      dirty_ = true;
      return written;
    }
  }
  dirty_ = false;
  return {};
}

std::vector<std::string> OpenVolume::missing() const {
  std::vector<std::string> names;
  for (uint32_t i = 0; i < members_.size(); ++i) {
    if (members_[i].file == nullptr) names.push_back(name_of(store_.members[i]));
  }
  return names;
}

/// Takes a drive out. If another drive fails to record the new epoch it goes out too, with one more epoch: then its own
/// superblock is behind those of the others.
Result<void> OpenVolume::take_out(uint32_t index) {
  MEMKV_ASSERT(index < drive_count());
  uint64_t out = bit(index);
  while (out != 0) {
    store_.members_in &= ~out;
    ++store_.membership_epoch;
    for (uint32_t i = 0; i < members_.size(); ++i) {
      if ((out & bit(i)) != 0) members_[i].file = nullptr;
    }
    out = 0;
    for (uint32_t i = 0; i < members_.size(); ++i) {
      if (members_[i].file != nullptr && !write_member(i).ok()) out |= bit(i);
    }
  }
  dirty_ = false;
  if (store_.members_in == 0) return Error{Status::kIo, 0, "the last drive of the store is out"};
  return {};
}

/// The id of a namespace. A new name gets a random id, which is durable on all drives before it is returned. Otherwise
/// a crash could forget the id, and the blocks stored under it would belong to nobody.
Result<uint64_t> OpenVolume::namespace_id(std::string_view name) {
  if (name.empty() || name.size() >= sizeof(format::SuperblockNamespace::name) ||
      name.find('\0') != std::string_view::npos) {
    return Error{Status::kInvalid, 0, "a namespace's name has 1 to 31 bytes, none of them zero"};
  }
  uint32_t at = 0;
  while (at < store_.namespace_count && name != store_.namespaces[at].name) ++at;
  if (at == format::kNamespacesMax) return Error{Status::kTooLarge, 0, "a store has at most 64 namespaces"};
  format::SuperblockNamespace& entry = store_.namespaces[at];
  if (at == store_.namespace_count) {
    entry = {};
    std::copy(name.begin(), name.end(), entry.name);
    while (entry.id == 0) {
      if (base::rules().random_namespaces)
        base::os_random(base::mut_bytes_of(&entry.id, sizeof entry.id));
      else
        entry.id = at + 1;
    }
    ++store_.namespace_count;
    dirty_ = true;
  }
  if (dirty_) {
    if (auto written = write_everywhere(); !written) return written.error();
  }
  return entry.id;
}

}  // namespace

Result<std::unique_ptr<Volume>, Message> Volume::open(const std::vector<io::DriveFile*>& drives,
                                                      const OpenOptions& options) {
  auto volume = std::make_unique<OpenVolume>();
  if (auto read = volume->read(drives); !read) return read.error();
  if (auto agreed = volume->agree(options.accept_loss); !agreed) return agreed.error();
  if (auto settled = volume->settle(); !settled) return settled.error();
  return std::unique_ptr<Volume>(std::move(volume));
}

}  // namespace memkv::volume
