#pragma once
/// One transfer request: planned once, posted any number of times.

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "copy_job.h"
#include "counters.h"
#include "driver.h"
#include "options.h"
#include "plan.h"
#include "registry.h"
#include "session_wire.h"
#include "target.h"

namespace memkv::nixl {

/// kInvalidParam: the lists are wrong, or name what is not a live registration of the backend. kBackend: they name one
/// that there was no memory to make.
abi::Status check_lists(const Registry& registry, const abi::MetaList& local, const abi::MetaList& remote);

/// Why a wire operation did not do what was asked, as counters and lines tell it.
enum class Failure : uint8_t { kMiss, kUnreachable, kTimeout, kRefused, kError };
inline constexpr size_t kFailures = 5;

/// A stage of the plan is under way as a whole: what the client moves by itself is one batch, what passes through
/// staging goes by itself, and each wire operation's copies start as soon as it has succeeded, while others are still
/// on the wire. Of an object that is put and written to in one request the put goes first, and the writes to it are a
/// second stage: a put that landed after them would replace them, or find the object made by them and leave it alone.
///
/// Thread: plan() by one; then the driver's lock, but for status().
class Request final : public Work {
 public:
  Request(abi::Operation operation, const Options& options, Counters& counters, Driver& driver, LocalMovers& movers);

  /// The lists have passed check_lists(). Nothing of them is kept but keys and places of memory.
  void plan(Planner& planner, const abi::MetaList& local, const abi::MetaList& remote);

  /// Bytes of the largest write that has to be in staging memory as a whole; 0 = none.
  uint64_t staged_write_bytes_max() const;

  /// Before each post.
  void set_posted() {
    release_refused_ = false;
    status_.store(abi::Status::kInProgress, std::memory_order_relaxed);
  }
  /// After set_posted(), when there was no memory to start it.
  void fail_unstarted();
  /// False: it was refused before.
  bool refuse_release() { return !std::exchange(release_refused_, true); }
  /// Thread: any. kInProgress until all is over and the memory is quiet.
  abi::Status status() const { return status_.load(std::memory_order_acquire); }
  bool uses(const abi::Metadata* metadata) const;
  std::span<const abi::Metadata* const> registrations() const { return uses_; }
  /// Registry::removed() when all of them were known to be live. Thread: the caller's.
  void set_checked(uint64_t removed) { checked_ = removed; }
  uint64_t checked() const { return checked_; }
  Driver& driver() const { return driver_; }

  uint64_t weight() const override { return weight_; }
  Wait start(Session& session) override;
  Wait step(Session& session) override;
  void cancel(Session& session) override;

 private:
  enum class Phase : uint8_t { kIdle, kProbe, kWire, kApart };
  using Form = Target::Form;
  /// What the puts of a key have come to; the best of several counts.
  enum class PutEnd : uint8_t { kFailed, kPresent, kStored };
  /// A descriptor in VRAM that is read once more, alone.
  struct ApartRead {
    ApartRead(uint32_t descriptor, const Descriptor& one, const Target& target, LocalMovers& movers);
    const WireOp op;
    const LocalPiece piece;
    StagedWireOp staged;
  };

  // request_plan.cc
  void remember(const abi::MetaList& list);
  const Registration& object_of(const WireOp& op, const abi::MetaList& remote) const;
  Form form_of(const WireOp& op, const Registration& object) const;
  void split_off_ranges(const abi::MetaList& remote);
  void add(const WireOp& op, const Target& target, Batch& batch) const;
  bool is_staged(const WireOp& op) const;
  void build_staged(const abi::MetaList& local);
  void build_copies();
  void build_stages();
  void build_probe();

  bool starts_staged(uint32_t op) const { return staged_[op] && !direct_[op]; }
  PutEnd* put_end_of(uint32_t key);  ///< null: it is not both put and written to

  // request.cc
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
  Wait on_quiet(Session& session);
  Wait on_probed(Session& session);
  Wait on_fetched(Session& session);
  Wait next_stage(Session& session);
  Wait finish();
  Wait end_without_memory();
  void start_copies(const WireOp& op);
  void on_copied(const CopyJob& job);

  // request_outcome.cc
  void judge(uint32_t op, const Outcome& outcome);
  void judge_read(const WireOp& op, const Target& target, const Outcome& outcome);
  void judge_write(const WireOp& op, const Target& target, const Outcome& outcome);
  void judge_apart(uint32_t descriptor, const Outcome& outcome);
  void note_put(uint32_t key, PutEnd end);
  void fail(const Target& target, const WireOp& op, const Outcome& outcome);
  void tell(Failure failure, const Target& target, const WireOp& op, const Outcome& outcome);
  void note(abi::Status status);
  void fail_copy(const char* cuda_error);
  void take_apart(const WireOp& op, const Target& target);
  void read_apart(uint32_t descriptor, const Target& target);

  const abi::Operation operation_;
  const Options& options_;
  Counters& counters_;
  Driver& driver_;
  LocalMovers& movers_;
  Plan plan_;
  std::vector<Descriptor> descriptors_;
  std::vector<const abi::Metadata*> uses_;             // sorted
  std::vector<Target> targets_;                        // by wire operation
  std::vector<Batch> stages_;                          // without what passes through staging:
  std::vector<std::unique_ptr<StagedWireOp>> staged_;  // by wire operation, null where it does not
  std::vector<char> direct_;      // by wire operation: 1 = NICs reach its VRAM: it is staged only if that does not work
  std::vector<uint32_t> undone_;  // direct wire operations that did not, for a moment
  std::vector<std::unique_ptr<CopyJob>> copies_;  // by wire operation, null where none follow
  Batch probe_;                                   // write_mode=if_absent: asks for the objects that are there
  std::vector<uint32_t> probed_;                  // wire operation of each question
  std::vector<uint32_t> mixed_keys_;              // sorted: put and written to, the writes in a stage behind the puts
  std::vector<PutEnd> put_ends_;                  // of them, in this post
  Batch chosen_;                                  // what is left of a stage after the probe, or after the puts

  Phase phase_ = Phase::kIdle;
  size_t stage_ = 0;
  Session::Ticket ticket_ = 0;
  bool on_wire_ = false;               // ticket_ is under way
  std::vector<uint32_t> batch_of_op_;  // what each op of its batch is: a wire operation, or (kApart) a descriptor
  size_t judged_ = 0;                  // of the ops that are complete
  std::vector<Outcome> outcomes_;
  std::vector<StagedWireOp*> staging_;  // under way
  std::vector<CopyJob*> copying_;       // under way
  Batch apart_;                         // of reads that travelled together and failed: each alone
  std::vector<uint32_t> apart_descriptors_;
  std::vector<uint32_t> apart_hosts_;                    // of them, by op of apart_
  std::vector<std::unique_ptr<ApartRead>> apart_reads_;  // by descriptor, made when first needed
  std::vector<StagedWireOp*> apart_staged_;
  uint64_t weight_ = 0;
  uint64_t deadline_ns_ = 0;    // of this post, through all its stages
  uint64_t wire_since_ns_ = 0;  // 0: nothing is on the wire or in staging
  uint64_t copy_since_ns_ = 0;
  bool canceled_ = false;
  bool out_of_memory_ = false;    // in this post: no further stage
  bool release_refused_ = false;  // Thread: the caller's
  uint64_t checked_ = 0;          // Thread: the caller's
  uint8_t told_ = 0;              // of this post: a bit for each failure that a line was tried for
  abi::Status worst_ = abi::Status::kSuccess;
  std::atomic<abi::Status> status_{abi::Status::kNotPosted};
};

}  // namespace memkv::nixl
