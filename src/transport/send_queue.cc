#include "transport/send_queue.h"

#include <algorithm>

namespace memkv::transport {
namespace {

/// No frame with payload joins a batch that has this much: what is in a batch cannot be overtaken any more.
constexpr uint64_t kBatchBytes = 256 * 1024;

}  // namespace

Result<void> SendQueue::push(SendFrame& frame) {
  if (auto prepared = prepare(frame); !prepared) return prepared;
  (frame.payload_bytes > 0 ? loaded_ : plain_).push(frame);
  bytes_ += wire_bytes(frame);
  return {};
}

std::span<const iovec> SendQueue::fill() {
  if (begin_ > 0) {
    std::copy(pieces_.begin() + static_cast<ptrdiff_t>(begin_), pieces_.begin() + static_cast<ptrdiff_t>(end_),
              pieces_.begin());
    end_ -= begin_;
    begin_ = 0;
  }
  for (;;) {
    FrameQueue& queue = plain_.empty() ? loaded_ : plain_;
    SendFrame* frame = queue.front();
    if (!frame || end_ + 2 + frame->payload.size() > kPiecesMax) break;
    if (&queue == &loaded_ && batch_bytes_ >= kBatchBytes) break;
    add(*queue.pop());
  }
  return {pieces_.data(), end_};
}

void SendQueue::add(SendFrame& frame) {
  encode_header(frame, sequence_++, key_);
  const auto piece = [this](const void* data, size_t bytes) {
    if (bytes > 0) pieces_[end_++] = {const_cast<void*>(data), bytes};
  };
  piece(frame.header.data(), frame.header.size());
  piece(frame.body.data(), frame.body.size());
  for (const iovec& part : frame.payload) piece(part.iov_base, part.iov_len);
  if (batch_.empty()) first_left_ = wire_bytes(frame);
  batch_bytes_ += wire_bytes(frame);
  batch_.push(frame);
}

void SendQueue::drop(size_t bytes) {
  bytes_ -= bytes;
  batch_bytes_ -= bytes;
  while (bytes > 0) {
    iovec& piece = pieces_[begin_];
    const size_t n = std::min(bytes, piece.iov_len);
    piece.iov_base = static_cast<std::byte*>(piece.iov_base) + n;
    piece.iov_len -= n;
    bytes -= n;
    if (piece.iov_len == 0) begin_++;
  }
}

void SendQueue::sent(size_t bytes) {
  drop(bytes);
  FrameQueue done;
  while (!batch_.empty() && bytes >= first_left_) {
    bytes -= first_left_;
    done.push(*batch_.pop());
    first_left_ = batch_.empty() ? 0 : wire_bytes(*batch_.front());
  }
  first_left_ -= bytes;
  reporting_ = true;
  report(done, true);
  reporting_ = false;
}

void SendQueue::fail_all() {
  bytes_ = 0;
  report(batch_, false);
  report(plain_, false);
  report(loaded_, false);
}

}  // namespace memkv::transport
