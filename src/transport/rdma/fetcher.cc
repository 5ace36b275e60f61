#include "transport/rdma/fetcher.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace memkv::transport::rdma {
namespace {

/// Bytes of a part: few enough that its owner finds them in the cache when it hashes them.
constexpr uint32_t kPartBytes = 256 * 1024;
constexpr uint32_t kRequestsPerPartMax = 32;

}  // namespace

Fetcher::Fetcher(Poller& poller, size_t rail, Device& device, WorkQueue& work)
    : poller_(poller), rail_(rail), device_(device), work_(work) {}

Fetcher::~Fetcher() {
  if (slot_) poller_.staging().give_back(slot_);
}

void Fetcher::set_offer(std::span<const wire::RemotePiece> remote_pieces) {
  remote_count_ = static_cast<uint32_t>(remote_pieces.size());
  std::copy(remote_pieces.begin(), remote_pieces.end(), remote_pieces_.begin());
  offered_bytes_ = 0;
  for (const wire::RemotePiece& remote_piece : remote_pieces) offered_bytes_ += remote_piece.length;
}

void Fetcher::start(std::span<const iovec> pieces) {
  MEMKV_ASSERT(!busy_ && has_offer());
  busy_ = true;
  unwanted_ = false;
  pieces_ = pieces;
  copy_ = PieceCursor(pieces);
  posted_ = arrived_ = remote_index_ = remote_at_ = 0;
  piece_ = 0;
  piece_at_ = 0;
  direct_ = find_keys();
}

bool Fetcher::find_keys() {
  return std::all_of(pieces_.begin(), pieces_.end(), [this](const iovec& piece) {
    const Registration* registration = poller_.memory().find(piece.iov_base, piece.iov_len);
    return registration && registration->keys(rail_, device_);
  });
}

bool Fetcher::post() {
  if (!busy_ || posted_ == offered_bytes_) return true;
  if (!direct_ && !slot_) {
    if (poller_.staging_memory().keys(rail_, device_)) slot_ = poller_.staging().take(offered_bytes_);
    if (!slot_) return false;
  }
  while (posted_ < offered_bytes_ && work_.has_room(Use::kRead, kRequestsPerPartMax)) post_part();
  return true;
}

/// The next local piece, of the target or of the slot.
LocalPiece Fetcher::next_piece(uint32_t bytes_max) const {
  if (!direct_) {
    const MemoryKeys* keys = poller_.staging_memory().keys(rail_, device_);
    return {slot_.data + posted_, bytes_max, keys ? keys->local : 0};
  }
  const iovec& piece = pieces_[piece_];
  auto* at = static_cast<std::byte*>(piece.iov_base) + piece_at_;
  const auto bytes = static_cast<uint32_t>(std::min<uint64_t>(piece.iov_len - piece_at_, bytes_max));
  const Registration* registration = poller_.memory().find(at, bytes);
  const MemoryKeys* keys = registration ? registration->keys(rail_, device_) : nullptr;
  return {at, bytes, keys ? keys->local : 0};
}

void Fetcher::advance(uint32_t bytes) {
  posted_ += bytes;
  remote_at_ += bytes;
  if (remote_at_ == remote_pieces_[remote_index_].length) remote_index_++, remote_at_ = 0;
  if (!direct_) return;
  piece_at_ += bytes;
  while (piece_ < pieces_.size() && piece_at_ == pieces_[piece_].iov_len) piece_++, piece_at_ = 0;
}

void Fetcher::post_part() {
  const uint32_t part_end = std::min(posted_ + kPartBytes, offered_bytes_);
  const uint32_t begin = posted_;
  for (uint32_t requests = 1;; requests++) {
    while (direct_ && pieces_[piece_].iov_len == 0) piece_++;
    const wire::RemotePiece& remote_piece = remote_pieces_[remote_index_];
    const LocalPiece into = next_piece(std::min(part_end - posted_, remote_piece.length - remote_at_));
    const uint64_t from = remote_piece.address + remote_at_;
    advance(into.bytes);
    if (posted_ == part_end || requests == kRequestsPerPartMax) {
      return work_.read_signaled(into, from, remote_piece.key, posted_ - begin);
    }
    work_.read(into, from, remote_piece.key);
  }
}

uint32_t Fetcher::on_part_done(uint32_t part_bytes) {
  MEMKV_ASSERT(busy_);
  if (!direct_ && !unwanted_) copy_.put({slot_.data + arrived_, part_bytes});
  arrived_ += part_bytes;
  return arrived_;
}

void Fetcher::finish() {
  if (slot_) poller_.staging().give_back(std::exchange(slot_, {}));
  busy_ = false;
  remote_count_ = 0;
}

bool Fetcher::redirect() {
  if (!busy_) return true;
  unwanted_ = true;
  if (posted_ == 0) direct_ = false;  // by way of a slot, into nothing
  return !direct_;
}

}  // namespace memkv::transport::rdma
