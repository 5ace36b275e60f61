#include "transport/frames.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace memkv::transport {

void FrameQueue::push(SendFrame& frame) {
  frame.next = nullptr;
  (tail_ ? tail_->next : head_) = &frame;
  tail_ = &frame;
}

SendFrame* FrameQueue::pop() {
  SendFrame* frame = head_;
  if (!frame) return nullptr;
  head_ = frame->next;
  if (!head_) tail_ = nullptr;
  frame->next = nullptr;
  return frame;
}

Result<void> prepare(SendFrame& frame) {
  MEMKV_ASSERT(!frame.queued, "a frame is sent again only after its on_done");
  MEMKV_ASSERT(frame.on_done != nullptr);
  if (frame.body.size() > wire::kBodyBytesMax) return Error{Status::kInvalid, 0, "send: body too large"};
  if (frame.payload.size() > kPiecesPerPayloadMax) return Error{Status::kInvalid, 0, "send: too many pieces"};
  uint64_t bytes = 0;
  for (const iovec& piece : frame.payload) bytes += piece.iov_len;
  if (bytes > wire::kPayloadBytesMax) return Error{Status::kInvalid, 0, "send: payload too large"};
  frame.payload_bytes = static_cast<uint32_t>(bytes);
  frame.queued = true;
  frame.unwanted = false;
  return {};
}

void encode_header(SendFrame& frame, uint64_t sequence, const base::SipKey& key, uint16_t flags) {
  wire::FrameHeader header;
  header.flags = flags;
  header.opcode = frame.opcode;
  header.body_bytes = static_cast<uint32_t>(frame.body.size());
  header.payload_bytes = frame.payload_bytes;
  header.request_id = frame.request_id;
  header.sequence = sequence;
  header.mac = wire::make_mac(key, header, frame.body);
  wire::encode(header, frame.header);
}

Result<void> check_header(const wire::FrameHeader& header, uint64_t expected_sequence) {
  if (header.version != wire::kVersionMax) return Error{Status::kInvalid, 0, "frame: wrong version"};
  if (header.opcode < wire::Opcode::kWelcome) return Error{Status::kInvalid, 0, "frame: handshake is over"};
  if (header.sequence != expected_sequence) return Error{Status::kInvalid, 0, "frame: out of sequence"};
  return {};
}

void report(FrameQueue& queue, bool sent) {
  while (SendFrame* frame = queue.pop()) {
    MEMKV_ASSERT(frame->queued, "on_done runs once");
    frame->queued = false;
    frame->on_done(*frame, sent);
  }
}

void check_holds(std::span<const iovec> pieces, size_t payload_bytes) {
  size_t bytes = 0;
  for (const iovec& piece : pieces) bytes += piece.iov_len;
  MEMKV_ASSERT(bytes == payload_bytes, "the target must hold exactly the payload");
}

void PieceCursor::put(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    MEMKV_ASSERT(index_ < pieces_.size(), "more bytes than the target holds");
    const iovec& piece = pieces_[index_];
    const size_t n = std::min(piece.iov_len - offset_, bytes.size());
    if (n > 0) std::memcpy(static_cast<std::byte*>(piece.iov_base) + offset_, bytes.data(), n);
    advance(n);
    if (n == 0) index_++;  // an empty piece
    bytes = bytes.subspan(n);
  }
}

void PieceCursor::advance(size_t bytes) {
  while (bytes > 0) {
    MEMKV_ASSERT(index_ < pieces_.size(), "more bytes than the target holds");
    const size_t n = std::min(pieces_[index_].iov_len - offset_, bytes);
    offset_ += n;
    bytes -= n;
    if (offset_ == pieces_[index_].iov_len) index_++, offset_ = 0;
  }
}

size_t PieceCursor::rest(std::span<iovec> out, size_t bytes_max, size_t& total) const {
  size_t count = 0;
  size_t offset = offset_;
  total = 0;
  for (size_t i = index_; i < pieces_.size() && count < out.size() && total < bytes_max; i++, offset = 0) {
    const size_t n = std::min(pieces_[i].iov_len - offset, bytes_max - total);
    if (n == 0) continue;
    out[count++] = {static_cast<std::byte*>(pieces_[i].iov_base) + offset, n};
    total += n;
  }
  return count;
}

}  // namespace memkv::transport
