#pragma once
/// Changes that need merge buffers: range writes with their read-modify-write, and commits with a very long head.

#include <memory>
#include <vector>

#include "base/intrusive_list.h"
#include "engine/ops/merge.h"

namespace memkv::engine {

/// Who merges when. The key of a job is locked while it waits and while it is merged, so the order of changes does not
/// depend on the order here.
///
/// A few merges are under way at a time, as many as there are buffers, and normally one a drive: then a drive that hangs
/// has the buffers of one merge, and jobs for the other drives go on. A job that is past its deadline ends, and so does
/// one whose drive hangs while its old bytes are read.
///
/// Owns the queue and the merges. Knows the ops' lower parts, and Remove. Thread: worker.
class RangeWriter final : private Merge::Owner {
 public:
  /// An op that takes its turn.
  class Job {
   public:
    virtual MergeNeeds needs() const = 0;
    /// Asked when its turn comes, and when it begins again: not kOk, and nothing of it is done.
    virtual Status refusal_now() const = 0;
    /// Its turn has come: it calls stage(), commit() or write() of the merge, once.
    virtual void on_turn(Merge& merge) = 0;
    /// What came of it. Once. kBusy or kDeadline: nothing was done, and perhaps its turn has not come.
    virtual void on_range_written(Status) = 0;

   protected:
    ~Job() = default;

   private:
    friend class RangeWriter;
    uint64_t deadline_ns_ = 0;
    MergeNeeds needs_;  // as of the last look
    base::ListLink<Job> link_;
  };

  explicit RangeWriter(Parts& parts);
  void queue(Job& job, uint64_t deadline_ns);
  /// The namespace was flushed a moment ago: what merges have of it from before is not to come back.
  void flushed(uint64_t namespace_id);
  /// Every tick, also while the store is being closed.
  void tick(uint64_t now_ns);
  /// Merges whose change has ended, while a drive still has their buffers.
  size_t left() const;
  /// No drive has anything of its memory.
  bool at_rest() const { return parts_.buffers.free_merges() == parts_.buffers.merges(); }

 private:
  /// Room for a merge, and whose turn it is there; null: its change has ended.
  struct Place {
    std::unique_ptr<Merge> merge;
    Job* job = nullptr;
  };
  /// Drives that are better not waited for, a bit each.
  struct Busy {
    uint64_t drives = 0;
    uint64_t late = 0;  // those of them whose merge has been under way for long
  };
  Status refusal_of(const Merge& merge) override { return place_of(merge).job->refusal_now(); }
  void on_merged(Merge& merge, Status status) override;
  void on_merge_over(Merge&) override;
  Place& place_of(const Merge& merge);
  Busy busy_drives(uint64_t now_ns) const;
  void start_waiting();
  void start(Job& job);

  Parts& parts_;
  std::vector<Place> places_;  // one a buffer
  base::IntrusiveList<Job, &Job::link_> waiting_;
  bool starting_ = false;  // start_waiting() is under way
};

}  // namespace memkv::engine
