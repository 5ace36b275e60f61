/// Load for faults, in the guest: gets and puts with random deadlines and cancels from registered and other memory.
/// Every buffer is filled with a sentinel the moment its op is complete and watched for a while: no byte may change any
/// more.
///   memkv-rdma-load SECONDS [break]     settings from MEMKV_*; SIGTERM: no longer
/// break: queue pairs are moved to error all the time, and every third time memory is registered its key is bad.
/// Last line: the figures. Exit code 1: wrong bytes, a noisy buffer, a deadline missed by more than half a second, or a
/// block that is not there at the end.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "memkv/client.h"
#include "verbs_breaker.h"

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
constexpr milliseconds kRegistered{700};
constexpr milliseconds kUnbroken{1500};
constexpr milliseconds kWhole{10'000};  // at the end nothing is broken any more

volatile sig_atomic_t terminated = 0;

struct Figures {
  uint64_t ops = 0, hits = 0, misses = 0, stored = 0, failed = 0, canceled = 0, unknown = 0;
  uint64_t broken = 0;  // queue pairs
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
  bool seen = false;  // it is done, and its lateness was taken
  Clock::time_point deadline, cancel_at, watch_until;
};

// A pattern that costs next to nothing: the processor of a guest is emulated, and while this thread is at a pattern it
// drives no op.
uint64_t word_of(uint64_t key, uint64_t version, size_t at) {
  return (key * 1'000'003 + version) * 0x9E3779B97F4A7C15 + at;
}

void fill(unsigned char* out, size_t bytes, uint64_t key, uint64_t version) {
  std::memcpy(out, &version, sizeof version);
  for (size_t at = sizeof version; at < bytes; at += sizeof(uint64_t)) {
    const uint64_t word = word_of(key, version, at);
    std::memcpy(out + at, &word, std::min(sizeof word, bytes - at));
  }
}

uint64_t version_in(const unsigned char* data) {
  uint64_t version = 0;
  std::memcpy(&version, data, sizeof version);
  return version;
}

bool is_filled(const unsigned char* data, size_t bytes, uint64_t key) {
  const uint64_t version = version_in(data);
  for (size_t at = sizeof version; at < bytes; at += sizeof(uint64_t)) {
    const uint64_t word = word_of(key, version, at);
    if (std::memcmp(data + at, &word, std::min(sizeof word, bytes - at)) != 0) return false;
  }
  return true;
}

class Load {
 public:
  Load(Session& session, bool breaks) : session_(session), breaks_(breaks), memory_(kSlots * kSlotBytes) {
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
    auto next_region = Clock::now() + kRegistered, next_break = Clock::now() + kUnbroken;
    while (Clock::now() < end && !terminated) {
      if (Clock::now() > next_region) {  // deregistered with ops in flight on it: waits, then comes back
        next_region = Clock::now() + kRegistered;
        deregister();
      }
      if (breaks_ && Clock::now() > end - kWhole) {
        breaks_ = false;
        std::printf("whole again\n");
        std::fflush(stdout);
      }
      if (breaks_ && Clock::now() > next_break) {
        next_break = Clock::now() + kUnbroken;
        if (break_queue_pair(random_())) figures.broken++;
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
    const uint64_t version = version_in(data);
    if (bytes != known.bytes || version < known.acknowledged || version > known.sent) return false;
    return is_filled(data, bytes, number_of(known));
  }

  void deregister() {
    const auto began = Clock::now();
    region_ = {};  // drives the session, but what ends meanwhile is seen at its end only
    see(began);
    give_bad_keys(breaks_ && ++registrations_ % 3 == 0);
    auto again = session_.register_memory(memory_.data(), memory_.size() / 2);
    if (again) region_ = std::move(*again);
  }

  /// Moves bytes, and notes how late the ops are that are done now.
  void drive(milliseconds wait) {
    session_.poll(wait);
    see(Clock::time_point::max());
  }

  /// Ops with a deadline after `blind_since` may have ended in time. Lateness counts up to the last look before this one:
  /// the thread drives the session, and may have stood still since.
  void see(Clock::time_point blind_since) {
    const auto looked = std::exchange(looked_, Clock::now());
    for (Slot& slot : slots_) {
      if (slot.state != Slot::State::kBusy || slot.seen || !session_.done(slot.ticket)) continue;
      slot.seen = true;
      if (slot.deadline > blind_since) continue;
      const auto late = std::chrono::duration_cast<milliseconds>(looked - slot.deadline);
      figures.late_ms_max = std::max<int64_t>(figures.late_ms_max, late.count());
      if (late > kLateMax) figures.late++;
    }
  }

  void step(bool start) {
    for (Slot& slot : slots_) {
      drive(milliseconds(0));
      if (slot.state == Slot::State::kFree && start) launch(slot);
      if (slot.state == Slot::State::kBusy && slot.to_cancel && Clock::now() > slot.cancel_at) {
        slot.to_cancel = false;
        session_.cancel(slot.ticket);
      }
      if (slot.state == Slot::State::kBusy && slot.seen) land(slot);
      if (slot.state == Slot::State::kWatched && Clock::now() > slot.watch_until) release(slot);
    }
    drive(milliseconds(1));
  }

  void launch(Slot& slot) {
    slot.known = &known_[random_() % kKeys];
    slot.put = random_() % 3 == 0 && !slot.known->busy;
    slot.batch.clear();
    milliseconds time = kUsual;
    if (random_() % 4 == 0) time = milliseconds(1 + random_() % 60);
    slot.to_cancel = random_() % 6 == 0;
    slot.cancel_at = Clock::now() + std::chrono::microseconds(random_() % 60'000);
    if (slot.put) {
      slot.known->busy = true;
      slot.version = ++slot.known->sent;
      fill(slot.data, slot.known->bytes, number_of(*slot.known), slot.version);
      slot.batch.put(slot.known->key, Gather(slot.data, slot.known->bytes));
    } else {
      slot.batch.get(slot.known->key, Scatter(slot.data, slot.known->bytes));
    }
    slot.seen = false;
    slot.deadline = Clock::now() + time;
    slot.ticket = session_.submit(slot.batch, time);
    slot.state = Slot::State::kBusy;
  }

  void land(Slot& slot) {
    const Outcome out = session_.collect(slot.ticket)[0];
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
      if (out.bytes != slot.known->bytes || !is_filled(slot.data, out.bytes, number_of(*slot.known))) figures.wrong++;
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
  bool breaks_;
  uint64_t registrations_ = 0;
  std::vector<unsigned char> memory_;
  Region region_;
  Clock::time_point looked_ = Clock::now();
  std::array<Slot, kSlots> slots_;
  std::array<Known, kKeys> known_;
  std::mt19937_64 random_{std::random_device{}()};
};

int run(int seconds, bool breaks) {
  signal(SIGTERM, [](int) { terminated = 1; });
  if (breaks && !watch_verbs()) return std::fprintf(stderr, "no libibverbs\n"), 2;
  auto session = Session::connect({});
  if (!session) return std::fprintf(stderr, "%s\n", session.error().text.c_str()), 2;
  Load load(*session, breaks);
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
  const bool too_little = breaks && (f.broken < 5 || bad_keys_given() < 4);
  if (breaks)
    std::printf("broken: %lu queue pairs, %lu keys%s\n", f.broken, bad_keys_given(), too_little ? ": too few" : "");
  const ClientCounters c = session->counters();
  std::printf(
      "load: ops %lu hits %lu misses %lu stored %lu canceled %lu unknown %lu failed %lu switches %lu staged %lu "
      "late_ms_max %ld: late %lu wrong %lu noisy %lu lost %lu\n",
      f.ops, f.hits, f.misses, f.stored, f.canceled, f.unknown, f.failed, c.transport_switches, c.staged_bytes,
      f.late_ms_max, f.late, f.wrong, f.noisy, f.lost);
  return f.late + f.wrong + f.noisy + f.lost == 0 && !too_little ? 0 : 1;
}

}  // namespace
}  // namespace memkv::test

int main(int argc, char** argv) {
  const bool breaks = argc == 3 && std::string(argv[2]) == "break";
  if (argc != 2 && !breaks) return std::fprintf(stderr, "usage: memkv-rdma-load SECONDS [break]\n"), 2;
  return memkv::test::run(std::atoi(argv[1]), breaks);
}
