#include "client/remote/frames_out.h"

#include <algorithm>

#include "base/test_rules.h"

namespace memkv::client {
namespace {

using Step = RequestFrame::Step;

}  // namespace

void FramesOut::add(RequestFrame& frame, wire::Opcode opcode) {
  MEMKV_ASSERT(frame.step == Step::kMaking);
  frame.unanswered = static_cast<uint32_t>(frame.units.size());
  frame.counts_ops = opcode == wire::Opcode::kOps;
  if (frame.counts_ops) credits_.ops += frame.unanswered;
  if (opcode == wire::Opcode::kExists) credits_.exists_frames++;
  frames_.push_back(frame);
}

RequestFrame* FramesOut::find(uint64_t request_id) {
  RequestFrame* frame = shared_.frames.at(static_cast<uint32_t>(request_id & ((1u << kSlotBits) - 1)));
  if (!frame || !frames_.contains(*frame) || frame->out.request_id != request_id || frame->unanswered == 0)
    return nullptr;
  return frame;
}

Unit* FramesOut::take_unit(RequestFrame& frame, uint32_t index) {
  MEMKV_ASSERT(index < frame.units.size() && frames_.contains(frame));
  Unit* unit = std::exchange(frame.units[index], nullptr);
  if (!unit) return nullptr;
  if (is_large_get(*unit)) credits_.get_bytes -= unit->length;
  unit->frame = nullptr, unit->take_off();
  return unit;
}

void FramesOut::put_back(RequestFrame& frame, Unit& unit) {
  MEMKV_ASSERT(frame.units[unit.index] == nullptr && unit.queue == nullptr);
  frame.units[unit.index] = &unit;
  unit.frame = &frame;
  if (is_large_get(unit)) credits_.get_bytes += unit.length;
}

bool FramesOut::answered(RequestFrame& frame, uint32_t replies) {
  MEMKV_ASSERT(frame.unanswered >= replies);
  const auto waits = [](const Unit* unit) { return unit != nullptr; };
  if (frame.unanswered == replies && std::any_of(frame.units.begin(), frame.units.end(), waits)) return false;
  frame.unanswered -= replies;
  if (frame.counts_ops) credits_.ops -= replies;
  free_if_done(frame);
  return true;
}

void FramesOut::on_left(RequestFrame& frame) {
  MEMKV_ASSERT(frame.step == Step::kOnLink);
  frame.step = Step::kLeft;
  credits_.on_link_bytes -= total_bytes(frame.payload);
  for (size_t i = 0; i < frame.holders.size(); i++) {
    MEMKV_ASSERT(frame.holders[i]->holds > 0);
    frame.holders[i]->holds--;
    shared_.units.on_released(*frame.holders[i]);
  }
  frame.holders.clear();
  frame.payload.clear();
  frame.offered.release();
}

void FramesOut::on_never_left(RequestFrame& frame) {
  MEMKV_ASSERT(frame.step == Step::kOnLink);
  frame.step = Step::kNeverLeft;
  credits_.on_link_bytes -= total_bytes(frame.payload);
  for (Request* op : std::exchange(frame.holders, {})) op->holds--;
}

void FramesOut::lose_all() {
  while (RequestFrame* frame = frames_.front()) {
    for (FrameExposure& exposure : frame->exposures) let_go(exposure);  // the link writes nothing any more
    for (size_t i = 0; i < frame->units.size(); i++) {
      Unit* unit = frame->units[i];
      if (!unit) continue;
      take_unit(*frame, static_cast<uint32_t>(i));
      shared_.units.on_lost(*unit, frame->step != Step::kNeverLeft);
    }
    MEMKV_ASSERT(frame->step != Step::kOnLink, "the link gave all frames back before it closed");
    free(*frame);
  }
  MEMKV_ASSERT(credits_.unused(), "credit is left");
}

void FramesOut::free_if_done(RequestFrame& frame) {
  if (frame.step != Step::kOnLink && frame.unanswered == 0) free(frame);
}

void FramesOut::free(RequestFrame& frame) {
  MEMKV_ASSERT(credits_.payload_grains >= frame.credit && credits_.eager_bytes >= frame.eager_bytes);
  if (base::rules().credit_returned) credits_.payload_grains -= frame.credit;
  credits_.eager_bytes -= frame.eager_bytes;
  if (frame.counts_ops) credits_.ops -= frame.unanswered;
  if (frame.out.opcode == wire::Opcode::kExists) credits_.exists_frames--;
  frames_.remove(frame);
  frame.sender = nullptr;
  frame.units.clear();
  frame.holders.clear();
  for (FrameExposure& exposure : frame.exposures) let_go(exposure);
  frame.exposures.clear();
  frame.canceled.clear();
  frame.offered.release();
  frame.payload.clear();
  frame.unanswered = 0;
  frame.step = Step::kMaking;
  frame.counts_ops = false;
  frame.credit = frame.eager_bytes = 0;
  shared_.frames.give_back(frame);
}

// Memory that the server may write.

void FramesOut::add_exposure(RequestFrame& frame, Unit& unit, const transport::Exposure& memory) {
  FrameExposure& exposure = frame.exposures.emplace_back();
  exposure.memory = memory;
  exposure.index = static_cast<uint16_t>(frame.units.size());
  if (exposure.memory.staging.empty()) {
    exposure.holder = unit.op;
    unit.op->holds++;
  }
  unit.exposure = static_cast<uint16_t>(frame.exposures.size());
}

void FramesOut::take_back_exposure(RequestFrame& frame, Unit& unit) {
  MEMKV_ASSERT(unit.exposure == frame.exposures.size(), "it was the last to be added");
  let_go(frame.exposures.back());
  frame.exposures.pop_back();
  unit.exposure = 0;
}

FrameExposure* FramesOut::exposure_of(RequestFrame& frame, const Unit* unit, uint32_t index) {
  if (unit) return unit->exposure == 0 ? nullptr : &frame.exposures[unit->exposure - 1];
  for (FrameExposure& exposure : frame.exposures) {
    if (exposure.index == index) return &exposure;
  }
  return nullptr;
}

void FramesOut::let_go(FrameExposure& exposure) {
  exposure.memory.release();
  Request* op = std::exchange(exposure.holder, nullptr);
  if (!op) return;
  MEMKV_ASSERT(op->holds > 0);
  op->holds--;
  shared_.units.on_released(*op);
}

bool FramesOut::holds_memory_of(const Request& op) const {
  for (const RequestFrame& frame : frames_) {
    if (std::find(frame.holders.begin(), frame.holders.end(), &op) != frame.holders.end()) return true;
    const auto mine = [&](const FrameExposure& exposure) { return exposure.holder == &op; };
    if (std::any_of(frame.exposures.begin(), frame.exposures.end(), mine)) return true;
  }
  return false;
}

}  // namespace memkv::client
