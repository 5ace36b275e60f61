/// Random operations against a model: what the store says must be what was acknowledged. Over memory, over files, and
/// over drives that lose their power.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/random.h"
#include "engine/rig_testing.h"
#include "engine/tier.h"
#include "format/format.h"

namespace memkv::engine {
namespace {

/// One version of a block: its bytes, and which of them were ever written.
struct Version {
  std::string bytes;
  std::map<uint64_t, uint64_t> present;  // begin -> end, disjoint, not touching

  static Version whole(std::string bytes) {
    Version v;
    if (!bytes.empty()) v.present[0] = bytes.size();
    v.bytes = std::move(bytes);
    return v;
  }
  void write(uint64_t offset, std::string_view piece) {
    if (bytes.size() < offset + piece.size()) bytes.resize(offset + piece.size());
    bytes.replace(offset, piece.size(), piece);
    uint64_t begin = offset, end = offset + piece.size();
    for (auto it = present.begin(); it != present.end();) {
      if (it->second < begin || it->first > end) {
        ++it;
        continue;
      }
      begin = std::min(begin, it->first);
      end = std::max(end, it->second);
      it = present.erase(it);
    }
    present[begin] = end;
  }
  bool has(uint64_t begin, uint64_t end) const {
    const auto it = present.upper_bound(begin);
    return it != present.begin() && std::prev(it)->second >= end;
  }
  bool has_holes() const { return !bytes.empty() && !has(0, bytes.size()); }
  /// True if one chunk has more present ranges than its record can name.
  bool too_torn() const {
    std::map<uint64_t, uint32_t> count;
    for (const auto& [begin, end] : present) {
      for (uint64_t n = begin / base::kChunkBytes; n <= (end - 1) / base::kChunkBytes; ++n) ++count[n];
    }
    return std::any_of(count.begin(), count.end(), [](const auto& c) { return c.second > format::kRangesMax; });
  }
};

using State = std::optional<Version>;  // nullopt: the block is not there

/// What one key may hold. There is one state, unless a change of the key failed or was cut.
struct Block {
  std::vector<State> may_be = {std::nullopt};
  Generation generation = 0;  // 0: not known
  bool busy = false;          // a change is under way
  State next;                 // what the change under way would make
  bool certain() const { return may_be.size() == 1; }
  const State& now() const { return may_be.front(); }
};

enum class Kind { kPut, kPutIfAbsent, kPutLarge, kWrite, kWriteLarge, kRemove, kGet };

/// One operation under way.
struct Job {
  Rig* rig = nullptr;
  Kind kind = Kind::kGet;
  std::string key;
  Block* block = nullptr;
  std::string bytes;
  uint64_t offset = 0;
  bool aborts = false;
  Reservation room;
  std::deque<Slot> slots;
  std::deque<std::vector<uint64_t>> sums;
  std::deque<ChunkOp> chunks;
  PutOp put;
  WriteOp write;
  RemoveOp remove;
  ReadOp read;
  CommitOp commit;
  Upload upload;
  std::vector<State> seen;  // for a get: what it may find
  size_t left = 0;
  Status status = Status::kOk;
  Generation generation = 0;
  bool done = false;
  bool acknowledged = false;  // done before the power was cut

