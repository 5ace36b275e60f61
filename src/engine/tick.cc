#include "engine/tick.h"

namespace memkv::engine {

Tick::Tick(io::Reactor& reactor) : reactor_(reactor) {
  timer_.on_done = on_timer;
  timer_.context = this;
}

Tick::~Tick() { reactor_.stop(timer_); }

void Tick::start() {
  if (!timer_.armed() && !closing_) reactor_.start(timer_, reactor_.now_ns() + kTickNs);
}

void Tick::begin_closing() {
  MEMKV_ASSERT(!closing_, "a store is closed once");
  closing_ = true;
  reactor_.stop(timer_);
}

void Tick::next_step(uint64_t after_ns) {
  MEMKV_ASSERT(closing_);
  reactor_.stop(timer_);
  reactor_.start(timer_, reactor_.now_ns() + after_ns);
}

void Tick::on_timer(io::Timer& timer) { static_cast<Tick*>(timer.context)->on_tick_(); }

}  // namespace memkv::engine
