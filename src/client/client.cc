/// The thread-safe client: a list of I/O threads, and the asker's half of every call.

#include "memkv/client.h"

#include <algorithm>
#include <atomic>
#include <new>

#include "base/assert.h"
#include "base/clock.h"
#include "base/fork_guard.h"
#include "base/log.h"
#include "client/io_thread.h"
#include "client/rdma_host.h"
#include "client/region.h"
#include "client/waiting.h"

namespace memkv {

using client::AdminSlot;
using client::IoThread;
using client::Job;
using client::Kind;

namespace {

constexpr uint32_t kListPage = 4096;

/// A batch of one op for the calls that block: refilled without allocation.
Batch& scratch() {
  thread_local Batch batch;
  batch.clear();
  return batch;
}

/// What is left of a deadline that several calls share.
class TimeLeft {
 public:
  explicit TimeLeft(Deadline deadline)
      : end_ns_(deadline.count() > 0 ? base::SystemClock().now_ns() + client::timeout_ns(deadline) : 0) {}
  Deadline left() const {
    if (end_ns_ == 0) return {};  // each call has its own default
    const uint64_t now = base::SystemClock().now_ns();
    return Deadline(end_ns_ > now ? end_ns_ - now : 1);
  }

 private:
  uint64_t end_ns_;
};

Error failure(Status status, const char* what) { return {.status = status, .sys_errno = 0, .what = what}; }

}  // namespace

struct Client::Impl {
  std::vector<std::unique_ptr<IoThread>> threads;
  std::vector<std::string> server_names;
  std::atomic<uint64_t> next_id{1};
  const base::ForkGuard guard;

