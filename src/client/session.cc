/// A context that its caller drives.

#include <deque>

#include "base/fork_guard.h"
#include "client/context.h"
#include "client/rdma_host.h"
#include "client/region.h"
#include "client/waiting.h"

namespace memkv {

using client::Call;
using client::Context;

struct Session::Impl {
  /// A batch under way. Tickets are (round, place in `slots`), so that an old one is not taken for a new one.
  struct Slot {
    Call call;
    std::vector<Outcome> outcomes;
    std::vector<uint32_t> completed;
    Impl* impl = nullptr;
    uint32_t round = 1;
    bool used = false;
    bool done = false;
  };

  std::unique_ptr<Context> context;
  std::shared_ptr<Context*> driven;  // for regions, which may outlive it
  std::deque<Slot> slots;
  std::vector<uint32_t> free;
  size_t completed = 0;  // since the last poll
  bool moved = false;    // by the last poll
  base::PollPolicy policy{client::poll_least_ns()};
  const base::ForkGuard guard;

  Ticket take(uint32_t& place, const Batch::Impl& batch);
  Slot* find(Ticket ticket);
};

/// Takes the memory that a submit needs; throws with nothing begun when there is none.
Session::Ticket Session::Impl::take(uint32_t& place, const Batch::Impl& batch) {
  if (free.empty()) {
    free.reserve(slots.size() + 1);
    Slot& slot = slots.emplace_back();
    free.push_back(static_cast<uint32_t>(slots.size() - 1));
    slot.impl = this;
    slot.call.context = &slot;
    slot.call.outcomes = &slot.outcomes;
    slot.call.completed = &slot.completed;
    slot.call.on_done = [](Call& call) {
      auto& done = *static_cast<Slot*>(call.context);
      done.done = true;
      done.impl->completed++;
    };
  }
  place = free.back();
  Slot& slot = slots[place];
  context->reserve(slot.call, batch);
  slot.outcomes.reserve(batch.ops.size());
  slot.completed.clear();
  slot.completed.reserve(batch.ops.size());
  free.pop_back();
  slot.used = true;
  slot.done = false;
  return (Ticket{slot.round} << 32) | place;
}

Session::Impl::Slot* Session::Impl::find(Ticket ticket) {
  const auto place = static_cast<uint32_t>(ticket);
  if (place >= slots.size() || !slots[place].used || slots[place].round != ticket >> 32) return nullptr;
  return &slots[place];
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&& other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}

Session::~Session() {
  if (!impl_) return;
  if (impl_->guard.forked()) {
    (void)impl_.release();  // the parent's sockets and memory: not ours to end
    return;
  }
  impl_->context->adopt();
  impl_->context->shut_down();
  *impl_->driven = nullptr;
}

Result<Session, Message> Session::connect(ClientOptions options) {
  auto settings = client::resolve_settings(std::move(options));
  if (!settings) return settings.error();
  auto context = Context::make(*settings);
  if (!context) return context.error();
  auto impl = std::make_unique<Impl>();
  impl->context = std::move(*context);
  impl->driven = std::make_shared<Context*>(impl->context.get());
  return Session(std::move(impl));
}

Session::Ticket Session::submit(Batch& batch, Deadline deadline) {
  uint32_t place = 0;
  const Ticket ticket = impl_->take(place, batch.impl());
  Impl::Slot& slot = impl_->slots[place];
  if (impl_->guard.forked()) {
    slot.outcomes.assign(batch.size(), Outcome{Status::kForked});
    for (uint32_t i = 0; i < batch.size(); i++) slot.completed.push_back(i);
    slot.done = true;
    return ticket;
  }
  impl_->context->adopt();
  slot.call.batch = &batch.impl();
  slot.call.timeout_ns = client::timeout_ns(deadline);
  impl_->context->submit(slot.call);
  return ticket;
}

size_t Session::poll(std::chrono::nanoseconds wait) {
  impl_->moved = false;
  if (impl_->guard.forked()) return 0;
  impl_->context->adopt();
  client::Waiter waiter(impl_->policy, client::timeout_ns(wait));
  do {
    impl_->moved = impl_->context->run_once(waiter.sleep_ns()) > 0;
  } while (waiter.go_on(impl_->moved) && impl_->completed == 0);
  impl_->moved = impl_->moved || impl_->completed > 0;
  return std::exchange(impl_->completed, 0);
}

bool Session::moved() const { return impl_->moved; }

bool Session::done(Ticket ticket) const {
  const Impl::Slot* slot = impl_->find(ticket);
  return slot != nullptr && slot->done;
}

std::span<const uint32_t> Session::completed(Ticket ticket) const {
  const Impl::Slot* slot = impl_->find(ticket);
  MEMKV_ASSERT(slot != nullptr, "completed() takes a ticket that is not collected");
  return slot->completed;
}

const Outcome& Session::outcome(Ticket ticket, size_t op) const {
  const Impl::Slot* slot = impl_->find(ticket);
  MEMKV_ASSERT(slot != nullptr && op < slot->outcomes.size(),
               "outcome() takes an op of a ticket that is not collected");
  return slot->outcomes[op];
}

void Session::feed(Ticket ticket, size_t op, uint64_t bytes) {
  Impl::Slot* slot = impl_->find(ticket);
  if (!slot || slot->done || impl_->guard.forked()) return;
  impl_->context->adopt();
  impl_->context->feed(slot->call, static_cast<uint32_t>(op), bytes);
}

void Session::cancel(Ticket ticket) {
  Impl::Slot* slot = impl_->find(ticket);
  if (!slot || slot->done || impl_->guard.forked()) return;
  impl_->context->adopt();
  impl_->context->cancel(slot->call);
}

int Session::wait_fd() const { return impl_->context->wait_fd(); }

std::chrono::nanoseconds Session::arm_wait() {
  if (impl_->guard.forked()) return {};
  impl_->context->adopt();
  return std::chrono::nanoseconds(impl_->context->arm_wait());
}

void Session::collect(Ticket ticket, std::vector<Outcome>& out) {
  Impl::Slot* slot = impl_->find(ticket);
  MEMKV_ASSERT(slot != nullptr && slot->done, "collect() takes a ticket that is done, once");
  out.swap(slot->outcomes);
  slot->used = false;
  slot->round++;
  impl_->free.push_back(static_cast<uint32_t>(ticket));
}

std::vector<Outcome> Session::collect(Ticket ticket) {
  std::vector<Outcome> out;
  collect(ticket, out);
  return out;
}

std::vector<Outcome> Session::run(Batch& batch, Deadline deadline) {
  const Ticket ticket = submit(batch, deadline);
  const size_t others = impl_->completed;
  size_t completed = 0;
  while (!done(ticket)) completed += poll(std::chrono::milliseconds(100));
  // Other tickets that ended meanwhile are reported by the next poll().
  impl_->completed = completed > 0 ? completed - 1 : others > 0 ? others - 1 : 0;
  return collect(ticket);
}

std::vector<Status> Session::ask_servers(Deadline deadline) {
  std::vector<client::AdminSlot> slots(impl_->context->placement().size());
  Batch batch;
  for (size_t i = 0; i < slots.size(); i++) {
    slots[i].server = i;
    batch.impl().add(client::Kind::kStatus, {}).admin = &slots[i];
  }
  std::vector<Status> answers;
  for (const Outcome& outcome : run(batch, deadline)) answers.push_back(outcome.status);
  return answers;
}

Result<Region> Session::register_memory(void* data, size_t size, MemoryKind kind, int device) {
  if (impl_->guard.forked()) return base::kForkedError;
  return client::make_region(*impl_->context, data, size, kind, device, impl_->driven);
}

ClientCounters Session::counters() const {
  ClientCounters sum{};
  impl_->context->counters().add_to(sum);
  return sum;
}

std::vector<RailCounters> Session::rail_counters() const {
  return client::rail_counters(impl_->context->machine().rdma_host().get());
}

}  // namespace memkv
