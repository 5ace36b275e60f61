#pragma once
/// The request batch optimizer: a pure function from a list of descriptors to the fewest wire operations that serve it,
/// and the local copies that follow them. It does no I/O and knows neither NIXL nor the client.
///
///   Planner planner({.copies = …});         // keep it: its scratch memory is reused
///   planner.plan(Op::kRead, descriptors, plan);   // keep the plan too: it is refilled in place
///   for each stage, in order:
///     start all its wire operations
///     when one has succeeded (all of its range, verified): start its copies
///     when one has failed: its pieces' and its copies' descriptors have failed
///     when all wire operations and copies of the stage are done, whatever their outcome: the next stage
///
/// A descriptor is delivered if, when the last stage is done, no piece and no copy that names it has failed. A wire
/// operation fails as a whole, also when only a part of its range is not there.
///
/// READS. The ranges of one key that overlap or touch form a *cluster*, and a cluster becomes one wire operation. One
/// sweep over it gives every byte of it one *owner*, the descriptor into whose memory it is fetched: at each point the
/// descriptor that reaches farthest, so that one that spans the cluster owns all of it, and otherwise the fewest
/// descriptors share it. The wire operation's pieces are the owned ranges in order of offset. All other bytes are
/// filled by copies from their owner, at most two for a descriptor. Copies of one wire operation are independent of
/// each other: they read what it fetched and write where nothing is fetched.
///   16 reads of the same block = 1 wire operation of 1 piece + 15 copies.
/// Where no copy path leads from the owner, or a copy would cost more than to fetch again (PlanOptions::copies), the
/// range is fetched once more by a wire operation that says so (WireOp::again): first clusters of the ranges left over
/// in memory of one kind, with copies among themselves, and what these leave over one by one. No plan has more wire
/// operations than descriptors.
///
/// STAGES. Descriptors whose destinations overlap in memory (of any key) leave the bytes that executing the list in
/// order, one by one, leaves. Each goes to the first stage after those of all earlier descriptors that it overlaps, so
/// within a stage no two overlap, and bytes that an earlier stage fetched may be fetched again (Again::kLaterStage).
/// A list without such overlaps has one stage.
///
/// WRITES. Descriptors of one key whose ranges touch fold into one gathered wire operation, but those that overlap
/// another one stay wire operations of their own, so that a wire operation never takes two sources for one range, and
/// no boundary of a gathered one falls into a range that two write. All are concurrent: an overlapped range ends as one
/// of them whole, whichever comes last. Sources may alias; a write has one stage and no copies.
///
/// Different keys never share a wire operation. A descriptor of zero bytes needs nothing: it appears nowhere, and
/// whether its key exists is not asked. The same input always gives the same plan.

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "memory.h"

namespace memkv::nixl {

enum class Op : uint8_t { kRead, kWrite };

/// One element of a request: a range of an object and the memory it is read into or written from.
/// Neither `offset + length` nor `place.address + length` may overflow (asserted: the caller has checked them).
struct Descriptor {
  uint32_t key = 0;  ///< a number the caller gave to the key: equal numbers are the same object
  uint64_t offset = 0;
  uint64_t length = 0;
  Place place;
};

/// When one kind of memory is filled from another by a local copy: if the copy has `bytes_min` to `bytes_max` bytes.
/// Others are fetched again.
struct CopyPath {
  uint64_t bytes_min = 0;
  uint64_t bytes_max = std::numeric_limits<uint64_t>::max();

  static constexpr CopyPath none() { return {1, 0}; }
  constexpr bool exists() const { return bytes_min <= bytes_max; }
  constexpr bool takes(uint64_t bytes) const { return bytes_min <= bytes && bytes <= bytes_max; }
};

struct PlanOptions {
  bool coalesce = true;          ///< false: one wire operation for each descriptor, no copies
  uint32_t op_pieces_max = ~0u;  ///< a wire operation of more pieces is cut in several
  /// copies[from][to], by MemoryKind. The default: the host alone, no CUDA runtime.
  CopyPath copies[kMemoryKinds][kMemoryKinds] = {{{}, CopyPath::none()}, {CopyPath::none(), CopyPath::none()}};
};

/// Why a wire operation fetches bytes that another one of the plan fetches as well.
enum class Again : uint8_t {
  kNo,           ///< it does not
  kNoCopyPath,   ///< nothing copies from the owner's kind of memory to this one
  kCheaper,      ///< the copy lies outside of the path's limits
  kLaterStage,   ///< destinations alias, and what an earlier stage fetched is not used after it
  kNotCoalesced  ///< PlanOptions::coalesce is off
};

/// A piece of one descriptor's memory that a wire operation fills or sends.
struct LocalPiece {
  Place place;
  uint64_t length = 0;
  uint32_t descriptor = 0;  ///< index in the list
};

/// One range of one key. Its pieces follow each other in the range without gaps.
struct WireOp {
  uint64_t offset = 0;
  uint64_t length = 0;
  uint32_t key = 0;
  uint32_t piece_first = 0;  ///< in Plan::pieces
  uint32_t piece_count = 0;
  uint32_t copy_first = 0;  ///< in Plan::copies: those that read what it fetched
  uint32_t copy_count = 0;
  Again again = Again::kNo;
};

/// A copy between two destinations of a read.
struct Copy {
  Place from;
  Place to;
  uint64_t length = 0;
  uint32_t wire_op = 0;     ///< in Plan::wire_ops: it delivers `from`
  uint32_t descriptor = 0;  ///< whose memory `to` is
};

/// Wire operations that may be under way together, with their copies.
struct Stage {
  uint32_t wire_op_first = 0;  ///< in Plan::wire_ops
  uint32_t wire_op_count = 0;
};

/// What to do for one request. Owned by the caller; keeps its memory when it is filled again.
struct Plan {
  std::vector<Stage> stages;  ///< in the order to run; none if there is nothing to move
  std::vector<WireOp> wire_ops;
  std::vector<LocalPiece> pieces;
  std::vector<Copy> copies;
  uint64_t request_bytes = 0;  ///< sum of the descriptors' lengths
  uint64_t wire_bytes = 0;     ///< sum of the wire operations' lengths
  uint64_t copy_bytes = 0;     ///< sum of the copies' lengths

  void clear();
  std::span<const WireOp> wire_ops_of(const Stage& stage) const {
    return std::span(wire_ops).subspan(stage.wire_op_first, stage.wire_op_count);
  }
  std::span<const LocalPiece> pieces_of(const WireOp& op) const {
    return std::span(pieces).subspan(op.piece_first, op.piece_count);
  }
  std::span<const Copy> copies_of(const WireOp& op) const {
    return std::span(copies).subspan(op.copy_first, op.copy_count);
  }
};

/// Makes plans. Allocates only while its scratch memory, and the plan's, grow to the longest list seen.
/// Thread: any, one at a time.
class Planner {
 public:
  explicit Planner(const PlanOptions& options = {});
  ~Planner();
  Planner(Planner&&) noexcept;
  Planner& operator=(Planner&&) noexcept;

  /// Replaces what `plan` holds. At most 2^30 descriptors (asserted).
  void plan(Op op, std::span<const Descriptor> descriptors, Plan& plan);

 private:
  struct Makers;

  PlanOptions options_;
  std::unique_ptr<Makers> makers_;
};

}  // namespace memkv::nixl
