#pragma once
/// A wire operation that passes through staging, on a client session.

#include <array>
#include <memory>
#include <vector>

#include "local_movers.h"
#include "target.h"
#include "vram_transfer.h"

namespace memkv::nixl {

/// Thread: under the driver's lock, as the session.
class SessionWire final : public StagedWire {
 public:
  SessionWire(const Target& target, uint64_t offset) : target_(target), offset_(offset) {}
  /// Before each post.
  void bind(Session& session, uint64_t deadline_ns);

  void get(uint32_t lane, uint64_t offset, Piece to, Generation if_generation) override;
  void put(std::span<const ConstPiece> pieces) override;
  void feed(uint64_t bytes) override;
  bool done(uint32_t lane, Outcome& outcome) override;
  void cancel(uint32_t lane) override;

 private:
  struct Lane {
    Batch batch;
    Session::Ticket ticket = 0;
  };

  void submit(Lane& lane);

  const Target& target_;
  const uint64_t offset_;
  Session* session_ = nullptr;
  uint64_t deadline_ns_ = 0;
  std::vector<Outcome> outcomes_;
  std::array<Lane, StagedRead::kLanesMax> lanes_;
};

/// One wire operation with pieces in VRAM: made with the plan, run at each post without allocation.
class StagedWireOp {
 public:
  /// `index` is its user's. `pieces` and `target` must live longer. A write must fit the staging memory.
  StagedWireOp(uint32_t index, const WireOp& op, std::span<const LocalPiece> pieces, const Target& target,
               LocalMovers& movers);

  void start(Session& session, uint64_t deadline_ns);
  /// True: it has ended.
  bool step();
  void cancel() { transfer_->cancel(); }
  const Outcome& outcome() const { return transfer_->outcome(); }
  const char* cuda_error() const { return transfer_->cuda_error(); }
  uint32_t index() const { return index_; }

 private:
  const uint32_t index_;
  SessionWire wire_;
  const std::unique_ptr<StagedTransfer> transfer_;
};

}  // namespace memkv::nixl
