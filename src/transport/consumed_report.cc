#include "transport/consumed_report.h"

namespace memkv::transport {
namespace {

/// Small payloads are not lent; the peer hears of them together.
constexpr uint64_t kSmallTogether = 256 * 1024;
/// A payload that takes longer than this is reported in parts, so that the peer sees it move.
constexpr uint64_t kSlowNs = 100'000'000;

}  // namespace

void ConsumedReport::part(size_t arrived) {
  const uint64_t now = reactor_.now_ns();
  if (now - said_ns_ >= kSlowNs) say(consumed_ + arrived);
}

void ConsumedReport::complete() {
  consumed_ += arriving_bytes_;
  if (arriving_bytes_ >= wire::kReportedPayloadMin || consumed_ - said_ >= kSmallTogether) say(consumed_);
}

void ConsumedReport::say(uint64_t bytes) {
  wanted_ = bytes;
  if (frame_.queued) return;  // said when that one has left
  said_ = bytes;
  said_ns_ = reactor_.now_ns();
  frame_.body = {body_.data(), wire::encode(wire::Consumed{bytes}, body_)};
  (void)link_.send(frame_);  // a link that is closed says nothing more
}

void ConsumedReport::on_sent(bool sent) {
  if (sent && wanted_ > said_) say(wanted_);
}

}  // namespace memkv::transport
