#include "transport/send_queue.h"

#include <algorithm>

#include "base/assert.h"

namespace memkv::transport {
namespace {

/// No frame with payload joins a batch of this size, since what is in a batch cannot be overtaken any more.
constexpr uint64_t kBatchBytes = 256 * 1024;

/// Pieces that a frame takes at most: header, body, and of each piece of its payload the pages, and what is around them.
size_t pieces_max(const SendFrame& frame) { return 2 + frame.payload.size() * (frame.may_lend ? 3 : 1); }

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
    lent_ >>= begin_;
    end_ -= begin_;
    begin_ = 0;
  }
  for (;;) {
    FrameQueue& queue = plain_.empty() ? loaded_ : plain_;
    SendFrame* frame = queue.front();
    if (!frame || end_ + pieces_max(*frame) > kPiecesMax) break;
    if (&queue == &loaded_ && (batch_bytes_ >= kBatchBytes || waits_for_report(*frame))) break;
    add(*queue.pop());
  }
  return {pieces_.data(), end_};
}

void SendQueue::add_piece(const void* data, size_t bytes, bool lent) {
  if (bytes == 0) return;
  if (lent) lent_pieces_++;
  lent_[end_] = lent;
  pieces_[end_++] = {const_cast<void*>(data), bytes};
}

void SendQueue::add(SendFrame& frame) {
  MEMKV_ASSERT(frame.queued && end_ + 2 + frame.payload.size() <= kPiecesMax, "fill() looks for room first");
  encode_header(frame, sequence_++, key_);
  add_piece(frame.header.data(), frame.header.size(), false);
  add_piece(frame.body.data(), frame.body.size(), false);
  frame.lent_bytes = 0;
  frame.lent = false;
  add_payload(frame);
  payload_made_ += frame.payload_bytes;
  frame.payload_end = payload_made_;
  if (batch_.empty()) first_left_ = wire_bytes(frame);
  batch_bytes_ += wire_bytes(frame);
  batch_.push(frame);
}

void SendQueue::add_payload(SendFrame& frame) {
  const bool lend = frame.payload_bytes > 0 && may_lend(frame);
  for (const iovec& part : frame.payload) {
    const auto* data = static_cast<const std::byte*>(part.iov_base);
    const PageRun run = lend ? page_run(data, part.iov_len) : PageRun{};
    if (run.bytes == 0) {
      add_piece(data, part.iov_len, false);
      continue;
    }
    add_piece(data, run.head, false);
    add_piece(data + run.head, run.bytes, true);
    add_piece(data + run.head + run.bytes, part.iov_len - run.head - run.bytes, false);
    frame.lent_bytes += static_cast<uint32_t>(run.bytes);
  }
  lent_bytes_ += frame.lent_bytes;
  frame.lent = frame.lent_bytes > 0;
}

/// Only what the peer reports as soon as it is complete.
uint64_t SendQueue::lendable_bytes(const SendFrame& frame) const {
  uint64_t bytes = 0;
  if (!lending_ || !frame.may_lend || frame.payload_bytes < wire::kReportedPayloadMin) return bytes;
  for (const iovec& part : frame.payload) bytes += page_run(part.iov_base, part.iov_len).bytes;
  return bytes;
}

/// As much is lent as may be. The peer is about to report some of it: the copy would only fill its socket further.
bool SendQueue::waits_for_report(const SendFrame& frame) const {
  const uint64_t lendable = lent_bytes_ > 0 ? lendable_bytes(frame) : 0;
  return lendable > 0 && lent_bytes_ + lendable > kLentBytesMax;
}

bool SendQueue::may_lend(const SendFrame& frame) {
  if (!lending_) return false;
  const uint64_t lendable = lendable_bytes(frame);
  if (lendable == 0) {
    OneCopyStats::add(lending_->small_bytes, frame.payload_bytes);
  } else if (lent_bytes_ + lendable > kLentBytesMax) {
    OneCopyStats::add(lending_->limit_bytes, frame.payload_bytes);
    return false;
  }
  return lendable > 0;
}

void SendQueue::stop_lending() {
  for (size_t i = begin_; i < end_; i++) {
    if (lent_[i] && lending_) OneCopyStats::add(lending_->no_pipe_bytes, pieces_[i].iov_len);
  }
  lent_.reset();
  lent_pieces_ = 0;
  lending_ = nullptr;
}

std::span<const iovec> SendQueue::next_run() const {
  size_t end = begin_;
  if (begin_is_lent()) {
    end++;
  } else {
    while (end < end_ && !lent_[end]) end++;
  }
  return {pieces_.data() + begin_, end - begin_};
}

void SendQueue::drop(size_t bytes) {
  MEMKV_ASSERT(bytes <= batch_bytes_ && batch_bytes_ <= bytes_, "more left than fill() gave");
  bytes_ -= bytes;
  batch_bytes_ -= bytes;
  while (bytes > 0) {
    MEMKV_ASSERT(begin_ < end_);
    iovec& piece = pieces_[begin_];
    const size_t n = std::min(bytes, piece.iov_len);
    piece.iov_base = static_cast<std::byte*>(piece.iov_base) + n;
    piece.iov_len -= n;
    bytes -= n;
    if (piece.iov_len > 0) continue;
    if (lent_[begin_]) lent_pieces_--;
    begin_++;
  }
}

void SendQueue::report_done(FrameQueue& done) {
  reporting_ = true;
  report(done, true);
  reporting_ = false;
}

void SendQueue::sent(size_t bytes) {
  drop(bytes);
  FrameQueue done;
  while (!batch_.empty() && bytes >= first_left_) {
    bytes -= first_left_;
    SendFrame& frame = *batch_.pop();
    if (frame.lent && frame.payload_end > consumed_) {
      unreported_.push(frame);
      unreported_end_ = frame.payload_end;
    } else {
      lent_bytes_ -= frame.lent_bytes;
      done.push(frame);
    }
    first_left_ = batch_.empty() ? 0 : wire_bytes(*batch_.front());
  }
  MEMKV_ASSERT(bytes <= first_left_, "what is left of the count belongs to the oldest unsent frame");
  first_left_ -= bytes;
  report_done(done);
}

Result<void> SendQueue::consumed(uint64_t payload_bytes) {
  if (payload_bytes < consumed_ || payload_bytes > payload_made_) {
    return Error{Status::kInvalid, 0, "CONSUMED: less than before, or more than was sent"};
  }
  consumed_ = payload_bytes;
  FrameQueue done;
  while (!unreported_.empty() && unreported_.front()->payload_end <= consumed_) {
    SendFrame& frame = *unreported_.pop();
    MEMKV_ASSERT(lent_bytes_ >= frame.lent_bytes, "lent once");
    lent_bytes_ -= frame.lent_bytes;
    done.push(frame);
  }
  report_done(done);
  return {};
}

void SendQueue::fail_all() {
  bytes_ = 0;
  lent_bytes_ = 0;
  report(unreported_, false);
  report(batch_, false);
  report(plain_, false);
  report(loaded_, false);
}

}  // namespace memkv::transport
