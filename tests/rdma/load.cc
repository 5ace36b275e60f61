/// Load for faults, in the guest: gets and puts with random deadlines and cancels from registered and other memory.
/// Every buffer is filled with a sentinel the moment its op is complete and watched for a while: no byte may change any
/// more.
///   memkv-rdma-load SECONDS     settings from MEMKV_*
/// Last line: the figures. Exit code 1: wrong bytes, a noisy buffer, a deadline missed by more than half a second, or a
/// block that is not there at the end.

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "memkv/client.h"

namespace memkv::test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
constexpr unsigned char kSentinel = 0xA5;
constexpr size_t kSlotBytes = 1 << 20;
constexpr size_t kSlots = 24;
constexpr int kKeys = 24;
constexpr milliseconds kWatch{150};
constexpr milliseconds kLateMax{500};
constexpr milliseconds kUsual{2000};

struct Figures {
  uint64_t ops = 0, hits = 0, misses = 0, stored = 0, failed = 0, canceled = 0, unknown = 0;
  uint64_t wrong = 0, noisy = 0, late = 0, lost = 0;
  int64_t late_ms_max = 0;
};

/// A key and what was last acknowledged of it; with `open` versions behind that may have landed.
struct Known {
  std::string key;
  size_t bytes = 0;
  uint64_t acknowledged = 0, sent = 0;
  bool busy = false;  // a put is under way
};

struct Slot {
  enum class State { kFree, kBusy, kWatched } state = State::kFree;
  unsigned char* data = nullptr;
  Batch batch;
  Session::Ticket ticket = 0;
  Known* known = nullptr;
  bool put = false;
  uint64_t version = 0;
  bool to_cancel = false;
  Clock::time_point deadline, cancel_at, watch_until;
};

void fill(unsigned char* out, size_t bytes, uint64_t key, uint64_t version) {
  std::mt19937_64 random(key * 1'000'003 + version);
  std::memcpy(out, &version, sizeof version);
  for (size_t at = sizeof version; at < bytes; at += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(out + at, &word, std::min(sizeof word, bytes - at));
  }
}

class Load {
 public:
  explicit Load(Session& session) : session_(session), memory_(kSlots * kSlotBytes) {
    for (size_t i = 0; i < kSlots; i++) slots_[i].data = memory_.data() + i * kSlotBytes;
    // Half of the slots are registered.
    auto region = session_.register_memory(memory_.data(), memory_.size() / 2);
    if (region) region_ = std::move(*region);
    for (int i = 0; i < kKeys; i++) {
      known_[i].key = "load/" + std::to_string(getpid()) + "/" + std::to_string(i);
      known_[i].bytes = size_t{9000} + static_cast<size_t>(i) * 41'003;
    }
  }

  bool prepare() {
    for (int i = 0; i < kKeys; i++) {
      if (!store(known_[i], 1)) return false;
    }
    return true;
  }

  void run(Clock::duration time) {
    const auto end = Clock::now() + time;
    auto next_region = Clock::now() + milliseconds(700);
    while (Clock::now() < end) {
      if (Clock::now() > next_region) {  // deregistered with ops in flight on it: waits, then comes back
        next_region = Clock::now() + milliseconds(700);
        region_ = {};
        auto again = session_.register_memory(memory_.data(), memory_.size() / 2);
        if (again) region_ = std::move(*again);
      }
      step(true);
    }
    while (std::any_of(slots_.begin(), slots_.end(), [](const Slot& s) { return s.state != Slot::State::kFree; })) {
      step(false);
    }
  }

  /// Every block is there, in a version that may be; given a while, since a server may be on its way back.
  void check_all() {
    for (Known& known : known_) {
      std::vector<unsigned char> out(known.bytes);
      Outcome got;
      for (int tries = 0; tries < 100 && !got.hit(); tries++) {
        Batch batch;
        batch.get(known.key, Scatter(out.data(), out.size()));
        got = session_.run(batch)[0];
        if (!got.hit()) session_.poll(milliseconds(50));
      }
      if (!got.hit()) figures.lost++, std::printf("lost: %s\n", known.key.c_str());
      if (got.hit() && !right(known, out.data(), got.bytes)) figures.wrong++;
    }
  }

  Figures figures;

 private:
  bool store(Known& known, uint64_t version) {
    std::vector<unsigned char> block(known.bytes);
    fill(block.data(), known.bytes, number_of(known), version);
    for (int tries = 0; tries < 100; tries++) {
      Batch batch;
      batch.put(known.key, Gather(block.data(), block.size()));
      const Outcome out = session_.run(batch)[0];
      if (out.status == Status::kOk) return known.acknowledged = known.sent = version, true;
      session_.poll(milliseconds(50));
    }
    return false;
  }

  uint64_t number_of(const Known& known) const { return static_cast<uint64_t>(&known - known_.data()); }

  bool right(const Known& known, const unsigned char* data, uint64_t bytes) {
    uint64_t version = 0;
    std::memcpy(&version, data, sizeof version);
    if (bytes != known.bytes || version < known.acknowledged || version > known.sent) return false;
    std::vector<unsigned char> expected(bytes);
    fill(expected.data(), bytes, number_of(known), version);
    return std::memcmp(expected.data(), data, bytes) == 0;
  }

