#pragma once
/// READs an offered payload into its target.

#include <span>

#include "transport/frames.h"
#include "transport/rdma/poller.h"
#include "transport/rdma/work_queue.h"

namespace memkv::transport::rdma {

/// One payload at a time, in parts, each with a completion of its own, so that its owner can hash what is there while
/// the rest comes. Targets that are not registered are read by way of a staging slot. Thread: the link's.
class Fetcher {
 public:
  Fetcher(Poller& poller, size_t rail, Device& device, WorkQueue& work);
  ~Fetcher();

  /// From OFFER. Kept until start() or drop().
  void set_offer(std::span<const wire::RemotePiece> remote_pieces);
  bool has_offer() const { return remote_count_ > 0; }
  uint32_t offered_bytes() const { return offered_bytes_; }
  void drop() { remote_count_ = 0; }

  /// `pieces` hold exactly the offered bytes; array and memory are the owner's until the last part.
  void start(std::span<const iovec> pieces);
  bool busy() const { return busy_; }
  /// Posts what there is room for. False: there is no staging slot now, try again in a moment.
  [[nodiscard]] bool post();
  /// A part is there. Returns how many bytes of the payload are.
  uint32_t on_part_done(uint32_t part_bytes);
  bool done() const { return busy_ && arrived_ == offered_bytes_; }
  void finish();
  /// The target is not written any more. False: reads into it are in flight.
  bool redirect();

 private:
  bool find_keys();
  void post_part();
  LocalPiece next_piece(uint32_t bytes_max) const;
  void advance(uint32_t bytes);

  Poller& poller_;
  const size_t rail_;
  Device& device_;
  WorkQueue& work_;

  std::array<wire::RemotePiece, wire::kRemotePiecesPerOfferMax> remote_pieces_{};
  uint32_t remote_count_ = 0;
  uint32_t offered_bytes_ = 0;

  bool busy_ = false;
  bool direct_ = false;    // into the target itself
  bool unwanted_ = false;  // redirected: nothing is copied to the target
  std::span<const iovec> pieces_;
  PieceCursor copy_;  // by way of a slot: where the next part goes
  io::Slot slot_;
  uint32_t posted_ = 0;  // bytes
  uint32_t arrived_ = 0;
  uint32_t remote_index_ = 0, remote_at_ = 0;
  size_t piece_ = 0;
  uint64_t piece_at_ = 0;
};

}  // namespace memkv::transport::rdma
