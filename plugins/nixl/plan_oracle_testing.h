#pragma once
/// What a plan must do, found out by brute force: it is executed byte by byte, in a random order among all that it
/// allows, over a fake store and a fake memory, and compared with executing the list one descriptor after another.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <random>
#include <span>
#include <vector>

#include "base/assert.h"
#include "plan.h"

namespace memkv::nixl {

/// One byte of the fake store or memory, as where it comes from: no two bytes of the store are equal. 0 = poison.
using Cell = uint64_t;
inline Cell stored_cell(uint32_t key, uint64_t offset) { return ((uint64_t{key} + 1) << 32) + offset; }

/// What the plan is checked against. `apart`: the generator made sure that no destinations overlap.
struct Case {
  PlanOptions options;
  std::vector<Descriptor> list;
  bool apart = true;
};

template <typename Matches>
bool any_path(const PlanOptions& options, Matches matches) {
  for (const auto& row : options.copies) {
    if (std::any_of(std::begin(row), std::end(row), matches)) return true;
  }
  return false;
}

inline bool is_limited(const CopyPath& path) { return path.bytes_min > 1 || path.bytes_max < ~uint64_t{0}; }

inline bool all_copies_allowed(const PlanOptions& options) {
  return options.coalesce && !any_path(options, is_limited);
}

inline bool same_memory(const Place& a, const Place& b) { return a.kind == b.kind && a.device == b.device; }

/// The wire operations of "sort by offset, merge what touches or overlaps".
inline size_t greedy_wire_ops(std::span<const Descriptor> list) {
  std::vector<Descriptor> sorted;
  std::copy_if(list.begin(), list.end(), std::back_inserter(sorted), [](const auto& d) { return d.length > 0; });
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.key != b.key ? a.key < b.key : a.offset < b.offset; });
  size_t ops = 0;
  uint64_t reach = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    const bool merges = i > 0 && sorted[i].key == sorted[i - 1].key && sorted[i].offset <= reach;
    if (!merges) ++ops;
    reach = std::max(merges ? reach : 0, sorted[i].offset + sorted[i].length);
  }
  return ops;
}

/// How many descriptors want each byte of the objects. Cleared by what it counted, so that it costs what the list does.
class ByteCount {
 public:
  uint32_t& at(uint32_t key, uint64_t offset) {
    MEMKV_ASSERT(offset < kObjectBytes, "the objects of tests are small");
    const size_t place = key * kObjectBytes + offset;
    if (place >= counts_.size()) counts_.resize(place + 1);
    return counts_[place];
  }
  void add(uint32_t key, uint64_t offset, uint64_t length) {
    for (uint64_t i = 0; i < length; ++i) ++at(key, offset + i);
  }
  void clear(uint32_t key, uint64_t offset, uint64_t length) {
    for (uint64_t i = 0; i < length; ++i) at(key, offset + i) = 0;
  }

 private:
  static constexpr uint64_t kObjectBytes = 1 << 16;  // no test has larger ones
  std::vector<uint32_t> counts_;
};

/// Checks plans; each check returns what is wrong, or nullptr. Keep it: it reuses its memory.
class PlanOracle {
 public:
  using Random = std::mt19937_64;

  const char* check_read(const Case& given, const Plan& plan, Random& random) {
    start(given, plan, random);
    for (const auto step : {&PlanOracle::check_stages, &PlanOracle::check_pieces, &PlanOracle::check_copies,
                            &PlanOracle::check_again, &PlanOracle::check_counts, &PlanOracle::check_read_bytes}) {
      if (const char* wrong = (this->*step)()) return wrong;
    }
    return given_->apart ? check_failures() : nullptr;
  }

  const char* check_write(const Case& given, const Plan& plan, Random& random) {
    start(given, plan, random);
    for (const auto step : {&PlanOracle::check_stages, &PlanOracle::check_pieces, &PlanOracle::check_whole_pieces,
                            &PlanOracle::check_folding, &PlanOracle::check_written_bytes}) {
      if (const char* wrong = (this->*step)()) return wrong;
    }
    return nullptr;
  }

 private:
  void start(const Case& given, const Plan& plan, Random& random) {
    random_ = &random;
    given_ = &given;
    plan_ = &plan;
    memory_end_ = 0;
    for (const Descriptor& d : given.list) memory_end_ = std::max(memory_end_, d.place.address + d.length);
  }
  const std::vector<Descriptor>& list() const { return given_->list; }
  uint64_t below(uint64_t n) { return (*random_)() % n; }

  // ---- the plan as a data structure