  ~Impl() {
    if (!guard.forked()) return;
    for (auto& thread : threads) (void)thread.release();  // the parent's: not ours to end
  }
  IoThread& thread_of(uint64_t id) { return *threads[id % threads.size()]; }
  void submit(Job& job, Batch& batch, Deadline deadline);
  std::vector<Outcome> run(Batch& batch, Deadline deadline);
  Outcome run_one(Batch& batch, Deadline deadline) { return run(batch, deadline).front(); }
  Outcome ask(Kind kind, AdminSlot& slot, Deadline deadline);
};

void Client::Impl::submit(Job& job, Batch& batch, Deadline deadline) {
  job.id = next_id.fetch_add(1, std::memory_order_relaxed);
  if (guard.forked()) {
    job.outcomes.assign(batch.size(), Outcome{Status::kForked});
    job.on_done = {};
    return job.finish();
  }
  job.call.batch = &batch.impl();
  job.call.timeout_ns = client::timeout_ns(deadline);
  thread_of(job.id).submit(job);
}

std::vector<Outcome> Client::Impl::run(Batch& batch, Deadline deadline) {
  Job job;
  submit(job, batch, deadline);
  job.wait();
  return std::move(job.outcomes);
}

Outcome Client::Impl::ask(Kind kind, AdminSlot& slot, Deadline deadline) {
  Batch& batch = scratch();
  batch.impl().add(kind, {}).admin = &slot;
  return run_one(batch, deadline);
}

Client::Client(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<Client, Message> Client::connect(ClientOptions options) try {
  auto settings = client::resolve_settings(std::move(options));
  if (!settings) return settings.error();
  auto impl = std::make_shared<Impl>();
  for (const client::ServerAddress& server : settings->servers) impl->server_names.push_back(server.name);
  for (uint32_t i = 0; i < settings->io_contexts; i++) {
    auto thread = IoThread::start(*settings, i);
    if (!thread && i == 0) return thread.error();
    if (!thread) {  // fewer do the same work
      MEMKV_LOG(kWarn, "{} of {} I/O contexts: {}", i, settings->io_contexts, thread.error().text);
      break;
    }
    impl->threads.push_back(std::move(*thread));
  }
  return Client(std::move(impl));
} catch (const std::bad_alloc&) {
  return Message{Status::kBusy, "the client gets no memory"};
}

// Ops.

Outcome Client::put(std::string_view key, const Gather& src, Deadline deadline) {
  return impl_->run_one(scratch().put(key, src), deadline);
}
Outcome Client::put_if_absent(std::string_view key, const Gather& src, Deadline deadline) {
  return impl_->run_one(scratch().put_if_absent(key, src), deadline);
}
Outcome Client::write(std::string_view key, const Gather& src, uint64_t offset, Deadline deadline) {
  return impl_->run_one(scratch().write(key, src, offset), deadline);
}
Outcome Client::get(std::string_view key, const Scatter& dst, uint64_t offset, Deadline deadline) {
  return impl_->run_one(scratch().get(key, dst, offset), deadline);
}
Outcome Client::exists(std::string_view key, Deadline deadline) {
  return impl_->run_one(scratch().exists(key), deadline);
}
Outcome Client::remove(std::string_view key, Deadline deadline) {
  return impl_->run_one(scratch().remove(key), deadline);
}
Outcome Client::touch(std::string_view key, Deadline deadline) {
  return impl_->run_one(scratch().touch(key), deadline);
}
Outcome Client::stat(std::string_view key, Deadline deadline) { return impl_->run_one(scratch().stat(key), deadline); }

std::vector<Outcome> Client::run(Batch& batch, Deadline deadline) { return impl_->run(batch, deadline); }

// Batches under way.

struct Client::Pending::State {
  std::shared_ptr<Impl> impl;  // keeps the I/O threads until the job is done
  Batch batch;
  Job job;

  void cancel() {
    if (!job.done() && !impl->guard.forked()) job.thread->cancel(job.id);
  }
  /// In the child of a fork nobody will finish the job.
  bool lost() const { return !job.done() && impl->guard.forked(); }
};

Client::Pending::Pending(std::shared_ptr<State> state) : state_(std::move(state)) {}
Client::Pending::Pending(Pending&&) noexcept = default;
Client::Pending& Client::Pending::operator=(Pending&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}
Client::Pending::~Pending() {
  if (!state_) return;
  if (state_->lost()) {
    (void)new std::shared_ptr<State>(std::move(state_));  // the parent's
    return;
  }
  cancel();
  wait();
}
bool Client::Pending::done() const { return state_->job.done() || state_->lost(); }
void Client::Pending::cancel() { state_->cancel(); }
const std::vector<Outcome>& Client::Pending::wait() {
  if (state_->lost())
    state_->job.outcomes.assign(state_->batch.size(), Outcome{Status::kForked});
  else
    state_->job.wait();
  return state_->job.outcomes;
}
bool Client::Pending::wait_for(std::chrono::nanoseconds time) {
  return state_->lost() || state_->job.wait(client::timeout_ns(time));
}
Batch Client::Pending::take_batch() {
  if (state_->lost()) return {};  // the parent's
  MEMKV_ASSERT(state_->job.done(), "the batch of ops under way is in use");
  return std::move(state_->batch);
}

Client::Pending Client::submit(Batch batch, Deadline deadline) { return submit(std::move(batch), deadline, {}); }

Client::Pending Client::submit(Batch batch, Deadline deadline, OnDone on_done) {
  auto state = std::make_shared<Pending::State>();
  state->impl = impl_;
  state->batch = std::move(batch);
  state->job.on_done = on_done;
  impl_->submit(state->job, state->batch, deadline);
  return Pending(std::move(state));
}

// Whole servers.

Outcome Client::flush(Deadline deadline) {
  std::vector<AdminSlot> slots(server_count());
  Batch batch;
  for (size_t i = 0; i < slots.size(); i++) {
    slots[i].server = i;
    batch.impl().add(Kind::kFlush, {}).admin = &slots[i];
  }
  Outcome flushed{Status::kOk};
  for (const Outcome& outcome : run(batch, deadline)) {
    if (outcome.status != Status::kOk && flushed.status == Status::kOk) flushed = outcome;
  }
  return flushed;
}

Result<std::vector<ListedBlock>> Client::list(size_t server, uint64_t limit, Deadline deadline) {
  if (server >= server_count()) return failure(Status::kInvalid, "no server of that number");
  const TimeLeft time(deadline);
  AdminSlot slot;
  slot.server = server;
  do {
    slot.cursor = 0;
    do {
      slot.limit =
          static_cast<uint32_t>(limit == 0 ? kListPage : std::min<uint64_t>(limit - slot.blocks.size(), kListPage));
      const Outcome outcome = impl_->ask(Kind::kList, slot, time.left());
      if (outcome.status != Status::kOk) return failure(outcome.status, "the server did not list its blocks");
      if (limit != 0 && slot.blocks.size() >= limit) return std::move(slot.blocks);
    } while (slot.cursor != 0);
  } while (++slot.worker < slot.worker_count);
  return std::move(slot.blocks);
}

Result<std::string> Client::server_status(size_t server, Deadline deadline) {
  if (server >= server_count()) return failure(Status::kInvalid, "no server of that number");
  AdminSlot slot;
  slot.server = server;
  const Outcome outcome = impl_->ask(Kind::kStatus, slot, deadline);
  if (outcome.status != Status::kOk) return failure(outcome.status, "the server did not tell its status");
  return std::move(slot.text);
}

size_t Client::server_count() const { return impl_->server_names.size(); }
std::string Client::server_name(size_t server) const {
  return server < server_count() ? impl_->server_names[server] : std::string();
}
size_t Client::server_of(std::string_view key) const {
  return impl_->threads.front()->context().placement().server_of(key);
}

// The rest.

Result<Region> Client::register_memory(void* data, size_t size, MemoryKind kind, int device) {
  if (impl_->guard.forked()) return base::kForkedError;
  return client::make_region(impl_->threads.front()->context(), data, size, kind, device, nullptr);
}

ClientCounters Client::counters() const {
  ClientCounters sum{};
  for (const auto& thread : impl_->threads) thread->context().counters().add_to(sum);
  return sum;
}

std::vector<RailCounters> Client::rail_counters() const {
  return client::rail_counters(impl_->threads.front()->context().machine().rdma_host().get());
}

std::string Client::describe() const {
  if (impl_->guard.forked()) return "this process is the child of a fork: connect a client of its own\n";
  std::vector<client::ServerLine> best;
  for (const auto& thread : impl_->threads) {
    Job job;
    job.kind = Job::Kind::kDescribe;
    thread->submit(job);
    job.wait();
    best.resize(job.lines.size());
    for (size_t i = 0; i < best.size(); i++) {
      if (best[i].text.empty() || job.lines[i].tells_more_than(best[i])) best[i] = std::move(job.lines[i]);
    }
  }
  std::string text;
  for (const client::ServerLine& line : best) text += line.text + "\n";
  return text;
}

bool Client::forked() const { return impl_->guard.forked(); }

}  // namespace memkv
