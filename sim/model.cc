#include "sim/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace memkv::sim {
namespace {

/// The eight bytes that say version (first), key and place.
uint64_t word_of(uint32_t key, Version version, uint64_t at) {
  const uint64_t product = ((uint64_t{key} << 32) ^ version ^ (at / 8)) * 0x9e3779b97f4a7c15;
  return version | (product & 0xffffffff00000000);
}

Change::Fate fate_of(Status status) {
  switch (status) {
    case Status::kOk:
    case Status::kMiss:  // for a remove: the key is not there now
      return Change::Fate::kApplied;
    case Status::kExists:
    case Status::kRefused:
    case Status::kInvalid:
    case Status::kTooLarge:
    case Status::kUnauthorized:
    case Status::kVersion:
    case Status::kBusy:
    case Status::kNotReady:
    case Status::kCanceled:
    case Status::kNoSpace:
      return Change::Fate::kNever;
    default:
      return Change::Fate::kMaybe;
  }
}

/// How many of these times had come by then.
uint32_t count_until(const std::vector<uint64_t>& times, uint64_t ns) {
  return static_cast<uint32_t>(std::upper_bound(times.begin(), times.end(), ns) - times.begin());
}

const char* name_of(Change::Kind kind) {
  constexpr const char* kNames[] = {"put", "write", "remove", "flush"};
  return kNames[static_cast<size_t>(kind)];
}

}  // namespace

void fill_content(std::span<std::byte> out, uint32_t key, Version version, uint64_t offset) {
  for (size_t i = 0; i < out.size();) {
    const uint64_t at = offset + i;
    if (at % 8 == 0 && out.size() - i >= 8) {  // nearly all of it
      for (const size_t end = i + (out.size() - i) / 8 * 8; i < end; i += 8) {
        const uint64_t whole = word_of(key, version, offset + i);
        std::memcpy(out.data() + i, &whole, sizeof whole);
      }
      continue;
    }
    const uint64_t word = word_of(key, version, at);
    const size_t skip = at % 8, n = std::min<size_t>(8 - skip, out.size() - i);
    std::memcpy(out.data() + i, reinterpret_cast<const char*>(&word) + skip, n);
    i += n;
  }
}

Version Model::begin(const Change& change) {
  changes_.push_back(change);
  changes_.back().first_store = count_until(servers_[change.server].gone_ns, change.start_ns);
  const auto version = static_cast<Version>(changes_.size());
  if (change.kind == Change::Kind::kFlush)
    flushes_[{change.server, change.tenant}].push_back(version);
  else
    by_block_[{change.server, change.tenant, change.key}].push_back(version);
  return version;
}

void Model::end(Version version, Status status, Generation generation, uint64_t now_ns) {
  Change& c = change(version);
  MEMKV_ASSERT(c.fate == Change::Fate::kUnderWay);
  c.fate = fate_of(status);
  // A flush that failed at one worker may have been done at the others.
  if (c.kind == Change::Kind::kFlush && c.fate == Change::Fate::kNever) c.fate = Change::Fate::kMaybe;
  // A change that found nothing to change has no place in the order of changes.
  c.generation = status == Status::kOk ? generation : 0;
  end(c, now_ns);
}

/// If its server came back with an empty store meanwhile, the change may have been acknowledged by either store, and so
/// may be gone.
void Model::end(Change& c, uint64_t now_ns) {
  c.end_ns = now_ns;
  c.last_store = count_until(servers_[c.server].begun_ns, now_ns);
  if (c.first_store >= c.last_store || c.fate != Change::Fate::kApplied) return;
  c.fate = Change::Fate::kMaybe;
  c.generation = 0;
}

void Model::client_died(uint32_t client, uint64_t now_ns) {
  for (Change& c : changes_) {
    if (c.client != client || c.fate != Change::Fate::kUnderWay) continue;
    c.fate = Change::Fate::kMaybe;
    end(c, now_ns);
  }
}

uint64_t Model::longest(uint32_t server, uint32_t tenant, uint32_t key) const {
  uint64_t longest = 0;
  const auto at = by_block_.find({server, tenant, key});
  if (at == by_block_.end()) return longest;
  for (const Version version : at->second) {
    const Change& c = changes_[version - 1];
    longest = std::max(longest, c.offset + c.length);
  }
  return longest;
}

/// What may have changed the block in this store of its server.
std::vector<Version> Model::of(const Read& read, uint32_t store) const {
  std::vector<Version> versions;
  if (const auto at = by_block_.find({read.server, read.tenant, read.key}); at != by_block_.end())
    versions = at->second;
  if (const auto at = flushes_.find({read.server, read.tenant}); at != flushes_.end()) {
    versions.insert(versions.end(), at->second.begin(), at->second.end());
    std::sort(versions.begin(), versions.end());
  }
  if (servers_[read.server].gone_ns.empty()) return versions;
  std::erase_if(versions, [&](Version version) {
    const Change& c = changes_[version - 1];
    return store < c.first_store || store > c.last_store;
  });
  return versions;
}