  void step(bool start) {
    for (Slot& slot : slots_) {
      if (slot.state == Slot::State::kFree && start) launch(slot);
      if (slot.state == Slot::State::kBusy && slot.to_cancel && Clock::now() > slot.cancel_at) {
        slot.to_cancel = false;
        session_.cancel(slot.ticket);
      }
      if (slot.state == Slot::State::kBusy && session_.done(slot.ticket)) land(slot);
      if (slot.state == Slot::State::kWatched && Clock::now() > slot.watch_until) release(slot);
    }
    session_.poll(milliseconds(1));
  }

  void launch(Slot& slot) {
    slot.known = &known_[random_() % kKeys];
    slot.put = random_() % 3 == 0 && !slot.known->busy;
    slot.batch.clear();
    milliseconds time = kUsual;
    if (random_() % 4 == 0) time = milliseconds(1 + random_() % 60);
    slot.to_cancel = random_() % 6 == 0;
    slot.cancel_at = Clock::now() + std::chrono::microseconds(random_() % 60'000);
    slot.deadline = Clock::now() + time;
    if (slot.put) {
      slot.known->busy = true;
      slot.version = ++slot.known->sent;
      fill(slot.data, slot.known->bytes, number_of(*slot.known), slot.version);
      slot.batch.put(slot.known->key, Gather(slot.data, slot.known->bytes));
    } else {
      slot.batch.get(slot.known->key, Scatter(slot.data, slot.known->bytes));
    }
    slot.ticket = session_.submit(slot.batch, time);
    slot.state = Slot::State::kBusy;
  }

  void land(Slot& slot) {
    const Outcome out = session_.collect(slot.ticket)[0];
    const auto late = std::chrono::duration_cast<milliseconds>(Clock::now() - slot.deadline);
    figures.late_ms_max = std::max<int64_t>(figures.late_ms_max, late.count());
    if (late > kLateMax) figures.late++;
    figures.ops++;
    count(slot, out);
    std::memset(slot.data, kSentinel, kSlotBytes);
    slot.state = Slot::State::kWatched;
    slot.watch_until = Clock::now() + kWatch;
  }

  void count(Slot& slot, const Outcome& out) {
    if (slot.put) {
      slot.known->busy = false;
      if (out.status == Status::kOk) {
        slot.known->acknowledged = slot.version;
        figures.stored++;
        return;
      }
    } else if (out.hit()) {
      figures.hits++;
      // An older version may be read while a put of the next is acknowledged: the last check sees to the order.
      uint64_t version = 0;
      std::memcpy(&version, slot.data, sizeof version);
      std::vector<unsigned char> expected(out.bytes);
      fill(expected.data(), out.bytes, number_of(*slot.known), version);
      if (out.bytes != slot.known->bytes || std::memcmp(expected.data(), slot.data, out.bytes) != 0) figures.wrong++;
      return;
    }
    if (out.status == Status::kMiss)
      figures.misses++;
    else if (out.status == Status::kCanceled)
      figures.canceled++;
    else if (out.status == Status::kUnknown)
      figures.unknown++;
    else
      figures.failed++;
  }

  void release(Slot& slot) {
    for (size_t i = 0; i < kSlotBytes; i++) {
      if (slot.data[i] == kSentinel) continue;
      figures.noisy++;
      std::printf("noisy: byte %zu of a buffer changed after its op was complete (%s %s)\n", i,
                  slot.put ? "put" : "get", slot.known->key.c_str());
      break;
    }
    slot.state = Slot::State::kFree;
  }

  Session& session_;
  std::vector<unsigned char> memory_;
  Region region_;
  std::array<Slot, kSlots> slots_;
  std::array<Known, kKeys> known_;
  std::mt19937_64 random_{std::random_device{}()};
};

int run(int seconds) {
  auto session = Session::connect({});
  if (!session) return std::fprintf(stderr, "%s\n", session.error().text.c_str()), 2;
  Load load(*session);
  if (!load.prepare()) return std::fprintf(stderr, "the blocks cannot be stored\n"), 2;
  std::printf("loaded\n");
  std::fflush(stdout);
  load.run(std::chrono::seconds(seconds));
  load.check_all();
  const Figures& f = load.figures;
  for (const RailCounters& r : session->rail_counters()) {
    std::printf(
        "rail %s: working %d links %lu/%lu ops %lu in %lu out %lu failures %lu retry %lu rnr %lu access %lu "
        "switches %lu\n",
        r.device.c_str(), r.working, r.links, r.links_total, r.ops, r.bytes_in, r.bytes_out, r.failures, r.retry_errors,
        r.rnr_errors, r.access_errors, r.switches);
  }
  const ClientCounters c = session->counters();
  std::printf(
      "load: ops %lu hits %lu misses %lu stored %lu canceled %lu unknown %lu failed %lu switches %lu staged %lu "
      "late_ms_max %ld: late %lu wrong %lu noisy %lu lost %lu\n",
      f.ops, f.hits, f.misses, f.stored, f.canceled, f.unknown, f.failed, c.transport_switches, c.staged_bytes,
      f.late_ms_max, f.late, f.wrong, f.noisy, f.lost);
  return f.late + f.wrong + f.noisy + f.lost == 0 ? 0 : 1;
}

}  // namespace
}  // namespace memkv::test

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: memkv-rdma-load SECONDS\n"), 2;
  return memkv::test::run(std::atoi(argv[1]));
}
