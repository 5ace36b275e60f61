#pragma once
/// The simulated world: one clock, one queue of events, and the threads of all simulated processes, which run by turns.

#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"

namespace memkv::sim {

inline constexpr uint64_t kUs = 1'000, kMs = 1'000'000, kSecond = 1'000'000'000;

/// What happened: as a hash that two runs of one seed must share, and as text for people on request.
class Trace {
 public:
  /// `text` is one line, without the time and the line's end.
  void add(uint64_t now_ns, std::string_view text);
  uint64_t hash() const { return hash_; }
  uint64_t lines() const { return lines_; }
  /// From now on prints each line to stdout.
  void print() { printing_ = true; }

 private:
  uint64_t hash_ = 0;
  uint64_t lines_ = 0;
  bool printing_ = false;
};

/// A thread of a simulated process. In its turn it runs until it has nothing to do now.
class Actor {
 public:
  explicit Actor(std::string name) : name_(std::move(name)) {}
  virtual ~Actor() = default;
  virtual bool runnable() const = 0;
  /// World time of its next timer; kNever if there is none.
  virtual uint64_t next_ns() const = 0;
  virtual void turn() = 0;
  /// How far its own monotonic clock is ahead of the world's.
  virtual uint64_t clock_offset_ns() const { return 0; }

  const std::string& name() const { return name_; }
  /// Gives it no turn before that time (SIGSTOP, or a stalled thread).
  void pause_until(uint64_t ns) { paused_until_ns_ = ns; }
  uint64_t paused_until_ns() const { return paused_until_ns_; }

  static constexpr uint64_t kNever = ~uint64_t{0};

 private:
  const std::string name_;
  uint64_t paused_until_ns_ = 0;
};

/// Everything random comes from the seed. Events of the same time happen in an order that is drawn from the seed, too.
/// Thread: the one that made it.
class World {
 public:
  explicit World(uint64_t seed);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  uint64_t now_ns() const { return now_ns_; }
  base::Random& random() { return random_; }
  Trace& trace() { return trace_; }
  /// The actor whose turn it is; null between turns.
  const Actor* current() const { return current_; }

  /// Runs `what` at that time. Events of the same time run in the order in which they were asked for.
  void at(uint64_t when_ns, std::function<void()> what);
  void after(uint64_t delay_ns, std::function<void()> what) { at(now_ns_ + delay_ns, std::move(what)); }

  void add(Actor& actor) { actors_.push_back(&actor); }
  void remove(Actor& actor);

  /// Runs one event or one turn. False: nothing happens before `until_ns`, and the clock is there now.
  bool step(uint64_t until_ns);
  void run_until(uint64_t until_ns) {
    while (step(until_ns)) {
    }
  }
  void run_for(uint64_t ns) { run_until(now_ns_ + ns); }
  /// Runs until `done()` is true, at most to `until_ns`. Returns what `done` said last.
  template <typename Done>
  bool run_until(uint64_t until_ns, Done&& done) {
    while (!done() && step(until_ns)) {
    }
    return done();
  }

  uint64_t steps() const { return steps_; }
  /// A run with more steps than this does not come to rest.
  static constexpr uint64_t kStepsMax = 1'000'000;

 private:
  struct Event {
    uint64_t when_ns;
    uint64_t order;
    std::function<void()> what;
    bool operator<(const Event& other) const {
      return when_ns != other.when_ns ? when_ns > other.when_ns : order > other.order;
    }
  };
  bool run_event();
  bool run_actor();
  uint64_t next_time() const;

  uint64_t now_ns_ = 1000 * kSecond;
  base::Random random_;
  Trace trace_;
  std::priority_queue<Event> events_;
  uint64_t order_ = 0;
  uint64_t steps_ = 0;
  std::vector<Actor*> actors_;
  std::vector<Actor*> runnable_;  // actors of this step
  Actor* current_ = nullptr;
};

}  // namespace memkv::sim