/// True if it is certain that `older` was applied before `newer`, or never will be, once `newer` is acknowledged.
bool Model::before(const Change& older, const Change& newer) const {
  if (older.fate == Change::Fate::kUnderWay || older.end_ns > newer.start_ns) {
    const bool known = older.generation != 0 && newer.generation != 0;
    return known && older.generation < newer.generation;
  }
  if (older.fate == Change::Fate::kApplied) return true;
  if (older.fate == Change::Fate::kNever) return true;
  if (older.client == newer.client) return true;  // rule: changes of one client are applied in order
  return check_order_across_clients && older.deadline_ns < newer.start_ns;
}

std::string Model::describe(Version version) const {
  const Change& c = changes_[version - 1];
  constexpr const char* kFates[] = {"under way", "acknowledged", "refused", "given up"};
  return fmt::format("v{} ({} of client {} to s{} at {:.6f}, {} at {:.6f}, generation {})", version, name_of(c.kind),
                     c.client, c.server, static_cast<double>(c.start_ns) * 1e-9 - 1000,
                     kFates[static_cast<size_t>(c.fate)], static_cast<double>(c.end_ns) * 1e-9 - 1000, c.generation);
}

/// A read during which the server's store was replaced may be answered by the old one or by the new one.
std::optional<std::string> Model::check(const Read& read) const {
  reads_++;
  const Server& server = servers_[read.server];
  const uint32_t first = count_until(server.gone_ns, read.start_ns);
  const uint32_t last = std::max(first, count_until(server.begun_ns, read.end_ns));
  auto wrong = check_in(first, read);
  for (uint32_t store = first + 1; wrong && store <= last; store++) wrong = check_in(store, read);
  return wrong;
}

std::optional<std::string> Model::check_in(uint32_t store, const Read& read) const {
  const std::vector<Version> versions = of(read, store);
  if (read.outcome.status == Status::kOk) return check_hit(read, versions);
  if (read.outcome.status == Status::kMiss) return check_miss(read, versions);
  return std::nullopt;
}

std::optional<std::string> Model::check_hit(const Read& read, const std::vector<Version>& versions) const {
  // Only the generation is checked: it is never older than that of a change that was acknowledged before the read
  // began.
  for (const Version version : versions) {
    const Change& c = changes_[version - 1];
    if (c.fate != Change::Fate::kApplied || c.end_ns > read.start_ns || c.generation == 0) continue;
    if (c.kind == Change::Kind::kFlush || read.outcome.generation == 0) continue;
    if (read.outcome.generation >= c.generation) continue;
    if (servers_[read.server].newest_damaged_ns > c.start_ns) {
      stale_excused_++;
      return std::nullopt;
    }
    return fmt::format("stale: a read answered with generation {} though {} was acknowledged before it",
                       read.outcome.generation, describe(version));
  }
  // At the place where a range write begins, another version may be right even if the bytes before are of one version.
  std::vector<uint64_t> begins;
  for (const Version version : versions) begins.push_back(changes_[version - 1].offset);
  std::sort(begins.begin(), begins.end());
  auto begin = begins.begin();
  Version last = 0;
  for (size_t i = 0; i < read.bytes.size();) {
    const uint64_t at = read.offset + i;
    while (begin != begins.end() && *begin < at) ++begin;
    if (begin != begins.end() && *begin == at) last = 0;
    const size_t skip = at % 8, n = std::min<size_t>(8 - skip, read.bytes.size() - i);
    if (n == 8 && last != 0) {  // the usual case by far: eight more bytes of the same version
      uint64_t word = 0;
      std::memcpy(&word, read.bytes.data() + i, sizeof word);
      if (word == word_of(read.key, last, at)) {
        i += sizeof word;
        continue;
      }
    }
    Version version = last;
    if (skip == 0 && n >= sizeof version) std::memcpy(&version, read.bytes.data() + i, sizeof version);
    const uint64_t word = word_of(read.key, version, at);
    const bool matches =
        std::memcmp(read.bytes.data() + i, reinterpret_cast<const char*>(&word) + skip, n) == 0 && version != 0;
    // Fewer than eight bytes do not say their version; any version that covers them will do.
    const bool part = n < 8 && std::any_of(versions.begin(), versions.end(), [&](Version v) {
                        const uint64_t other = word_of(read.key, v, at);
                        return std::memcmp(read.bytes.data() + i, reinterpret_cast<const char*>(&other) + skip, n) == 0;
                      });
    if (!matches && !part) {
      return fmt::format("wrong bytes at {} of {}: no change wrote them", at, read.outcome.block_bytes);
    }
    if (matches && version != last) {
      last = version;
      if (auto wrong = check_version(read, versions, version, at)) return wrong;
    }
    i += n;
  }
  return std::nullopt;
}

