#include "transport/rdma/poller.h"

#include <sys/epoll.h>

#include <cerrno>
#include <utility>

#include "base/assert.h"
#include "base/pause.h"

namespace memkv::transport::rdma {
namespace {

constexpr size_t kDoneMax = 4096;
constexpr int kEventsAtOnce = 64;
constexpr uint32_t kIdlePollsMax = 1000;  // of one queue, until it is armed instead
constexpr uint32_t kTurnsPerLook = 16;    // at the armed ones, while the loop does not sleep
constexpr uint64_t kTickNs = 50'000'000;

}  // namespace

Result<std::unique_ptr<Poller>, Message> Poller::make(io::Reactor& reactor, Devices& host, const Options& options) {
  auto arena = io::SlotArena::make(options.staging);
  if (!arena) return Message{arena.error().status, "rdma: no memory for staging slots"};
  const std::span<std::byte> bytes = (*arena)->memory();
  auto memory = host.add_memory(bytes.data(), bytes.size(), options.staging_access);
  if (!memory) return Message{memory.error().status, std::string("rdma: staging: ") + memory.error().what};
  base::UniqueFd events(epoll_create1(EPOLL_CLOEXEC));
  if (!events) return Message{Status::kIo, "rdma: no epoll instance"};
  return std::unique_ptr<Poller>(
      new Poller(reactor, host, std::move(*arena), std::move(*memory), options.staged_bytes, std::move(events)));
}

Poller::Poller(io::Reactor& reactor, Devices& host, std::unique_ptr<io::SlotArena> staging,
               std::shared_ptr<Registration> staging_memory, base::Counter* staged_bytes, base::UniqueFd events)
    : reactor_(reactor),
      host_(host),
      memory_(host.memory()),
      staging_(std::move(staging)),
      staging_memory_(std::move(staging_memory)),
      staged_bytes_(staged_bytes),
      events_(std::move(events)),
      done_(kDoneMax, &reactor) {
  events_op_.context = this;
  events_op_.on_done = [](io::IoOp& op, int32_t) { static_cast<Poller*>(op.context)->look_ = true; };
  reactor.add(*this);
  tick_.context = this;
  tick_.on_done = [](io::Timer& timer) { static_cast<Poller*>(timer.context)->on_tick(); };
}

Poller::~Poller() {
  MEMKV_ASSERT(at_rest(), "links and connectors end first");
  reactor_.stop(tick_);
  reactor_.remove(*this);
  MEMKV_ASSERT(staging_->in_use() == 0, "a staging slot is in flight");
  // A rail that comes back may be pinning it right now.
  host_.remove_memory(
      staging_memory_, [](void*) { base::nap(); }, nullptr);
}

bool Poller::add(Polled& polled) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &polled;
  if (epoll_ctl(events_.get(), EPOLL_CTL_ADD, polled.queue_pair().event_fd(), &event) != 0) return false;
  polled.hot_ = true;
  polled.idle_ = 0;
  hot_.push_back(polled);
  if (!tick_.armed()) reactor_.start(tick_, reactor_.now_ns() + kTickNs);
  return true;
}

void Poller::remove(Polled& polled) {
  if (!polled.link_.linked()) return;
  (void)epoll_ctl(events_.get(), EPOLL_CTL_DEL, polled.queue_pair().event_fd(), nullptr);
  (polled.hot_ ? hot_ : cold_).remove(polled);
  if (hot_.empty() && cold_.empty() && events_op_.pending()) reactor_.cancel(events_op_);
}

/// True once no helper thread touches this object any more. A helper wakes the loop last of all, and by then the owner
/// may already have seen its job come back.
void Poller::deliver_here(BlockingJob& job) {
  job.deliver_to = this;
  job.deliver = [](BlockingJob& done, void* to) {
    auto& self = *static_cast<Poller*>(to);
    while (!self.done_.push(&done)) base::nap();
    self.helpers_inside_.fetch_sub(1, std::memory_order_release);  // the last touch
  };
  jobs_++;
  helpers_inside_.fetch_add(1, std::memory_order_relaxed);
}

void Poller::set_up(BlockingJob& job) {
  deliver_here(job);
  host_.set_up(job);
}

void Poller::tear_down(BlockingJob& job) {
  deliver_here(job);
  host_.tear_down(job);
}

void Poller::discard(std::unique_ptr<QueuePair> pair) {
  struct Discard : BlockingJob {
    std::unique_ptr<QueuePair> pair;
  };
  auto* job = new Discard;
  job->pair = std::move(pair);
  job->run = [](BlockingJob& end) { static_cast<Discard&>(end).pair.reset(); };
  job->on_done = [](BlockingJob& done) { delete static_cast<Discard*>(&done); };
  tear_down(*job);
}

size_t Poller::take_jobs() {
  size_t taken = 0;
  for (; auto job = done_.pop(); taken++) {
    jobs_--;
    (*job)->pending = false;
    (*job)->on_done(**job);
  }
  return taken;
}

void Poller::heat(Polled& polled) {
  if (polled.hot_) return;
  cold_.remove(polled);
  polled.hot_ = true;
  polled.idle_ = 0;
  hot_.push_back(polled);
}

