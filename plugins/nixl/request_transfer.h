#pragma once
/// Moves the bytes of a request: what is under way of a post, and what goes next.

#include <vector>

#include "apart_reads.h"
#include "counters.h"
#include "driver.h"
#include "request_outcome.h"
#include "request_plan.h"
#include "submitted_batch.h"

namespace memkv::nixl {

/// A stage of the plan is under way as a whole: what the client moves by itself is one batch, what passes through
/// staging goes by itself, and each wire operation's copies start as soon as it has succeeded, while others are still
/// on the wire. It asks the plan what there is to do and tells the outcome what came of it; neither calls back.
///
/// Thread: the driver's lock.
class RequestTransfer {
 public:
  using Wait = Work::Wait;

  RequestTransfer(RequestPlan& plan, RequestOutcome& outcome, Counters& counters, LocalMovers& movers)
      : plan_(plan), outcome_(outcome), counters_(counters), movers_(movers), apart_(plan, movers) {}

  /// Once, when all is planned.
  void prepare();
  /// Each post: start(), then step() until one of them answers kNothing. All is over and the memory is quiet then.
  Wait start(Session& session, uint64_t deadline_ns);
  Wait step(Session& session);
  void cancel(Session& session);
  bool is_idle() const { return phase_ == Phase::kIdle; }

 private:
  enum class Phase : uint8_t {
    kIdle,
    kProbe,  ///< write_mode=if_absent asks what is there
    kWire,   ///< the wire operations of a stage, or what is left of them after the probe or the puts
    kApart   ///< reads that failed together, each descriptor alone
  };

  Wait submit(Session& session, Batch& batch, Phase phase);
  Wait submit_stage(Session& session);
  Wait submit_ranges(Session& session);
  void begin_choice();
  void choose(Session& session, uint32_t op);
  Wait submit_chosen(Session& session);
  Wait waiting() const;
  void start_staged(Session& session, StagedWireOp& staged);
  void step_wire(Session& session);
  bool take_completed(uint32_t op, const Outcome& outcome);
  void step_staged();
  void step_copies();
  void judge(uint32_t op, const Outcome& outcome);
  void take_apart(uint32_t op);
  void start_copies(uint32_t op);
  void on_copied(const CopyJob& job);
  Wait on_quiet(Session& session);
  Wait on_probed(Session& session);
  Wait on_fetched(Session& session);
  Wait next_stage(Session& session);
  Wait end();
  Wait end_without_memory();

  RequestPlan& plan_;
  RequestOutcome& outcome_;
  Counters& counters_;
  LocalMovers& movers_;
  Phase phase_ = Phase::kIdle;
  size_t stage_ = 0;
  SubmittedBatch wire_;                 // its ops stand for wire operations, in kApart for descriptors
  Batch chosen_;                        // what is left of a stage after the probe, or after the puts
  ApartReads apart_;                    // of this stage
  std::vector<uint32_t> undone_;        // direct wire operations whose VRAM could not be reached, for a moment
  std::vector<StagedWireOp*> staging_;  // under way
  std::vector<CopyJob*> copying_;       // under way
  uint64_t deadline_ns_ = 0;            // of this post, through all its stages
  uint64_t wire_since_ns_ = 0;          // 0: nothing is on the wire or in staging
  uint64_t copy_since_ns_ = 0;
  bool out_of_memory_ = false;  // in this post: no further stage
};

}  // namespace memkv::nixl
