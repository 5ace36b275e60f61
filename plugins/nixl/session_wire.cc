#include "session_wire.h"

#include "log.h"

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
  submit(lanes_[0]);
}

void SessionWire::submit(Lane& lane) {
  const uint64_t now = monotonic_ns();
  lane.ticket = session_->submit(lane.batch, Deadline(deadline_ns_ > now ? deadline_ns_ - now : 1));
}

bool SessionWire::done(uint32_t lane, Outcome& outcome) {
  if (!session_->done(lanes_[lane].ticket)) return false;
  session_->collect(lanes_[lane].ticket, outcomes_);
  outcome = outcomes_.front();
  return true;
}

void SessionWire::cancel(uint32_t lane) { session_->cancel(lanes_[lane].ticket); }

StagedWireOp::StagedWireOp(uint32_t index, const WireOp& op, std::span<const LocalPiece> pieces, const Target& target,
                           LocalMovers& movers)
    : index_(index), op_(op), pieces_(pieces), target_(target), movers_(movers), wire_(target, op.offset) {}

void StagedWireOp::start(Session& session, uint64_t deadline_ns) {
  wire_.bind(session, deadline_ns);
  const StagedOp op{op_.offset, op_.length, pieces_, deadline_ns};
  if (target_.form == Target::Form::kGet)
    transfer_ = std::make_unique<StagedRead>(wire_, movers_.staging, movers_.copier, op);
  else
    transfer_ = std::make_unique<StagedWrite>(wire_, movers_.staging, movers_.copier, op);
}

bool StagedWireOp::step() { return transfer_->step(monotonic_ns()); }

}  // namespace memkv::nixl