/// Stops polling a queue that has been idle: arms it, then looks at it once more, so that no completion slips through
/// in between. False: there was one, so it stays hot.
bool Poller::cool(Polled& polled) {
  polled.queue_pair().arm();
  if (polled.take_completions() > 0) return false;
  if (!polled.link_.linked() || !polled.hot_) return true;  // it closed meanwhile
  hot_.remove(polled);
  polled.hot_ = false;
  cold_.push_back(polled);
  return true;
}

size_t Poller::take_events() {
  epoll_event events[kEventsAtOnce];
  const int count = epoll_wait(events_.get(), events, kEventsAtOnce, 0);
  for (int i = 0; i < count; i++) {
    auto& polled = *static_cast<Polled*>(events[i].data.ptr);
    polled.queue_pair().read_events();
    heat(polled);
  }
  return count > 0 ? static_cast<size_t>(count) : 0;
}

size_t Poller::poll() {
  size_t moved = take_jobs();
  const bool look = std::exchange(look_, false);  // also with no queue left, or the loop would never sleep again
  if (hot_.empty() && cold_.empty()) return moved;
  if (look || turn_++ % kTurnsPerLook == 0) moved += cold_.empty() ? 0 : take_events();
  // Always waiting, so that the loop may sleep at any time. When the loop is full now, the next turn tries again.
  if (!events_op_.pending()) (void)reactor_.readable(events_op_, events_.get());
  // Bounded by what is hot now: a queue that cools goes, one that is added comes behind.
  Polled* polled = hot_.front();
  for (size_t left = hot_.size(); left > 0 && polled; left--) {
    Polled* next = hot_.next(*polled);
    const size_t taken = polled->take_completions();
    moved += taken;
    if (polled->link_.linked() && polled->hot_) {
      polled->idle_ = taken > 0 ? 0 : polled->idle_ + 1;
      if (polled->idle_ > kIdlePollsMax && !cool(*polled)) moved++;
    }
    polled = next;
  }
  return moved;
}

bool Poller::arm() {
  bool quiet = take_jobs() == 0 && !look_ && (events_op_.pending() || (hot_.empty() && cold_.empty()));
  Polled* polled = hot_.front();
  for (size_t left = hot_.size(); left > 0 && polled; left--) {
    Polled* next = hot_.next(*polled);
    quiet = cool(*polled) && quiet;
    polled = next;
  }
  return quiet;
}

void Poller::on_tick() {
  if (hot_.empty() && cold_.empty()) return;
  reactor_.start(tick_, reactor_.now_ns() + kTickNs);
  for (List* list : {&hot_, &cold_}) {
    for (Polled& polled : *list) {
      if (polled.queue_pair().device().dead()) polled.on_device_gone();
    }
  }
}

// Memory that peers may write.

bool Poller::expose(std::span<const iovec> pieces, Staging staging, size_t rail, const Device& device, Exposure& out) {
  out = {};
  return expose_direct(pieces, rail, device, out) ||
         (staging == Staging::kAllowed && expose_staging(pieces, rail, device, out));
}

bool Poller::expose_direct(std::span<const iovec> pieces, size_t rail, const Device& device, Exposure& out) {
  out.let_go = [](Exposure& exposure) {
    for (size_t i = 0; i < exposure.count; i++) static_cast<Registration*>(exposure.users[i])->unuse();
  };
  for (const iovec& piece : pieces) {
    Registration* registration =
        out.count < out.remote_pieces.size() ? memory_.find(piece.iov_base, piece.iov_len) : nullptr;
    const MemoryKeys* keys = registration ? registration->keys(rail, device) : nullptr;
    if (!keys || registration->access() != Access::kRemote || !registration->use()) {
      out.release();
      return false;
    }
    out.users[out.count] = registration;
    out.remote_pieces[out.count++] = {reinterpret_cast<uint64_t>(piece.iov_base), static_cast<uint32_t>(piece.iov_len),
                                      keys->remote};
  }
  return out.count > 0;
}

bool Poller::expose_staging(std::span<const iovec> pieces, size_t rail, const Device& device, Exposure& out) {
  const MemoryKeys* keys = staging_memory_->keys(rail, device);
  uint32_t bytes = 0;
  for (const iovec& piece : pieces) bytes += static_cast<uint32_t>(piece.iov_len);
  const io::Slot slot = keys ? staging_->take(bytes) : io::Slot{};
  if (!slot) return false;
  out.let_go = [](Exposure& exposure) {
    const io::Slot taken{exposure.staging.data(), exposure.slot_bytes, exposure.slot_class, exposure.slot_index};
    static_cast<io::SlotArena*>(exposure.context)->give_back(taken);
  };
  out.context = staging_.get();
  out.staging = {slot.data, bytes};
  out.slot_bytes = slot.capacity;
  out.slot_class = slot.size_class;
  out.slot_index = slot.index;
  out.remote_pieces[0] = {reinterpret_cast<uint64_t>(slot.data), bytes, keys->remote};
  out.count = 1;
  return true;
}

}  // namespace memkv::transport::rdma