  const char* check_stages() {
    uint32_t next = 0;
    for (const Stage& stage : plan_->stages) {
      if (stage.wire_op_first != next || stage.wire_op_count == 0) return "stages do not follow each other";
      next += stage.wire_op_count;
    }
    return next == plan_->wire_ops.size() ? nullptr : "a wire operation is in no stage";
  }

  const char* check_pieces() {
    uint32_t next = 0;
    for (const WireOp& op : plan_->wire_ops) {
      if (op.piece_first != next || op.piece_count == 0) return "pieces do not follow each other";
      if (op.piece_count > given_->options.op_pieces_max) return "too many pieces";
      if (const char* wrong = check_pieces_of(op)) return wrong;
      next += op.piece_count;
    }
    return next == plan_->pieces.size() ? nullptr : "a piece is in no wire operation";
  }

  const char* check_pieces_of(const WireOp& op) {
    uint64_t offset = op.offset;
    for (const LocalPiece& piece : plan_->pieces_of(op)) {
      const Descriptor& of = list()[piece.descriptor];
      if (of.key != op.key) return "a wire operation mixes keys";
      if (piece.length == 0 || offset < of.offset || offset + piece.length > of.offset + of.length) {
        return "a piece outside of its descriptor";
      }
      if (piece.place != of.place + (offset - of.offset)) return "a piece in the wrong place";
      offset += piece.length;
    }
    return offset == op.offset + op.length ? nullptr : "pieces do not make up the wire operation";
  }

  const char* check_copies() {
    uint32_t next = 0;
    for (uint32_t i = 0; i < plan_->wire_ops.size(); ++i) {
      const WireOp& op = plan_->wire_ops[i];
      if (op.copy_count > 0 && op.copy_first != next) return "copies do not follow each other";
      next += op.copy_count;
      for (const Copy& copy : plan_->copies_of(op)) {
        if (copy.wire_op != i) return "a copy under the wrong wire operation";
        if (const char* wrong = check_copy(copy)) return wrong;
      }
    }
    return next == plan_->copies.size() ? nullptr : "a copy of no wire operation";
  }

  const char* check_copy(const Copy& copy) {
    const Descriptor& of = list()[copy.descriptor];
    const uint64_t at = copy.to.address - of.place.address;
    if (copy.length == 0 || at > of.length || copy.length > of.length - at) return "a copy outside of its descriptor";
    if (!same_memory(copy.to, of.place)) return "a copy into another memory";
    const auto& path = given_->options.copies[static_cast<int>(copy.from.kind)][static_cast<int>(copy.to.kind)];
    return path.takes(copy.length) ? nullptr : "a copy that no path takes";
  }

  // ---- how little it fetches

  const char* check_again() {
    for (size_t stage = 0; stage < plan_->stages.size(); ++stage) {
      for (const WireOp& op : plan_->wire_ops_of(plan_->stages[stage])) {
        if (!is_reason(op.again, stage)) return "a reason that does not hold";
      }
    }
    return check_fetched_once();
  }

  bool is_reason(Again again, size_t stage) const {
    const PlanOptions& options = given_->options;
    if (!options.coalesce) return again == Again::kNotCoalesced;
    switch (again) {
      case Again::kNo:
        return stage == 0;
      case Again::kNoCopyPath:
        return any_path(options, [](const auto& path) { return !path.exists(); });
      case Again::kCheaper:
        return any_path(options, [](const auto& path) { return path.exists() && is_limited(path); });
      case Again::kLaterStage:
        return stage > 0;
      case Again::kNotCoalesced:
        return false;
    }
    return false;
  }

  /// No byte comes twice within a stage, but by wire operations that say why.
  const char* check_fetched_once() {
    const char* wrong = nullptr;
    for (const Stage& stage : plan_->stages) {
      for (const WireOp& op : plan_->wire_ops_of(stage)) {
        if (is_first_fetch(op)) fetched_.add(op.key, op.offset, op.length);
      }
      for (const WireOp& op : plan_->wire_ops_of(stage)) {
        for (uint64_t i = 0; is_first_fetch(op) && i < op.length; ++i) {
          if (fetched_.at(op.key, op.offset + i) > 1) wrong = "fetched twice without a reason";
        }
      }
      for (const WireOp& op : plan_->wire_ops_of(stage)) fetched_.clear(op.key, op.offset, op.length);
    }
    return wrong;
  }
  static bool is_first_fetch(const WireOp& op) { return op.again == Again::kNo || op.again == Again::kLaterStage; }