  BlockKey block_key() const { return rig->key(key); }
  PayloadIn payload(std::string_view piece, uint32_t chunk) {
    std::byte* data = nullptr;
    if (room.data != nullptr) {
      data = room.data;
    } else {
      slots.emplace_back(piece.size());
      data = slots.back().data;
    }
    std::memcpy(data, piece.data(), piece.size());
    sums.emplace_back(base::grain_count(piece.size()));
    base::grain_sums({data, piece.size()}, base::chunk_seed(kNamespace, key, chunk), sums.back().data());
    return {data, static_cast<uint32_t>(piece.size()), sums.back().data()};
  }
  template <typename Op>
  Op& arm(Op& op) {
    op.context = this;
    op.on_done = [](StoreOp& o) { static_cast<Job*>(o.context)->on_done(o); };
    ++left;
    return op;
  }
  void on_done(StoreOp& op) {
    if (op.status != Status::kOk) status = op.status;
    generation = op.generation;
    if (--left > 0) return;
    const bool committing = commit.upload != nullptr;
    if (chunks.empty() || committing || upload.id == 0) {
      done = true;
    } else if (status != Status::kOk || aborts) {
      rig->store().abort(upload);
      done = true;
    } else {
      commit.upload = &upload;
      rig->store().commit(arm(commit));
    }
  }
  void start_upload(bool abort_at_once) {
    upload.key = block_key();
    const bool range = kind == Kind::kWriteLarge;
    status = rig->store().begin(upload, offset + bytes.size(), false, range);
    done = status != Status::kOk;
    if (done) return;
    for (uint64_t at = 0; at < bytes.size();) {
      ChunkOp& op = chunks.emplace_back();
      const uint64_t in_chunk = (offset + at) % base::kChunkBytes;
      const uint64_t size = std::min<uint64_t>(bytes.size() - at, base::kChunkBytes - in_chunk);
      op.upload = &upload;
      op.chunk_number = static_cast<uint32_t>((offset + at) / base::kChunkBytes);
      op.offset_in_chunk = static_cast<uint32_t>(in_chunk);
      op.payload = payload({bytes.data() + at, size}, op.chunk_number);
      arm(op);
      at += size;
    }
    for (ChunkOp& op : chunks) rig->store().put_chunk(op);
    if (abort_at_once) rig->store().abort(upload);
  }
};

struct Plan {
  RigKind kind = RigKind::kMemory;
  int drives = 1;
  uint64_t drive_bytes = 0;
  uint64_t ops = 0;
  bool wraps = false;  // the log wraps, so blocks that are not read may go
  uint64_t keys = 48;
  double reopens = 0, power_cuts = 0;  // in each round
  uint64_t large_max = 5 * kMi;
  uint64_t tier_bytes = 0;
};

class ModelTest {
 public:
  ModelTest(const Plan& plan, uint64_t seed) : plan_(plan), seed_(seed), random_(seed), noise_(16 * kMi, 0) {
    random_.fill({reinterpret_cast<std::byte*>(noise_.data()), noise_.size()});
  }

  void run() {
    while (ops_ < plan_.ops && !testing::Test::HasFailure()) session();
    if (plan_.tier_bytes == 0) return;
    EXPECT_GT(from_tier_, 50u);
    EXPECT_GT(shared_, 0u);
    EXPECT_GT(evicted_, 5u);
  }

