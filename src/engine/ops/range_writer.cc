#include "engine/ops/range_writer.h"

#include <algorithm>
#include <utility>

namespace memkv::engine {

RangeWriter::RangeWriter(Parts& parts) : parts_(parts) {
  for (size_t i = 0; i < parts_.buffers.merges(); ++i)
    places_.push_back({std::make_unique<Merge>(parts_, static_cast<Merge::Owner&>(*this))});
}

void RangeWriter::queue(Job& job, uint64_t deadline_ns) {
  job.deadline_ns_ = deadline_ns;
  job.needs_ = job.needs();
  waiting_.push_back(job);
  start_waiting();
}

RangeWriter::Busy RangeWriter::busy_drives(uint64_t now_ns) const {
  Busy busy;
  for (const Place& place : places_) {
    if (place.merge->free()) continue;
    const uint64_t drives = place.merge->busy_drives(now_ns);
    busy.drives |= drives;
    if (place.merge->is_late(now_ns)) busy.late |= drives;
  }
  return busy;
}

/// In their order, but jobs that would wait for a drive let others pass. One that waits for a drive that is well keeps
/// later ones off its other drives too, so that its turn comes.
void RangeWriter::start_waiting() {
  if (starting_) return;  // a job that was started there ended, or brought another one: both are seen there
  starting_ = true;
  const uint64_t now_ns = parts_.reactor.now_ns();
  uint64_t kept_free = 0;  // drives of those that were passed over
  Job* before = nullptr;   // the last of them: behind it stand those to look at, new ones too
  while (Job* job = before == nullptr ? waiting_.front() : waiting_.next(*before)) {
    if (job->needs_.buffers > parts_.buffers.free_merges()) break;
    const Busy busy = busy_drives(now_ns);
    const uint64_t taken = busy.drives | kept_free;
    if ((job->needs_.drives & taken) == 0) job->needs_ = job->needs();
    if ((job->needs_.drives & taken) == 0) {
      waiting_.remove(*job);
      start(*job);
      continue;
    }
    if ((job->needs_.drives & busy.late) == 0) kept_free |= job->needs_.drives;
    before = job;
  }
  starting_ = false;
}

void RangeWriter::start(Job& job) {
  if (const Status no = job.refusal_now(); no != Status::kOk) return job.on_range_written(no);
  const auto place = std::find_if(places_.begin(), places_.end(), [](const Place& p) { return p.merge->free(); });
  MEMKV_ASSERT(place != places_.end() && place->job == nullptr, "there are as many as buffers");
  place->job = &job;
  place->merge->prepare(job.needs_);
  job.on_turn(*place->merge);
}

RangeWriter::Place& RangeWriter::place_of(const Merge& merge) {
  const auto place =
      std::find_if(places_.begin(), places_.end(), [&](const Place& p) { return p.merge.get() == &merge; });
  MEMKV_ASSERT(place != places_.end());
  return *place;
}

void RangeWriter::on_merged(Merge& merge, Status status) {
  Job* job = std::exchange(place_of(merge).job, nullptr);
  MEMKV_ASSERT(job != nullptr, "a job is told once");
  job->on_range_written(status);
}

void RangeWriter::on_merge_over(Merge&) {
  start_waiting();
  parts_.tick.ended();
}

void RangeWriter::flushed(uint64_t namespace_id) {
  for (const Place& place : places_) place.merge->flushed(namespace_id);
}

size_t RangeWriter::left() const {
  return static_cast<size_t>(std::count_if(places_.begin(), places_.end(),
                                           [](const Place& p) { return !p.merge->free() && p.job == nullptr; }));
}

/// Drives may have gone out or begun to lag meanwhile, and merges may be late by now: what jobs wait for is looked at
/// again.
void RangeWriter::tick(uint64_t now_ns) {
  for (const Place& place : places_) place.merge->end_if_late(now_ns);
  base::IntrusiveList<Job, &Job::link_> late;
  for (Job& job : waiting_) {
    if (job.deadline_ns_ > now_ns) {
      job.needs_ = job.needs();
      continue;
    }
    waiting_.remove(job);
    late.push_back(job);
  }
  while (Job* job = late.pop_front()) job->on_range_written(Status::kDeadline);
  start_waiting();
}

}  // namespace memkv::engine
