#include "client/remote/frame.h"

namespace memkv::client {

RequestFrame& FramePool::take(size_t body_bytes) {
  const bool small = body_bytes <= RequestFrame::kSmallBody;
  RequestFrame& frame = small ? small_.take() : large_.take();
  if (!frame.body) {
    frame.body_capacity = small ? RequestFrame::kSmallBody : wire::kBodyBytesMax;
    frame.body = std::make_unique_for_overwrite<std::byte[]>(frame.body_capacity);
    frame.slot = static_cast<uint32_t>(table_.size());
    table_.push_back(&frame);
  }
  return frame;
}

void FramePool::give_back(RequestFrame& frame) {
  MEMKV_ASSERT(frame.units.empty() && frame.unanswered == 0 && !frame.link.linked());
  (frame.body_capacity == RequestFrame::kSmallBody ? small_ : large_).give_back(frame);
}

std::span<std::byte> FramePool::sink() {
  if (!sink_) sink_ = std::make_unique_for_overwrite<std::byte[]>(wire::kPayloadBytesMax);
  return {sink_.get(), wire::kPayloadBytesMax};
}

}  // namespace memkv::client