 private:
  /// Runs one rig until it is used up.
  void session() {
    rig_ = std::make_unique<Rig>(plan_.drives, plan_.drive_bytes, plan_.kind);
    blocks_.clear();
    if (plan_.kind == RigKind::kFaulty) {
      rig_->plan_.latency_ns_max = random_.below(400'000);
      rig_->seed_ = random_.next_u64();
      rig_->tier_bytes = plan_.tier_bytes;
      rig_->reopen();
    }
    uint64_t bytes = 0;
    while (ops_ < plan_.ops && !testing::Test::HasFailure()) {
      SCOPED_TRACE("seed " + std::to_string(seed_) + " op " + std::to_string(ops_));
      const uint64_t device_before = rig_->store().counters().device_bytes_written;
      const uint64_t user_before = user_bytes_;
      round();
      // The log does not count what memory mode receives in place.
      bytes += rig_->store().counters().device_bytes_written - device_before + (user_bytes_ - user_before);
      from_tier_ = std::max(from_tier_, rig_->store().counters().tier_hits);
      shared_ = std::max(shared_, rig_->store().counters().tier_shared);
      evicted_ = std::max(evicted_, rig_->store().counters().tier_evictions);
      if (random_.next_double() < plan_.power_cuts) cut_power();
      if (random_.next_double() < plan_.reopens) reopen();
      if (random_.below(40) == 0) look_around();
      if (random_.below(400) == 0) flush();
      if (bytes > rig_->capacity() * (plan_.wraps ? 8 : 1) * 6 / 10) break;
    }
    SCOPED_TRACE("seed " + std::to_string(seed_) + " op " + std::to_string(ops_));
    for (const auto& [key, block] : blocks_) check_whole(key);
    rig_.reset();
  }

  /// Starts a few operations at once: changes of distinct keys, and reads of any.
  void round() {
    start_round();
    for (int turns = 0; !all_done() && turns < Rig::kTurnsMax; ++turns) {
      if (turns == 200) release_reads();
      rig_->any_reactor().run_once(1'000'000);
    }
    ASSERT_TRUE(all_done()) << "an operation hangs";
    release_reads();
    for (auto& job : jobs_) job->kind == Kind::kGet ? check_get(*job) : settle(*job);
    for (auto& [key, block] : blocks_) block.busy = false;
    jobs_.clear();
  }
  void start_round() {
    for (uint64_t n = 1 + random_.below(8); n > 0; --n) {
      ++ops_;
      start_job();
    }
  }
  bool all_done() const {
    return std::all_of(jobs_.begin(), jobs_.end(), [](const auto& job) { return job->done; });
  }

  std::string some_bytes(uint64_t size) { return noise_.substr(random_.below(noise_.size() - size), size); }
  uint64_t some_size() {
    const uint64_t kind = random_.below(1000);
    if (kind < 10) return 0;
    if (kind < 760) return random_.below(8192);
    if (kind < 800) return (1 + random_.below(8)) * 4096;
    if (kind < 950) return random_.below(150'000);
    if (kind < 980) return random_.below(700'000);
    return random_.below(plan_.large_max);
  }

  void start_job() {
    auto owned = std::make_unique<Job>();
    Job& job = *owned;
    job.rig = rig_.get();
    job.key = "key" + std::to_string(random_.below(plan_.keys));
    job.block = &blocks_[job.key];
    static constexpr Kind kChanges[] = {Kind::kPut,   Kind::kPut,        Kind::kPutIfAbsent, Kind::kPutLarge,
                                        Kind::kWrite, Kind::kWriteLarge, Kind::kRemove};
    if (!job.block->busy && random_.below(2) == 0) job.kind = kChanges[random_.below(std::size(kChanges))];
    const bool ranged = job.kind == Kind::kWrite || job.kind == Kind::kWriteLarge;
    if (ranged && !job.block->certain()) job.kind = Kind::kRemove;
    jobs_.push_back(std::move(owned));
    job.kind == Kind::kGet ? start_get(job) : start_change(job);
  }

  void start_change(Job& job) {
    Store& store = rig_->store();
    Block& block = *job.block;
    choose_bytes(job);
    user_bytes_ += job.bytes.size();
    block.busy = true;
    switch (job.kind) {
      case Kind::kPut:
      case Kind::kPutIfAbsent:
        if (plan_.kind == RigKind::kMemory && !job.bytes.empty() && random_.below(2) == 0)
          job.room = store.reserve(static_cast<uint32_t>(job.bytes.size()), job.block_key().key.size());
        job.put.key = job.block_key();
        job.put.if_absent = job.kind == Kind::kPutIfAbsent;
        job.put.payload = job.payload(job.bytes, 0);
        return store.put(job.arm(job.put));
      case Kind::kPutLarge:
      case Kind::kWriteLarge:
        job.aborts = random_.below(20) == 0;
        return job.start_upload(job.aborts && random_.below(2) == 0);
      case Kind::kWrite:
        job.write.key = job.block_key();
        job.write.offset = job.offset;
        job.write.payload = job.payload(job.bytes, static_cast<uint32_t>(job.offset / base::kChunkBytes));
        return store.write(job.arm(job.write));
      case Kind::kRemove:
      case Kind::kGet:
        job.remove.key = job.block_key();
        return store.remove(job.arm(job.remove));
    }
  }

  /// Chooses what the change carries, and works out what it makes of the block.
  void choose_bytes(Job& job) {
    Block& block = *job.block;
    block.next = std::nullopt;
    if (job.kind == Kind::kRemove) return;
    uint64_t size = some_size();
    if (job.kind == Kind::kWrite || job.kind == Kind::kWriteLarge) {
      const uint64_t end = block.now() ? block.now()->bytes.size() : 10'000;
      job.offset = random_.below(4) == 0 ? end : random_.below(std::min<uint64_t>(end + 2000, plan_.large_max));
      size = std::max<uint64_t>(1, size);
      if (job.kind == Kind::kWrite) size = std::min(size, base::kChunkBytes - job.offset % base::kChunkBytes);
      job.bytes = some_bytes(size);
      block.next = block.now().value_or(Version{});
      block.next->write(job.offset, job.bytes);
      return;
    }
    if (job.kind == Kind::kPutLarge)
      size = std::max<uint64_t>(1, random_.below(3) == 0 ? random_.below(plan_.large_max) : size);
    else
      size = std::min(size, base::kChunkBytes);
    job.bytes = some_bytes(size);
    block.next = Version::whole(job.bytes);
  }

  void start_get(Job& job) {
    const State& now = job.block->now();
    const uint64_t size = now ? now->bytes.size() : 5000;
    job.offset = random_.below(4) == 0 ? 0 : random_.below(size + 100);
    const uint64_t most = base::kChunkBytes - job.offset % base::kChunkBytes;
    const uint64_t length = random_.below(3) == 0 ? most : std::min(most, random_.below(size + 100));
    job.seen = job.block->may_be;
    if (job.block->busy) job.seen.push_back(job.block->next);
    const Lookup found = rig_->store().lookup(job.block_key(), job.offset, static_cast<uint32_t>(length), 0);
    job.slots.emplace_back(found.buffer_bytes + 8192);
    job.read.key = job.block_key();
    job.read.offset = job.offset;
    job.read.length = static_cast<uint32_t>(length);
    job.read.buffer = job.slots.back().data;
    job.read.buffer_bytes = found.buffer_bytes;
    job.read.verify = random_.below(4) == 0;
    rig_->store().read(job.arm(job.read));
  }

  /// Reads are held until the end of the round, and their bytes must not change while they are.
  void release_reads() {
    for (auto& job : jobs_) {
      if (job->kind != Kind::kGet || !job->done || job->read.data == nullptr) continue;
      job->bytes.assign(reinterpret_cast<const char*>(job->read.data), job->read.bytes);
      rig_->check_sums(job->read, job->key, job->offset);
      rig_->store().release(job->read);
      job->read.data = nullptr;
    }
  }

  /// Compares a read of [offset, offset + length) with `state`. An empty text: it fits.
  std::string mismatch(const State& state, Status status, uint64_t block_bytes, uint64_t offset, uint64_t length,
                       const std::string& bytes) const {
    if (!state) return status == Status::kMiss ? "" : "the block is there";
    const uint64_t end = std::min<uint64_t>(offset + length, state->bytes.size());
    const bool empty = offset >= end;
    const bool present = empty || state->has(offset, end);
    if (status == Status::kMiss) return present && !plan_.wraps ? "a miss" : "";
    if (status != Status::kOk) return "status " + std::to_string(static_cast<int>(status));
    if (!present) return "a hole has bytes";
    if (block_bytes != state->bytes.size()) return "block size " + std::to_string(block_bytes);
    return bytes == (empty ? "" : state->bytes.substr(offset, end - offset)) ? "" : "other bytes";
  }
  std::string mismatch(const std::vector<State>& states, Status status, uint64_t block_bytes, uint64_t offset,
                       uint64_t length, const std::string& bytes) const {
    std::string all;
    for (const State& s : states) {
      const std::string one = mismatch(s, status, block_bytes, offset, length, bytes);
      if (one.empty()) return "";
      all += one + "; ";
    }
    return all;
  }
  void check_get(Job& job) {
    EXPECT_EQ(mismatch(job.seen, job.status, job.read.block_bytes, job.offset, job.read.length, job.bytes), "")
        << job.key << " at " << job.offset << " length " << job.read.length;
  }

  /// The change is done: works out what the block is now.
  void settle(Job& job) {
    Block& block = *job.block;
    if (job.room.data != nullptr && job.status != Status::kOk) rig_->store().abandon(job.room);
    if (job.aborts && (job.status == Status::kOk || job.status == Status::kCanceled)) return;
    const bool there = block.now().has_value();
    switch (job.status) {
      case Status::kOk:
        break;
      case Status::kExists:
        ASSERT_TRUE(job.kind == Kind::kPutIfAbsent && (there || !block.certain())) << job.key;
        return;
      case Status::kMiss:
        ASSERT_TRUE(job.kind == Kind::kRemove && (!there || plan_.wraps || !block.certain())) << job.key;
        break;
      case Status::kTooLarge:
        ASSERT_TRUE(block.next && block.next->too_torn()) << job.key;
        return;
      default:
        // Drives of the machine itself may lag, and then changes of what lies on them are busy.
        ASSERT_TRUE((plan_.wraps && job.status == Status::kIo) ||
                    ((plan_.wraps || plan_.kind == RigKind::kFile) && job.status == Status::kBusy))
            << job.key << " status " << static_cast<int>(job.status);
        block.may_be.push_back(block.next);
        block.generation = 0;
        return;
    }
    if (job.kind == Kind::kPutIfAbsent) {
      ASSERT_TRUE(!there || plan_.wraps || !block.certain()) << job.key;
    }
    if (job.kind == Kind::kRemove && job.status == Status::kOk) {
      ASSERT_TRUE(there || !block.certain()) << job.key;
    }
    if (plan_.wraps && (job.kind == Kind::kWrite || job.kind == Kind::kWriteLarge)) begin_anew(job);
    block.may_be = {block.next};
    block.generation = block.next ? job.generation : 0;
  }

  /// A range write may have found its block evicted; then its own bytes are all there is.
  void begin_anew(Job& job) {
    BlockStat stat;
    if (!rig_->store().stat(job.block_key(), stat) || stat.block_bytes == job.block->next->bytes.size()) return;
    Version alone;
    alone.write(job.offset, job.bytes);
    job.block->next = alone;
  }

  /// Between rounds: questions that are answered from memory, and lists.
  void look_around() {
    Store& store = rig_->store();
    std::map<std::pair<uint64_t, uint64_t>, uint64_t> listed;
    list(listed);
    std::vector<std::string> there_now;
    for (auto& [key, block] : blocks_) {  // no time passes here
      const BlockKey k = rig_->key(key);
      const bool there = store.exists(k);
      BlockStat stat;
      ASSERT_EQ(store.stat(k, stat), there);
      ASSERT_EQ(store.touch(k), there);
      const auto entry = listed.find({k.digest.lo, k.digest.hi});
      ASSERT_EQ(entry != listed.end(), there) << key;
      if (there) {
        ASSERT_EQ(entry->second, stat.block_bytes);
      }
      if (!block.certain()) continue;
      if (!block.now()) {
        ASSERT_FALSE(there) << key;
      }
      if (!plan_.wraps) {
        ASSERT_EQ(there, block.now().has_value()) << key;
      }
      if (!there) continue;
      ASSERT_EQ(stat.block_bytes, block.now()->bytes.size()) << key;
      if (!plan_.wraps) {
        ASSERT_EQ(stat.has_holes, block.now()->has_holes()) << key;
      }
      if (block.generation != 0) {
        ASSERT_EQ(stat.generation, block.generation) << key;
      }
      there_now.push_back(key);
    }
    for (const std::string& key : there_now) read_key(key);
  }
  void list(std::map<std::pair<uint64_t, uint64_t>, uint64_t>& out) {
    uint64_t cursor = 0;
    const auto visit = [](void* context, const Store::ListEntry& e) {
      auto& map = *static_cast<std::map<std::pair<uint64_t, uint64_t>, uint64_t>*>(context);
      EXPECT_TRUE(map.emplace(std::pair{e.digest.lo, e.digest.hi}, e.block_bytes).second) << "listed twice";
    };
    do {
      cursor = rig_->store().list(kNamespace, cursor, 1 + static_cast<uint32_t>(random_.below(9)), visit, &out);
    } while (cursor != 0);
  }
  void read_key(const std::string& key) {
    char text[kKeyBytesMax];
    Store::KeyOp op;
    op.key = rig_->key(key);
    op.key.key = {};
    op.key_out = text;
    const Status status = rig_->run(op, [&] { rig_->store().read_key(op); });
    if (plan_.wraps && status == Status::kMiss) return;  // reclaim went on meanwhile
    ASSERT_EQ(status, Status::kOk) << key;
    ASSERT_EQ(std::string(text, op.key_bytes_out), key);
  }
  void flush() {
    FlushOp op;
    op.namespace_id = kNamespace;
    ASSERT_EQ(rig_->run(op, [&] { rig_->store().flush_namespace(op); }), Status::kOk);
    blocks_.clear();
    std::map<std::pair<uint64_t, uint64_t>, uint64_t> listed;
    list(listed);
    ASSERT_TRUE(listed.empty());
  }

  /// Why the block is not `state`; empty if it is.
  std::string differs(const std::string& key, const State& state) {
    BlockStat stat;
    const bool there = rig_->store().stat(rig_->key(key), stat);
    if (!there) return !state || plan_.wraps ? "" : "not there";
    if (!state) return "there";
    if (stat.block_bytes != state->bytes.size()) return "size " + std::to_string(stat.block_bytes);
    for (uint64_t at = 0; at < state->bytes.size(); at = (at / base::kChunkBytes + 1) * base::kChunkBytes) {
      if (std::string why = chunk_differs(key, *state, at); !why.empty()) return why;
    }
    return "";
  }
  /// Checks each present piece of the chunk at `at`, and each hole.
  std::string chunk_differs(const std::string& key, const Version& v, uint64_t at) {
    const uint64_t end = std::min<uint64_t>(at + base::kChunkBytes, v.bytes.size());
    while (at < end) {
      const auto next = v.present.upper_bound(at);
      const bool present = next != v.present.begin() && std::prev(next)->second > at;
      const uint64_t to = present ? std::prev(next)->second : next == v.present.end() ? end : next->first;
      const uint64_t stop = std::min(to, end);
      std::string out;
      uint64_t block_bytes = v.bytes.size();
      const Status status = rig_->get_unit(key, at, static_cast<uint32_t>(stop - at), out, &block_bytes);
      const std::string why = mismatch(State(v), status, block_bytes, at, stop - at, out);
      if (!why.empty()) return why + " at " + std::to_string(at);
      at = stop;
    }
    return "";
  }

  /// Finds out which of its possible states a block has, and from now on allows only that one.
  void check_whole(const std::string& key) {
    Block& block = blocks_[key];
    std::string why;
    for (size_t i = 0; i < block.may_be.size(); ++i) {
      const std::string one = differs(key, block.may_be[i]);
      if (!one.empty()) {
        why += one + "; ";
        continue;
      }
      if (!plan_.wraps) block.may_be = {State(block.may_be[i])};
      return;
    }
    ADD_FAILURE() << key << " of " << block.may_be.size() << " states: " << why;
  }

  void reopen() {
    rig_->reopen();
    for (auto& [key, block] : blocks_) check_whole(key);
  }

  /// Cuts the power in the middle of a round.
  void cut_power() {
    start_round();
    uint64_t turns = random_.below(30);
    while (turns-- > 0) rig_->any_reactor().run_once(random_.below(200'000));
    // What was done by now is acknowledged. What the store says of drives that are gone already nobody hears.
    for (auto& job : jobs_) job->acknowledged = job->done;
    rig_->power_cut();
    for (auto& job : jobs_) {
      const bool ok = job->acknowledged && job->status == Status::kOk;
      if (job->kind == Kind::kGet) {
        if (ok) cut_get(*job);
      } else if (ok) {
        settle(*job);
      } else {
        job->block->may_be.push_back(job->block->next);
      }
    }
    for (auto& [key, block] : blocks_) {
      block.generation = 0;
      block.busy = false;
    }
    rig_->open();
    jobs_.clear();
    for (auto& [key, block] : blocks_) check_whole(key);
  }
  void cut_get(Job& job) {
    if (job.read.data != nullptr) job.bytes.assign(reinterpret_cast<const char*>(job.read.data), job.read.bytes);
    check_get(job);
  }

  Plan plan_;
  uint64_t seed_;
  base::Random random_;
  std::string noise_;
  uint64_t ops_ = 0, user_bytes_ = 0;
  uint64_t from_tier_ = 0, shared_ = 0, evicted_ = 0;  // in one life of a store, at most
  std::unique_ptr<Rig> rig_;
  std::map<std::string, Block> blocks_;
  std::vector<std::unique_ptr<Job>> jobs_;
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSlower = 6;  // fewer ops, so that a run under a sanitizer takes as long
#else
constexpr uint64_t kSlower = 1;
#endif

void run_plan(Plan plan, std::vector<uint64_t> seeds) {
  plan.ops /= kSlower;
  if (const char* more = std::getenv("MEMKV_TEST_SEED")) seeds.push_back(std::strtoull(more, nullptr, 10));
  base::set_log_level(base::LogLevel::kOff);  // drives without power complain
  for (const uint64_t seed : seeds) {
    ModelTest(plan, seed).run();
    if (testing::Test::HasFailure()) break;
  }
  base::set_log_level(base::LogLevel::kInfo);
}

TEST(Model, MemoryKeepsAll) {
  run_plan({.kind = RigKind::kMemory, .drives = 1, .drive_bytes = 1024 * kMi, .ops = 15'000}, {1, 2});
}

TEST(Model, MemoryWraps) {
  run_plan({.kind = RigKind::kMemory, .drives = 2, .drive_bytes = 64 * kMi, .ops = 10'000, .wraps = true}, {3, 4});
}

TEST(Model, FilesKeepAll) {
  run_plan({.kind = RigKind::kFile, .drives = 2, .drive_bytes = 192 * kMi, .ops = 4'000, .reopens = 0.01}, {5});
}

TEST(Model, PowerCutsKeepAll) {
  run_plan({.kind = RigKind::kFaulty,
            .drives = 3,
            .drive_bytes = 256 * kMi,
            .ops = 15'000,
            .keys = 24,
            .reopens = 0.005,
            .power_cuts = 0.01},
           {6, 7});
}

TEST(Model, PowerCutsWrap) {
  run_plan({.kind = RigKind::kFaulty,
            .drives = 2,
            .drive_bytes = 96 * kMi,
            .ops = 12'000,
            .wraps = true,
            .keys = 32,
            .reopens = 0.005,
            .power_cuts = 0.01},
           {8, 9});
}

TEST(Model, TierOverPowerCutsKeepsAll) {
  run_plan({.kind = RigKind::kFaulty,
            .drives = 2,
            .drive_bytes = 256 * kMi,
            .ops = 15'000,
            .keys = 32,
            .reopens = 0.002,
            .power_cuts = 0.003,
            .tier_bytes = kTierBytesMin},
           {10, 11});
}

TEST(Model, TierWraps) {
  run_plan({.kind = RigKind::kFaulty,
            .drives = 2,
            .drive_bytes = 96 * kMi,
            .ops = 12'000,
            .wraps = true,
            .keys = 40,
            .reopens = 0.002,
            .power_cuts = 0.003,
            .tier_bytes = kTierBytesMin},
           {12, 13});
}

}  // namespace
}  // namespace memkv::engine
