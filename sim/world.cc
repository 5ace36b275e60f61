#include "sim/world.h"

#include <algorithm>
#include <cstdio>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "sim/calls.h"

namespace memkv::sim {
namespace {

constexpr uint64_t kTurnCostNsMin = 200, kTurnCostNsMax = 3000;

}  // namespace

void Trace::add(uint64_t now_ns, std::string_view text) {
  hash_ = base::xxh3(base::as_bytes(text), base::mix64(hash_ ^ now_ns));
  lines_++;
  if (!printing_) return;
  std::printf("%12.6f  %.*s\n", static_cast<double>(now_ns) * 1e-9 - 1000, static_cast<int>(text.size()), text.data());
}

World::World(uint64_t seed) : random_(seed) { enter_world(*this, base::mix64(seed ^ 0x73696d)); }

World::~World() { leave_world(); }

void World::at(uint64_t when_ns, std::function<void()> what) {
  events_.push({std::max(when_ns, now_ns_), order_++, std::move(what)});
}

void World::remove(Actor& actor) { std::erase(actors_, &actor); }

bool World::run_event() {
  if (events_.empty() || events_.top().when_ns > now_ns_) return false;
  const std::function<void()> what = events_.top().what;
  events_.pop();
  what();
  return true;
}

bool World::run_actor() {
  runnable_.clear();
  for (Actor* actor : actors_) {
    if (actor->paused_until_ns() <= now_ns_ && actor->runnable()) runnable_.push_back(actor);
  }
  if (runnable_.empty()) return false;
  current_ = runnable_.size() == 1 ? runnable_[0] : runnable_[random_.below(runnable_.size())];
  now_ns_ += random_.between(kTurnCostNsMin, kTurnCostNsMax);
  current_->turn();
  current_ = nullptr;
  return true;
}

uint64_t World::next_time() const {
  uint64_t next = events_.empty() ? Actor::kNever : events_.top().when_ns;
  for (const Actor* actor : actors_) {
    const uint64_t due = actor->runnable() ? now_ns_ : actor->next_ns();
    if (due != Actor::kNever) next = std::min(next, std::max(due, actor->paused_until_ns()));
  }
  return next;
}

bool World::step(uint64_t until_ns) {
  MEMKV_ASSERT(++steps_ < kStepsMax, "the world does not come to rest");
  if (now_ns_ >= until_ns) return false;
  if (run_event() || run_actor()) return true;
  const uint64_t next = next_time();
  now_ns_ = std::max(now_ns_, std::min(next, until_ns));
  return next < until_ns;
}

}  // namespace memkv::sim