  const char* check_counts() {
    uint64_t asked = 0, fetched = 0, copied = 0;
    for (const Descriptor& d : list()) asked += d.length;
    for (const WireOp& op : plan_->wire_ops) fetched += op.length;
    for (const Copy& copy : plan_->copies) copied += copy.length;
    if (plan_->request_bytes != asked || plan_->wire_bytes != fetched || plan_->copy_bytes != copied) return "sums";
    if (fetched + copied != asked) return "a byte is delivered twice or never";
    const bool free_to_copy = all_copies_allowed(given_->options);
    if (free_to_copy && plan_->copies.size() > 2 * list().size()) return "more than two copies for a descriptor";
    if (plan_->wire_ops.size() > list().size()) return "more wire operations than descriptors";
    if (given_->apart && plan_->stages.size() > 1) return "stages without aliasing";
    const bool fewest = given_->apart && free_to_copy && given_->options.op_pieces_max == ~0u;
    if (fewest && plan_->wire_ops.size() > greedy_wire_ops(list())) return "more wire operations than merging";
    return nullptr;
  }

  // ---- reads, executed

  const char* check_read_bytes() {
    failed_ops_.assign(plan_->wire_ops.size(), false);
    if (const char* wrong = run_read()) return wrong;
    expected_.assign(memory_end_, 0);
    for (const Descriptor& d : list()) {
      for (uint64_t i = 0; i < d.length; ++i) expected_[d.place.address + i] = stored_cell(d.key, d.offset + i);
    }
    return memory_ == expected_ ? nullptr : "wrong bytes";
  }

  /// A wire operation that fails fails the descriptors that it names, and no other.
  const char* check_failures() {
    failed_.assign(list().size(), false);
    for (size_t i = 0; i < failed_ops_.size(); ++i) {
      failed_ops_[i] = below(4) == 0;
      if (!failed_ops_[i]) continue;
      for (const LocalPiece& piece : plan_->pieces_of(plan_->wire_ops[i])) failed_[piece.descriptor] = true;
      for (const Copy& copy : plan_->copies_of(plan_->wire_ops[i])) failed_[copy.descriptor] = true;
    }
    if (const char* wrong = run_read()) return wrong;
    for (size_t i = 0; i < list().size(); ++i) {
      const auto at = static_cast<ptrdiff_t>(list()[i].place.address);
      const auto length = static_cast<ptrdiff_t>(list()[i].length);
      if (!failed_[i] && !std::equal(&memory_[0] + at, &memory_[0] + at + length, &expected_[0] + at)) {
        return "a descriptor counts as delivered and is not";
      }
    }
    return nullptr;
  }

  const char* run_read() {
    memory_.assign(memory_end_, 0);
    fetched_by_.assign(memory_end_, 0);
    for (const Stage& stage : plan_->stages) {
      if (const char* wrong = run_stage(stage)) return wrong;
    }
    return nullptr;
  }

  /// Wire operations in random order; copies at once, or when all wire operations are done, in random order.
  const char* run_stage(const Stage& stage) {
    order_.clear();
    late_.clear();
    for (uint32_t i = 0; i < stage.wire_op_count; ++i) order_.push_back(stage.wire_op_first + i);
    std::shuffle(order_.begin(), order_.end(), *random_);
    for (const uint32_t op : order_) {
      if (failed_ops_[op]) continue;
      fetch(op);
      for (const Copy& copy : plan_->copies_of(plan_->wire_ops[op])) late_.push_back(&copy);
      if (below(2) == 0) continue;
      if (const char* wrong = run_late_copies()) return wrong;
    }
    return run_late_copies();
  }

  const char* run_late_copies() {
    std::shuffle(late_.begin(), late_.end(), *random_);
    for (const Copy* copy : late_) {
      if (const char* wrong = run_copy(*copy)) return wrong;
    }
    late_.clear();
    return nullptr;
  }

  void fetch(uint32_t index) {
    const WireOp& op = plan_->wire_ops[index];
    uint64_t offset = op.offset;
    for (uint32_t p = op.piece_first; p < op.piece_first + op.piece_count; ++p) {
      const LocalPiece& piece = plan_->pieces[p];
      for (uint64_t i = 0; i < piece.length; ++i) {
        memory_[piece.place.address + i] = stored_cell(op.key, offset++);
        fetched_by_[piece.place.address + i] = p + 1;
      }
    }
  }

  /// Reads only what its wire operation fetched and nobody touched since.
  const char* run_copy(const Copy& copy) {
    const WireOp& op = plan_->wire_ops[copy.wire_op];
    for (uint64_t i = 0; i < copy.length; ++i) {
      const uint32_t piece = fetched_by_[copy.from.address + i] - 1;  // wraps for what was not fetched
      if (piece - op.piece_first >= op.piece_count) return "a copy reads what its wire operation did not deliver";
      if (!same_memory(copy.from, plan_->pieces[piece].place)) return "a copy from another memory";
      memory_[copy.to.address + i] = memory_[copy.from.address + i];
      fetched_by_[copy.to.address + i] = 0;
    }
    return nullptr;
  }

