#pragma once
/// Reads that travelled together and failed. One descriptor's missing byte fails the wire operation that it travels in,
/// but not the bytes of the others: each of them goes once more, alone.

#include <memory>
#include <span>
#include <vector>

#include "request_plan.h"

namespace memkv::nixl {

/// Thread: the driver's lock.
class ApartReads {
 public:
  ApartReads(const RequestPlan& plan, LocalMovers& movers) : plan_(plan), movers_(movers) {}

  void clear();
  /// Takes the descriptors of a wire operation that failed; none if it has only one. Throws std::bad_alloc, with some
  /// of them taken.
  void take(uint32_t op);

  bool empty() const { return descriptors_.empty(); }
  /// Those that read into host memory, and the descriptor of each op of the batch.
  Batch& batch() { return batch_; }
  std::span<const uint32_t> descriptors_of_batch() const { return batch_descriptors_; }
  /// Those that read into VRAM; the index of each is its descriptor.
  std::span<StagedWireOp* const> staged() const { return staged_; }

 private:
  /// A descriptor in VRAM.
  struct Read {
    Read(uint32_t descriptor, const Descriptor& one, const Target& target, LocalMovers& movers);
    const WireOp op;
    const LocalPiece piece;
    StagedWireOp staged;
  };

  void add(uint32_t descriptor, const Target& target);

  const RequestPlan& plan_;
  LocalMovers& movers_;
  std::vector<uint32_t> descriptors_;
  Batch batch_;
  std::vector<uint32_t> batch_descriptors_;
  std::vector<std::unique_ptr<Read>> reads_;  // by descriptor, made when first needed
  std::vector<StagedWireOp*> staged_;
};

}  // namespace memkv::nixl
