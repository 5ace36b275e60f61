#include "request.h"

#include <algorithm>

#include "log.h"

namespace memkv::nixl {
namespace {

using Wait = Work::Wait;

LogLimit failures_logged{1'000'000'000};

bool overflows(const abi::BasicDesc& desc) { return desc.length > UINT64_MAX - desc.address; }

/// The status of a wire operation that did not do what was asked.
abi::Status status_of(memkv::Status status) {
  switch (status) {
    case memkv::Status::kOk:  // short
    case memkv::Status::kMiss:
    case memkv::Status::kChanged:
    case memkv::Status::kRefused:
    case memkv::Status::kUnavailable:
    case memkv::Status::kCorrupt:
      return abi::Status::kNotFound;
    case memkv::Status::kInvalid:
    case memkv::Status::kTooLarge:
      return abi::Status::kInvalidParam;
    case memkv::Status::kCanceled:
      return abi::Status::kCanceled;
    default:
      return abi::Status::kBackend;
  }
}

/// Of several failures the one that tells most of what to do.
int weight(abi::Status status) {
  switch (status) {
    case abi::Status::kSuccess:
      return 0;
    case abi::Status::kNotFound:
      return 1;
    case abi::Status::kCanceled:
      return 2;
    case abi::Status::kBackend:
      return 3;
    default:
      return 4;
  }
}

void log_cuda_error(const char* error) {
  static LogLimit limit{1'000'000'000};
  uint64_t held_back = 0;
  if (limit.pass(held_back)) log_line(std::string("a copy to or from VRAM failed: CUDA says ") + error);
}

std::string text_of(const Key& key) {
  constexpr size_t kShown = 120;
  return key.text.size() <= kShown ? key.text : key.text.substr(0, kShown) + "...";
}

}  // namespace

abi::Status check_lists(const abi::MetaList& local, const abi::MetaList& remote) {
  const bool memory = local.memory == abi::Memory::kDram || local.memory == abi::Memory::kVram;
  if (!memory || remote.memory != abi::Memory::kObject) return abi::Status::kInvalidParam;
  if (local.descs.size() != remote.descs.size() || local.descs.empty()) return abi::Status::kInvalidParam;
  for (size_t i = 0; i < local.descs.size(); i++) {
    const abi::MetaDesc& here = local.descs[i];
    const abi::MetaDesc& there = remote.descs[i];
    if (here.length != there.length || overflows(here) || overflows(there)) return abi::Status::kInvalidParam;
    if (here.metadata == nullptr || there.metadata == nullptr) return abi::Status::kInvalidParam;
    if (!static_cast<const Registration*>(there.metadata)->key) return abi::Status::kInvalidParam;
  }
  return abi::Status::kSuccess;
}

Request::Request(abi::Operation operation, const Options& options, Counters& counters, Driver& driver,
                 LocalMovers& movers)
    : operation_(operation), options_(options), counters_(counters), driver_(driver), movers_(movers) {}

// Planning.

void Request::plan(Planner& planner, const abi::MetaList& local, const abi::MetaList& remote) {
  descriptors_.resize(local.descs.size());
  for (size_t i = 0; i < descriptors_.size(); i++) {
    const auto& memory = *static_cast<const Registration*>(local.descs[i].metadata);
    const auto& object = *static_cast<const Registration*>(remote.descs[i].metadata);
    descriptors_[i] = {.key = object.key->id,
                       .offset = remote.descs[i].address,
                       .length = remote.descs[i].length,
                       .place = {local.descs[i].address, memory.device, memory.kind}};
  }
  planner.plan(operation_ == abi::Operation::kRead ? Op::kRead : Op::kWrite, descriptors_, plan_);
  remember(local);
  remember(remote);
  for (const WireOp& op : plan_.wire_ops) targets_.push_back(target_of(op, remote));
  due_.reserve(plan_.copies.size());
  build_staged();
  build_stages();
  if (operation_ == abi::Operation::kWrite && options_.write_mode == WriteMode::kIfAbsent) build_probe();
}

void Request::remember(const abi::MetaList& list) {
  for (const abi::MetaDesc& desc : list.descs) {
    if (uses_.empty() || uses_.back() != desc.metadata) uses_.push_back(desc.metadata);
  }
  std::sort(uses_.begin(), uses_.end());
  uses_.erase(std::unique(uses_.begin(), uses_.end()), uses_.end());
}

bool Request::uses(const abi::Metadata* metadata) const {
  return std::binary_search(uses_.begin(), uses_.end(), metadata);
}

Target Request::target_of(const WireOp& op, const abi::MetaList& remote) const {
  const uint32_t descriptor = plan_.pieces_of(op).front().descriptor;
  const auto& object = *static_cast<const Registration*>(remote.descs[descriptor].metadata);
  if (operation_ == abi::Operation::kRead) return {object.key, Form::kGet};
  if (op.offset != 0) return {object.key, Form::kRange};
  switch (options_.write_mode) {
    case WriteMode::kReplace:
      return {object.key, Form::kPut};
    case WriteMode::kIfAbsent:
      return {object.key, Form::kPutIfAbsent};
    case WriteMode::kAuto:
      break;
  }
  return {object.key, op.length == object.bytes ? Form::kPut : Form::kRange};
}

void Request::add(const WireOp& op, const Target& target, Batch& batch) const {
  std::vector<Piece> into;
  std::vector<ConstPiece> from;
  for (const LocalPiece& piece : plan_.pieces_of(op)) {
    void* memory = reinterpret_cast<void*>(piece.place.address);
    if (target.form == Form::kGet)
      into.push_back({memory, piece.length});
    else
      from.push_back({memory, piece.length});
  }
  if (target.form == Form::kGet)
    batch.get(target.key->text, Scatter(into), op.offset);
  else
    target.add_write(batch, Gather(from), op.offset);
}

bool Request::is_staged(const WireOp& op) const {
  const auto pieces = plan_.pieces_of(op);
  return std::any_of(pieces.begin(), pieces.end(), [](auto& piece) { return piece.place.kind == MemoryKind::kCuda; });
}

void Request::build_staged() {
  staged_.resize(plan_.wire_ops.size());
  for (uint32_t i = 0; i < staged_.size(); i++) {
    const WireOp& op = plan_.wire_ops[i];
    if (is_staged(op)) staged_[i] = std::make_unique<StagedWireOp>(i, op, plan_.pieces_of(op), targets_[i], movers_);
  }
  staging_.reserve(staged_.size());
  staged_done_.reserve(staged_.size());
}

uint64_t Request::staged_write_bytes_max() const {
  uint64_t most = 0;
  for (size_t i = 0; i < staged_.size() && operation_ == abi::Operation::kWrite; i++) {
    if (staged_[i]) most = std::max(most, plan_.wire_ops[i].length);
  }
  return most;
}

void Request::build_stages() {
  for (const Stage& stage : plan_.stages) {
    Batch& batch = stages_.emplace_back();
    for (uint32_t i = 0; i < stage.wire_op_count; i++) {
      const uint32_t op = stage.wire_op_first + i;
      if (!staged_[op]) add(plan_.wire_ops[op], targets_[op], batch);
    }
  }
}

/// Writes have one stage.
void Request::build_probe() {
  for (uint32_t i = 0; i < targets_.size(); i++) {
    if (targets_[i].form != Form::kPutIfAbsent) continue;
    probe_.exists(targets_[i].key->text, /*touch=*/true);
    probed_.push_back(i);
  }
}

// Running.

Wait Request::start(Session& session) {
  canceled_ = false;
  worst_ = abi::Status::kSuccess;
  stage_ = 0;
  deadline_ns_ = monotonic_ns() + options_.timeout_ns(operation_);
  const bool read = operation_ == abi::Operation::kRead;
  (read ? counters_.read_requests : counters_.write_requests).add();
  (read ? counters_.read_descriptors : counters_.write_descriptors).add(descriptors_.size());
  if (stages_.empty()) return finish();
  if (!probe_.empty()) return submit(session, probe_, Phase::kProbe);
  return submit_stage(session);
}

Wait Request::submit_stage(Session& session) {
  const Stage& stage = plan_.stages[stage_];
  batch_of_op_.clear();
  for (uint32_t i = stage.wire_op_first; i < stage.wire_op_first + stage.wire_op_count; i++)
    staged_[i] ? start_staged(session, i) : batch_of_op_.push_back(i);
  return submit(session, stages_[stage_], Phase::kWire);
}

Wait Request::submit(Session& session, Batch& batch, Phase phase) {
  const uint64_t now = monotonic_ns();
  phase_ = phase;
  phase_since_ns_ = now;
  const bool own_deadline = options_.timeout_ms != 0;
  const Deadline left(!own_deadline ? 0 : deadline_ns_ > now ? deadline_ns_ - now : 1);
  outcomes_.clear();
  on_wire_ = !batch.empty();
  if (on_wire_) ticket_ = session.submit(batch, left);
  step_staged();
  return staging_.empty() && on_wire_ ? Wait::kWire : Wait::kCopy;  // without the wire nothing else brings step() about
}

void Request::start_staged(Session& session, uint32_t wire_op) {
  staged_[wire_op]->start(session, deadline_ns_);
  staging_.push_back(staged_[wire_op].get());
}

void Request::step_staged() {
  std::erase_if(staging_, [this](StagedWireOp* staged) {
    if (!staged->step()) return false;
    staged_done_.push_back(staged);
    return true;
  });
}

Wait Request::step(Session& session) {
  if (phase_ == Phase::kIdle) return Wait::kNothing;
  if (phase_ == Phase::kCopy) return copying_.done() ? on_copied(session) : Wait::kCopy;
  step_staged();
  if (on_wire_ && session.done(ticket_)) {
    session.collect(ticket_, outcomes_);
    on_wire_ = false;
  }
  if (!staging_.empty()) return Wait::kCopy;
  if (on_wire_) return Wait::kWire;
  counters_.wire_ns.add(monotonic_ns() - phase_since_ns_);
  if (phase_ == Phase::kProbe) return on_probed(session);
  return phase_ == Phase::kApart ? on_apart(session) : on_fetched(session);
}

void Request::cancel(Session& session) {
  canceled_ = true;
  if (on_wire_) session.cancel(ticket_);
  for (StagedWireOp* staged : staging_) staged->cancel();
  if (phase_ == Phase::kCopy) movers_.copier.cancel(copying_);
}

/// Sends only what is not there. A question that failed counts as no: the write itself asks once more.
Wait Request::on_probed(Session& session) {
  absent_.clear();
  batch_of_op_.clear();
  size_t asked = 0;
  for (uint32_t i = 0; i < targets_.size(); i++) {
    const bool there = asked < probed_.size() && probed_[asked] == i && outcomes_[asked++].exists;
    if (there) {
      counters_.already_present.add();
      continue;
    }
    if (canceled_) continue;
    if (staged_[i]) {
      start_staged(session, i);
      continue;
    }
    add(plan_.wire_ops[i], targets_[i], absent_);
    batch_of_op_.push_back(i);
  }
  if (canceled_ || (absent_.empty() && staging_.empty())) return finish();
  return submit(session, absent_, Phase::kWire);
}

Wait Request::on_fetched(Session& session) {
  due_.clear();
  apart_.clear();
  apart_descriptors_.clear();
  for (size_t i = 0; i < outcomes_.size(); i++) judge(batch_of_op_[i], outcomes_[i]);
  for (const StagedWireOp* staged : staged_done_) {
    judge(staged->index(), staged->outcome());
    if (staged->cuda_error()) log_cuda_error(staged->cuda_error());
  }
  staged_done_.clear();
  if (due_.empty() || canceled_) return on_stage_done(session);
  return copy_all(session);
}

/// What travelled together and failed goes once more, each descriptor alone.
Wait Request::on_stage_done(Session& session) {
  if (apart_descriptors_.empty() || canceled_) return next_stage(session);
  return submit(session, apart_, Phase::kApart);
}

Wait Request::on_apart(Session& session) {
  for (size_t i = 0; i < outcomes_.size(); i++) {
    const uint64_t length = descriptors_[apart_descriptors_[i]].length;
    counters_.read_wire_ops.add();
    if (!outcomes_[i].hit() || outcomes_[i].bytes != length) continue;  // it has been told of with its cluster
    counters_.read_wire_bytes.add(length);
    counters_.read_bytes.add(length);
  }
  return next_stage(session);
}

/// One descriptor's missing byte fails the cluster that it travels in, but not the bytes of the others. What passes
/// through staging stays failed.
void Request::take_apart(const WireOp& op, const Target& target) {
  const size_t first = apart_descriptors_.size();
  for (const LocalPiece& piece : plan_.pieces_of(op)) apart_descriptors_.push_back(piece.descriptor);
  for (const Copy& copy : plan_.copies_of(op)) apart_descriptors_.push_back(copy.descriptor);
  const auto begin = apart_descriptors_.begin() + static_cast<ptrdiff_t>(first);
  std::sort(begin, apart_descriptors_.end());
  apart_descriptors_.erase(std::unique(begin, apart_descriptors_.end()), apart_descriptors_.end());
  std::erase_if(apart_descriptors_, [this](uint32_t i) { return descriptors_[i].place.kind != MemoryKind::kHost; });
  if (apart_descriptors_.size() == first + 1) apart_descriptors_.pop_back();  // it was alone
  for (size_t i = first; i < apart_descriptors_.size(); i++) {
    const Descriptor& one = descriptors_[apart_descriptors_[i]];
    apart_.get(target.key->text, Scatter(reinterpret_cast<void*>(one.place.address), one.length), one.offset);
  }
}

Wait Request::next_stage(Session& session) {
  if (++stage_ >= stages_.size() || canceled_) return finish();
  return submit_stage(session);
}

/// The last word: from here on the request may be posted again, or released.
Wait Request::finish() {
  phase_ = Phase::kIdle;
  const abi::Status status = canceled_ ? abi::Status::kCanceled : worst_;
  if (canceled_)
    counters_.canceled_requests.add();
  else if (status != abi::Status::kSuccess)
    counters_.failed_requests.add();
  status_.store(status, std::memory_order_release);
  return Wait::kNothing;
}

// What came back.

void Request::judge(uint32_t wire_op, const Outcome& outcome) {
  const WireOp& op = plan_.wire_ops[wire_op];
  const Target& target = targets_[wire_op];
  operation_ == abi::Operation::kRead ? judge_read(op, target, outcome) : judge_write(op, target, outcome);
}

void Request::judge_read(const WireOp& op, const Target& target, const Outcome& outcome) {
  counters_.read_wire_ops.add();
  if (!outcome.hit() || outcome.bytes != op.length) {
    const abi::Status status = status_of(outcome.status);
    if (status == abi::Status::kNotFound && outcome.status != memkv::Status::kUnavailable) take_apart(op, target);
    return fail(status, target, op, outcome);
  }
  counters_.read_wire_bytes.add(op.length);
  counters_.read_bytes.add(op.length);
  if (op.again != Again::kNo) counters_.refetched_bytes.add(op.length);
  const auto copies = plan_.copies_of(op);
  due_.insert(due_.end(), copies.begin(), copies.end());
}

void Request::judge_write(const WireOp& op, const Target& target, const Outcome& outcome) {
  counters_.write_wire_ops.add();
  if (target.form == Form::kRange) counters_.range_writes.add(), counters_.range_write_bytes.add(op.length);
  if (outcome.status == memkv::Status::kExists) return counters_.already_present.add();
  if (!outcome.hit()) return fail(status_of(outcome.status), target, op, outcome);
  counters_.write_wire_bytes.add(op.length);
  counters_.write_bytes.add(op.length);
}

void Request::fail(abi::Status status, const Target& target, const WireOp& op, const Outcome& outcome) {
  const bool first = worst_ == abi::Status::kSuccess;
  if (weight(status) > weight(worst_)) worst_ = status;
  if (status == abi::Status::kNotFound) counters_.misses.add();
  uint64_t held_back = 0;
  if (!first || canceled_ || !failures_logged.pass(held_back)) return;
  const bool is_short = outcome.hit();
  std::string why(is_short ? "short" : to_string(outcome.status));
  if (is_short) why += " (" + std::to_string(outcome.bytes) + " bytes of it are there)";
  log_line(std::string(operation_ == abi::Operation::kRead ? "read" : "write") + " of '" + text_of(*target.key) +
           "', bytes " + std::to_string(op.offset) + " to " + std::to_string(op.offset + op.length) + ": " + why +
           (held_back ? "; " + std::to_string(held_back) + " more such lines were held back" : ""));
}

// Copies.

Wait Request::copy_all(Session& session) {
  phase_ = Phase::kCopy;
  phase_since_ns_ = monotonic_ns();
  copying_.copies = due_;
  return movers_.copier.start(copying_) ? on_copied(session) : Wait::kCopy;
}

Wait Request::on_copied(Session& session) {
  counters_.copy_ns.add(monotonic_ns() - phase_since_ns_);
  if (copying_.error()) {
    log_cuda_error(copying_.error());
    worst_ = abi::Status::kBackend;
    return on_stage_done(session);
  }
  for (const Copy& one : due_) {
    counters_.copies.add();
    counters_.copied_bytes.add(one.length);
    counters_.read_bytes.add(one.length);
  }
  return on_stage_done(session);
}

}  // namespace memkv::nixl