  // ---- writes

  /// Each descriptor is one piece, whole: what it writes cannot be cut within a wire operation.
  const char* check_whole_pieces() {
    failed_.assign(list().size(), false);  // here: seen
    for (const LocalPiece& piece : plan_->pieces) {
      if (piece.length != list()[piece.descriptor].length || failed_[piece.descriptor]) return "a write is cut";
      failed_[piece.descriptor] = true;
    }
    for (size_t i = 0; i < list().size(); ++i) {
      if (failed_[i] != (list()[i].length > 0)) return "a write is missing";
    }
    if (plan_->stages.size() > 1 || !plan_->copies.empty()) return "a write has one stage and no copies";
    return plan_->wire_bytes == plan_->request_bytes ? nullptr : "sums";
  }

  /// What others overlap stays alone; what touches and is not overlapped is in one wire operation.
  const char* check_folding() {
    for (const Descriptor& d : list()) fetched_.add(d.key, d.offset, d.length);
    const char* wrong = nullptr;
    const WireOp* before = nullptr;
    for (const WireOp& op : plan_->wire_ops) {
      const bool overlapped = is_overlapped(op);
      if (overlapped && op.piece_count > 1) wrong = "a gathered write overlaps another";
      const bool touches = before && before->key == op.key && before->offset + before->length == op.offset;
      if (touches && !overlapped && !is_overlapped(*before) && may_fold(*before)) wrong = "touching writes stay apart";
      before = &op;
    }
    for (const Descriptor& d : list()) fetched_.clear(d.key, d.offset, d.length);
    return wrong;
  }
  bool may_fold(const WireOp& op) const {
    return given_->options.coalesce && op.piece_count < given_->options.op_pieces_max;
  }
  bool is_overlapped(const WireOp& op) {
    for (uint64_t i = 0; i < op.length; ++i) {
      if (fetched_.at(op.key, op.offset + i) > 1) return true;
    }
    return false;
  }

  /// In any order of the wire operations: where two descriptors overlap, never some bytes of one and some of the other.
  const char* check_written_bytes() {
    order_.resize(plan_->wire_ops.size());
    for (uint32_t i = 0; i < order_.size(); ++i) order_[i] = i;
    std::shuffle(order_.begin(), order_.end(), *random_);
    for (const uint32_t op : order_) write(plan_->wire_ops[op]);
    const char* wrong = nullptr;
    for (size_t i = 0; i < list().size(); ++i) {
      if (const char* found = check_range_is_whole(below(list().size()), i)) wrong = found;
      if (const char* found = check_written_by_one(list()[i])) wrong = found;
    }
    for (const Descriptor& d : list()) fetched_.clear(d.key, d.offset, d.length);
    return wrong;
  }

  void write(const WireOp& op) {
    uint64_t offset = op.offset;
    for (const LocalPiece& piece : plan_->pieces_of(op)) {
      for (uint64_t i = 0; i < piece.length; ++i) fetched_.at(op.key, offset++) = piece.descriptor + 1;
    }
  }

  const char* check_written_by_one(const Descriptor& d) {
    for (uint64_t i = 0; i < d.length; ++i) {
      const uint32_t writer = fetched_.at(d.key, d.offset + i);
      if (writer == 0) return "a byte that nobody wrote";
      const Descriptor& by = list()[writer - 1];
      if (by.key != d.key || d.offset + i - by.offset >= by.length) return "a byte of a descriptor elsewhere";
    }
    return nullptr;
  }

  const char* check_range_is_whole(size_t a, size_t b) {
    const Descriptor &x = list()[a], &y = list()[b];
    if (a == b || x.key != y.key) return nullptr;
    bool of_a = false, of_b = false;
    const uint64_t end = std::min(x.offset + x.length, y.offset + y.length);
    for (uint64_t at = std::max(x.offset, y.offset); at < end; ++at) {
      of_a |= fetched_.at(x.key, at) == a + 1;
      of_b |= fetched_.at(x.key, at) == b + 1;
    }
    return of_a && of_b ? "an overlapped range is a mixture" : nullptr;
  }

  Random* random_ = nullptr;
  const Case* given_ = nullptr;
  const Plan* plan_ = nullptr;
  uint64_t memory_end_ = 0;
  std::vector<Cell> memory_, expected_;
  std::vector<uint32_t> fetched_by_;  ///< by address: piece + 1, or 0 for what was not fetched
  ByteCount fetched_;
  std::vector<uint32_t> order_;
  std::vector<const Copy*> late_;
  std::vector<bool> failed_ops_, failed_;
};

}  // namespace memkv::nixl
