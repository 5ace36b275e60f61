#pragma once
/// The sending half of an RDMA link: frames as a stream of bytes in SENDs, payloads beside it by WRITE or as an offer.

#include "transport/frames.h"
#include "transport/rdma/poller.h"
#include "transport/rdma/work_queue.h"

namespace memkv::transport::rdma {

/// Payloads up to here ride in the stream.
inline constexpr uint32_t kInlineMax = wire::kEagerPayloadMax;

/// Limit of bytes that are written and not yet acknowledged. Nothing overtakes what is in the send queue, so the limit
/// is low; it still keeps the fastest line busy.
inline constexpr uint32_t kPlacedBytesMax = 4u << 20;

/// What an owner may read from its drives for one link at a time, what is being sent included: enough to keep the line
/// busy while a drive answers (160 us at 100 GB/s), and a slow reader does not hold more slots than that.
inline constexpr uint32_t kReadAheadBytesMax = 16u << 20;

/// One way for each frame with a payload above kInlineMax:
///   placed   the owner said where in the peer's memory it goes: WRITEs, then the frame in the stream behind them
///   offered  (client) the peer READs it: OFFER, then the frame; the memory is free when TAKEN says so
///   inline   neither is possible: in the stream
/// Smaller ones go inline, but for those that must not be touched here (SendFrame::always_placed, offered).
/// A frame's on_done comes from report(), when its SEND is acknowledged (so what it said has arrived), or with TAKEN.
/// Thread: the link's.
class Sender {
 public:
  Sender(Poller& poller, size_t rail, Device& device, WorkQueue& work, Role role, const base::SipKey& key,
         const wire::RdmaEnd& peer);

  Result<void> push(SendFrame& frame);
  /// Posts what may leave. False: the queue pair takes nothing any more.
  [[nodiscard]] bool pump();
  void on_posted_done(Posted& done);
  /// The peer has posted so many receives again.
  void add_credits(uint32_t receives);
  /// We have posted receives again; the peer is told with the next SEND.
  void receive_returned() { returned_++; }
  void receive_used() { peer_left_--; }
  /// The peer needs the memory of so many offers, counted from the first, no more. False: there were not that many.
  [[nodiscard]] bool on_taken(uint64_t offers);
  /// Tells the peer not to wait for room for the frame's payload any more.
  void withdraw(SendFrame& frame);
  /// Tells the peer that we have read or dropped so many of its offers, counted from the first.
  void tell_taken(uint64_t offers) { taken_ = offers; }
  /// The server says nothing until it has heard a frame of the client's.
  void unmute() { muted_ = false; }

  /// Runs on_done of what is done. True: there was something.
  bool report();
  /// Nothing will be sent or read any more: reports all frames as lost.
  void fail_all();
  uint64_t bytes_queued() const { return bytes_queued_; }

 private:
  enum class Way : uint8_t { kInline, kPlaced, kOffered };
  static constexpr size_t kOffersMax = 64;
  static constexpr size_t kDirectPiecesMax = 8;
  struct Offer {
    SendFrame* frame = nullptr;  ///< null: staged, its own memory was free at once
    uint64_t request_id = 0;
    bool unwanted = false;
    io::Slot slot;
    uint8_t user_count = 0;
    std::array<Registration*, kDirectPiecesMax> users{};
  };

  bool start_next();
  bool start(SendFrame& frame);
  void start_taken();
  bool place(SendFrame& frame);
  bool find_local(const SendFrame& frame);
  void write_remote_pieces(const SendFrame& frame);
  bool offer(SendFrame& frame);
  bool offer_exposed(SendFrame& frame);
  Offer* new_offer(SendFrame& frame);
  void announce(std::span<const wire::RemotePiece> remote_pieces);
  bool offer_direct(SendFrame& frame, Offer& offer, std::span<wire::RemotePiece> remote_pieces, size_t& count);
  bool offer_staged(SendFrame& frame, Offer& offer, wire::RemotePiece& remote_piece);
  void put_prefix(wire::Opcode opcode, std::span<const std::byte> body);
  void let_go(Offer& offer);
  void add_piece(const void* data, size_t bytes);
  bool copy();
  bool open_message();
  void close_message();
  void end_frame();
  void send_withdrawal();
  void send_credit();

  Poller& poller_;
  const size_t rail_;
  Device& device_;
  RailCounters& counters_;
  WorkQueue& work_;
  const Role role_;
  const base::SipKey key_;
  const uint32_t message_bytes_;
  uint64_t sequence_ = 1;  // 0 was spent on the control connection
  uint64_t bytes_queued_ = 0;
  bool muted_;

  FrameQueue plain_;   // without payload
  FrameQueue loaded_;  // with payload
  FrameQueue done_;    // to be reported

  // The frame that goes into the stream now, and what of it is not there yet.
  SendFrame* current_ = nullptr;
  Way way_ = Way::kInline;
  bool in_frame_ = false;
  size_t begin_ = 0, end_ = 0;
  std::array<iovec, kPiecesPerPayloadMax + 3> pieces_{};
  std::array<std::byte, wire::kHeaderBytes + 8 + wire::kRemotePiecesPerOfferMax * wire::kRemotePieceBytes> prefix_;
  std::array<LocalPiece, kPiecesPerPayloadMax> local_{};

  // The message that is being filled.
  bool message_open_ = false;
  uint32_t message_used_ = 0;
  uint32_t next_buffer_ = 0;
  uint32_t buffers_out_ = 0;
  FrameQueue message_frames_;
  uint32_t message_placed_bytes_ = 0;
  uint32_t placed_bytes_ = 0;

  // Receives: of the peer that we may use, of ours that it may use, and what it must be told.
  uint32_t credits_;
  uint32_t peer_left_ = kRecvs;
  uint32_t returned_ = 0;

  // Offers, oldest first.
  std::array<Offer, kOffersMax> offers_{};
  uint64_t offers_made_ = 0, offers_done_ = 0;
  uint64_t withdrawals_told_ = 0;  ///< up to this one, counted like offers
  uint64_t taken_ = 0, taken_told_ = 0;
  bool greet_;  // the client's first frame proves the session: a TAKEN of nothing
};

}  // namespace memkv::transport::rdma
