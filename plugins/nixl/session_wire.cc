#include "session_wire.h"

#include "base/clock.h"

namespace memkv::nixl {

void SessionWire::bind(Session& session, uint64_t deadline_ns) {
  session_ = &session;
  deadline_ns_ = deadline_ns;
}

void SessionWire::get(uint32_t lane, uint64_t offset, Piece to, Generation if_generation) {
  lanes_[lane].batch.clear();
  lanes_[lane].batch.get(target_.key->text, Scatter(to.data, to.size), offset, if_generation);
  submit(lanes_[lane]);
}

void SessionWire::put(std::span<const ConstPiece> pieces) {
  lanes_[0].batch.clear();
  target_.add_write(lanes_[0].batch, Gather(pieces), offset_);
  lanes_[0].batch.fed();
  submit(lanes_[0]);
}

void SessionWire::feed(uint64_t bytes) { session_->feed(lanes_[0].ticket, 0, bytes); }

void SessionWire::submit(Lane& lane) {
  const uint64_t now = base::SystemClock().now_ns();
  lane.ticket = session_->submit(lane.batch, Deadline(deadline_ns_ > now ? deadline_ns_ - now : 1));
}

bool SessionWire::done(uint32_t lane, Outcome& outcome) {
  if (!session_->done(lanes_[lane].ticket)) return false;
  session_->collect(lanes_[lane].ticket, outcomes_);
  outcome = outcomes_.front();
  return true;
}

void SessionWire::cancel(uint32_t lane) { session_->cancel(lanes_[lane].ticket); }

namespace {

std::unique_ptr<StagedTransfer> make_transfer(StagedWire& wire, const StagedOp& op, const Target& target,
                                              LocalMovers& movers) {
  if (target.form == Target::Form::kGet) return std::make_unique<StagedRead>(wire, movers.staging, movers.copier, op);
  return std::make_unique<StagedWrite>(wire, movers.staging, movers.copier, op);
}

}  // namespace

StagedWireOp::StagedWireOp(uint32_t index, const WireOp& op, std::span<const LocalPiece> pieces, const Target& target,
                           LocalMovers& movers)
    : index_(index),
      wire_(target, op.offset),
      transfer_(make_transfer(wire_, {.offset = op.offset, .length = op.length, .pieces = pieces}, target, movers)) {}

void StagedWireOp::start(Session& session, uint64_t deadline_ns) {
  wire_.bind(session, deadline_ns);
  transfer_->restart(deadline_ns);
}

bool StagedWireOp::step() { return transfer_->step(base::SystemClock().now_ns()); }

}  // namespace memkv::nixl
