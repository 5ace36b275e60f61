#pragma once
/// What a request is made of: worked out once from NIXL's lists, used at each post.

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "copy_job.h"
#include "local_movers.h"
#include "options.h"
#include "plan.h"
#include "registry.h"
#include "session_wire.h"
#include "target.h"

namespace memkv::nixl {

/// kInvalidParam: the lists are wrong, or name what is not a live registration of the backend. kBackend: they name one
/// that there was no memory to make.
abi::Status check_lists(const Registry& registry, const abi::MetaList& local, const abi::MetaList& remote);

/// The wire operations of a request in their stages, and what each needs to be posted any number of times: its target,
/// a batch for those that the client moves by itself, a StagedWireOp for those with pieces in VRAM, a CopyJob for those
/// that copies follow. All of it is allocated by plan(), so that a post allocates nothing.
///
/// An object that is put and written to in one request is a *mixed key*: the put goes first, and the writes to it are a
/// second stage. A put that landed after them would replace them, or find the object made by them and leave it alone.
///
/// Thread: plan() by one; then the driver's lock, but for registrations() and uses(), which any thread may ask.
class RequestPlan {
 public:
  RequestPlan(abi::Operation operation, const Options& options, LocalMovers& movers)
      : operation_(operation), options_(options), movers_(movers) {}

  /// The lists have passed check_lists(). Nothing of them is kept but keys and places of memory.
  void plan(Planner& planner, const abi::MetaList& local, const abi::MetaList& remote);

  bool is_read() const { return operation_ == abi::Operation::kRead; }
  abi::Operation operation() const { return operation_; }
  /// Bytes that it moves over the wire, and something for each wire operation.
  uint64_t weight() const { return weight_; }
  /// Bytes of the largest write that has to be in staging memory as a whole; 0 = none.
  uint64_t staged_write_bytes_max() const;
  std::span<const abi::Metadata* const> registrations() const { return registrations_; }
  bool uses(const abi::Metadata* metadata) const;

  const Descriptor& descriptor(uint32_t index) const { return descriptors_[index]; }
  size_t descriptor_count() const { return descriptors_.size(); }
  std::span<const Stage> stages() const { return plan_.stages; }
  size_t wire_op_count() const { return plan_.wire_ops.size(); }
  const WireOp& wire_op(uint32_t op) const { return plan_.wire_ops[op]; }
  const Target& target(uint32_t op) const { return targets_[op]; }
  std::span<const LocalPiece> pieces_of(uint32_t op) const { return plan_.pieces_of(wire_op(op)); }
  std::span<const Copy> copies_of(uint32_t op) const { return plan_.copies_of(wire_op(op)); }
  bool has_copies() const { return !plan_.copies.empty(); }

  /// NICs reach its VRAM: it goes with its stage's batch, and through staging only if that does not work.
  bool is_direct(uint32_t op) const { return direct_[op] != 0; }
  /// It goes through staging from the start.
  bool starts_staged(uint32_t op) const { return staged_[op] && !is_direct(op); }
  StagedWireOp& staged(uint32_t op) { return *staged_[op]; }
  CopyJob& copy_job(uint32_t op) { return *copies_[op]; }
  /// The wire operations of a stage that do not start staged, in order. Where there are mixed keys only the first stage
  /// has one: the puts decide what goes of the second.
  Batch& batch_of_stage(size_t stage) { return batches_[stage]; }
  /// Adds a wire operation to a batch.
  void add(uint32_t op, Batch& batch) const;

  /// write_mode=if_absent: asks for the objects that are there, all of the first stage. Empty otherwise.
  Batch& probe() { return probe_; }
  /// The wire operation of each question.
  std::span<const uint32_t> probed() const { return probed_; }

  size_t mixed_key_count() const { return mixed_keys_.size(); }
  /// Where the key stands among the mixed ones, if it is one.
  std::optional<size_t> mixed_index(uint32_t key) const;

 private:
  using Form = Target::Form;

  void remember(const abi::MetaList& list);
  const Registration& object_of(const WireOp& op, const abi::MetaList& remote) const;
  Form form_of(const WireOp& op, const Registration& object) const;
  void split_off_ranges(const abi::MetaList& remote);
  bool has_vram(const WireOp& op) const;
  void build_staged(const abi::MetaList& local);
  void build_copies();
  void build_batches();
  void build_probe();

  const abi::Operation operation_;
  const Options& options_;
  LocalMovers& movers_;
  Plan plan_;
  std::vector<Descriptor> descriptors_;
  std::vector<const abi::Metadata*> registrations_;    // sorted
  std::vector<Target> targets_;                        // by wire operation
  std::vector<Batch> batches_;                         // by stage
  std::vector<std::unique_ptr<StagedWireOp>> staged_;  // by wire operation, null where no piece lies in VRAM
  std::vector<char> direct_;                           // by wire operation
  std::vector<std::unique_ptr<CopyJob>> copies_;       // by wire operation, null where none follow
  Batch probe_;
  std::vector<uint32_t> probed_;
  std::vector<uint32_t> mixed_keys_;  // sorted
  uint64_t weight_ = 0;
};

}  // namespace memkv::nixl
