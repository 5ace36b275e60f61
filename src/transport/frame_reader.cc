#include "transport/frame_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace memkv::transport {
namespace {

constexpr size_t kBufferBytes = 64 * 1024;
constexpr size_t kBufferBytesGrown = wire::kHeaderBytes + wire::kBodyBytesMax;
/// A payload above this size gets a receive of its own. Below, copying it is cheaper than a system call.
constexpr size_t kLargePayload = 16 * 1024;
constexpr size_t kSmallReadAhead = wire::kHeaderBytes + 256;

}  // namespace

FrameReader::FrameReader(Link& link, LinkOwner& owner, const base::SipKey& key, uint64_t first_sequence, Shape shape)
    : link_(link),
      owner_(owner),
      key_(key),
      shape_(shape),
      sequence_(first_sequence),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(kBufferBytes)),
      capacity_(kBufferBytes) {}

/// How many bytes to receive into the buffer when none go into the owner's memory. Grows the buffer for a large body.
size_t FrameReader::ask() {
  if (in_payload_) return payload_left_ + (shape_.reads_ahead ? kSmallReadAhead : 0);
  const size_t whole = wire::kHeaderBytes + (have_header_ ? header_.body_bytes : 0);
  if (whole > capacity_) {
    auto grown = std::make_unique_for_overwrite<std::byte[]>(kBufferBytesGrown);
    std::memcpy(grown.get(), buffer_.get(), end_);
    buffer_ = std::move(grown);
    capacity_ = kBufferBytesGrown;
  }
  const size_t missing = whole - end_;
  if (!shape_.reads_ahead) return missing;
  return std::max(missing, expect_large_ ? kSmallReadAhead : capacity_);
}

std::span<const iovec> FrameReader::room() {
  if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, buffered());
    end_ -= begin_;
    begin_ = 0;
  }
  size_t count = 0;
  direct_bytes_ = 0;
  if (in_payload_ && into_) {
    count = target_.rest({pieces_.data(), kPiecesPerPayloadMax}, shape_.part_bytes, direct_bytes_);
    // The last receive of a payload also takes what follows it, into the buffer.
    if (!shape_.reads_ahead || direct_bytes_ != payload_left_) return {pieces_.data(), count};
    pieces_[count++] = {buffer_.get() + end_, std::min(expect_large_ ? kSmallReadAhead : capacity_, capacity_ - end_)};
    return {pieces_.data(), count};
  }
  const size_t bytes = ask();
  pieces_[0] = {buffer_.get() + end_, std::min(bytes, capacity_ - end_)};
  return {pieces_.data(), 1};
}

void FrameReader::filled(size_t bytes) {
  const size_t into_pieces = std::min(bytes, std::exchange(direct_bytes_, 0));
  MEMKV_ASSERT(into_pieces <= payload_left_, "more than the payload went into the owner's memory");
  MEMKV_ASSERT(bytes - into_pieces <= capacity_ - end_, "more came than room() had");
  payload_left_ -= into_pieces;
  if (into_) target_.advance(into_pieces);  // redirect() may have come in between
  end_ += bytes - into_pieces;
}

FrameReader::Next FrameReader::run() {
  while (!stopped_ && !paused_) {
    if (in_payload_ ? take_payload() : take_frame()) continue;
    if (error_.status != Status::kOk) return Next::kBad;
    return stopped_ ? Next::kStopped : Next::kMore;
  }
  return stopped_ ? Next::kStopped : Next::kPaused;
}

bool FrameReader::fail(const Error& error) {
  error_ = error;
  return false;
}

/// False: more must be received first.
bool FrameReader::take_payload() {
  MEMKV_ASSERT(in_payload_ && !paused_);
  const size_t bytes = std::min(buffered(), payload_left_);
  if (into_ && bytes > 0) target_.put({buffer_.get() + begin_, bytes});
  begin_ += bytes;
  payload_left_ -= bytes;
  if (payload_left_ > 0) {
    const size_t arrived = header_.payload_bytes - payload_left_;
    if (into_ && arrived > 0) owner_.on_payload_part(link_, arrived);
    return false;
  }
  in_payload_ = into_ = false;
  target_ = {};
  owner_.on_payload(link_);
  return true;
}

/// False: more must be received first, or the frame is bad.
bool FrameReader::take_frame() {
  MEMKV_ASSERT(!in_payload_ && payload_left_ == 0, "a frame begins behind the payload of the one before");
  const std::byte* at = buffer_.get() + begin_;
  if (!have_header_) {
    if (buffered() < wire::kHeaderBytes) return false;
    auto header = wire::decode_header(std::span<const std::byte, wire::kHeaderBytes>(at, wire::kHeaderBytes));
    if (!header) return fail(header.error());
    if (auto checked = check_header(*header, sequence_); !checked) return fail(checked.error());
    header_ = *header;
    have_header_ = true;
  }
  const size_t whole = wire::kHeaderBytes + header_.body_bytes;
  if (buffered() < whole) return false;
  const std::span<const std::byte> body(at + wire::kHeaderBytes, header_.body_bytes);
  if (!wire::check_mac(key_, header_, body)) return fail(Error{Status::kUnauthorized, 0, "frame: wrong MAC"});
  have_header_ = false;
  sequence_++;
  begin_ += whole;
  expect_large_ = header_.payload_bytes > kLargePayload;
  const wire::FrameHeader header = header_;
  const PayloadTarget target = owner_.on_frame(link_, header, body);
  if (header.payload_bytes > 0 && !stopped_ && target.kind != PayloadTarget::Kind::kElsewhere) {
    in_payload_ = true;
    payload_left_ = header.payload_bytes;
    set_target(target);
  }
  return true;
}

void FrameReader::set_target(PayloadTarget target) {
  MEMKV_ASSERT(payload_left_ > 0, "a target is for a payload");
  paused_ = target.kind == PayloadTarget::Kind::kPause;
  into_ = target.kind == PayloadTarget::Kind::kInto;
  if (!into_) return;
  check_holds(target.pieces, payload_left_);
  target_ = PieceCursor(target.pieces);
}

void FrameReader::resume(PayloadTarget target) {
  MEMKV_ASSERT(paused_ && target.kind != PayloadTarget::Kind::kPause, "resume() answers kPause");
  set_target(target);
}

bool FrameReader::redirect() {
  into_ = false;
  target_ = {};
  return direct_bytes_ == 0;
}

}  // namespace memkv::transport