std::optional<std::string> Model::check_version(const Read& read, const std::vector<Version>& versions, Version version,
                                                uint64_t at) const {
  if (version > changes_.size() || !std::binary_search(versions.begin(), versions.end(), version)) {
    const Change* c = version > changes_.size() ? nullptr : &changes_[version - 1];
    if (c == nullptr || c->key != read.key || c->tenant != read.tenant)
      return fmt::format("wrong bytes at {}: version {} is not of this key", at, version);
    const char* why = c->server != read.server ? "it was written to another server" : "the store that had it is gone";
    return fmt::format("wrong bytes at {} of s{}: {}: {}", at, read.server, describe(version), why);
  }
  const Change& c = changes_[version - 1];
  if (c.start_ns > read.end_ns) return fmt::format("bytes from the future: {}", describe(version));
  if (c.fate == Change::Fate::kNever) return fmt::format("a refused change was applied: {}", describe(version));
  for (const Version other : versions) {
    const Change& newer = changes_[other - 1];
    if (other == version || newer.fate != Change::Fate::kApplied || newer.end_ns > read.start_ns) continue;
    if (!newer.covers(at) || !before(c, newer)) continue;
    if (servers_[read.server].newest_damaged_ns > newer.start_ns) {
      stale_excused_++;
      return std::nullopt;
    }
    return fmt::format("{}: {} is answered though {} came after it",
                       c.fate == Change::Fate::kMaybe ? "a given-up change undid a newer one" : "stale",
                       describe(version), describe(other));
  }
  return std::nullopt;
}

/// True if the block may hold a range write that begins beyond the end of what `put` wrote. Then there is a hole
/// between them, and a read across it is a miss.
bool Model::may_have_hole(const Change& put, const Read& read, const std::vector<Version>& versions) const {
  return std::any_of(versions.begin(), versions.end(), [&](Version version) {
    const Change& c = changes_[version - 1];
    return c.kind == Change::Kind::kWrite && c.fate != Change::Fate::kNever && c.start_ns <= read.end_ns &&
           c.offset > put.length && !before(c, put);
  });
}

/// A miss is right if some change may have removed the bytes, or something else explains that they are gone.
std::optional<std::string> Model::check_miss(const Read& read, const std::vector<Version>& versions) const {
  Version present = 0;
  const auto says_all = [&](const Change& put) {
    return put.length >= read.offset + read.length || !may_have_hole(put, read, versions);
  };
  for (const Version version : versions) {
    const Change& c = changes_[version - 1];
    const bool gives =
        c.kind == Change::Kind::kPut && c.fate == Change::Fate::kApplied && c.end_ns <= read.start_ns && says_all(c);
    if (gives && (present == 0 || before(changes_[present - 1], c))) present = version;
  }
  if (present == 0) return std::nullopt;
  const Change& put = changes_[present - 1];
  for (const Version version : versions) {
    const Change& c = changes_[version - 1];
    const bool takes = c.kind == Change::Kind::kRemove || c.kind == Change::Kind::kFlush ||
                       (c.kind == Change::Kind::kPut && !says_all(c));
    if (!takes || c.fate == Change::Fate::kNever || c.start_ns > read.end_ns) continue;
    if (!before(c, put)) return std::nullopt;
  }
  // A get of several chunks tries once more if its block is replaced meanwhile. If that happens again, it is a miss.
  const auto beside = [&](Version version) {
    const Change& c = changes_[version - 1];
    const uint64_t over_ns = c.fate == Change::Fate::kMaybe ? std::max(c.end_ns, c.deadline_ns) : c.end_ns;
    const bool over = c.fate != Change::Fate::kUnderWay && over_ns < read.start_ns;
    return c.fate != Change::Fate::kNever && c.start_ns <= read.end_ns && !over;
  };
  if (read.length > kChunkBytesMax && std::count_if(versions.begin(), versions.end(), beside) >= 2) {
    misses_excused_++;
    return std::nullopt;
  }
  const Server& server = servers_[read.server];
  if (server.unreachable_until_ns > read.start_ns || server.last_drop_ns >= put.start_ns) {
    misses_excused_++;
    return std::nullopt;
  }
  return fmt::format("lost: a miss though {} was acknowledged, and nothing gives a reason", describe(present));
}

}  // namespace memkv::sim
