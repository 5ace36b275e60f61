#pragma once
/// One reliable connection between two NICs, with its completion queue and its buffers for SEND and RECV. Set-up and
/// end block and belong to the helper threads (host.h); posting and polling to the link's thread.

#include <memory>
#include <span>

#include "transport/link.h"
#include "transport/rdma/device.h"
#include "transport/rdma/memory.h"
#include "wire/messages.h"

namespace memkv::transport::rdma {

inline constexpr uint32_t kRecvs = 32;
inline constexpr uint32_t kSends = 32;
/// A frame with an 8 KiB payload and a key of usual length fits one.
inline constexpr uint32_t kMessageBytes = 9 * 1024;
/// The send queue is shared out, so that what was reserved for one use is never taken by another.
inline constexpr uint32_t kWriteRequestsMax = 128;
inline constexpr uint32_t kReadRequestsMax = 64;
inline constexpr uint32_t kRequestsMax =
    kWriteRequestsMax + kReadRequestsMax + 2 * kSends;  ///< SENDs of bytes, SENDs of credits
inline constexpr uint32_t kPiecesPerRequestMax = 8;     ///< local pieces that one WRITE gathers

/// The immediate value of a SEND: how many of the sender's receives were posted again, and in one without bytes maybe
/// the number of an offer that is withdrawn.
inline constexpr uint32_t kImmCredits = 0xffff, kImmWithdraws = 1u << 31;
constexpr uint32_t withdrawal_of(uint64_t offer) { return kImmWithdraws | static_cast<uint32_t>(offer & 0x7fff) << 16; }

/// A piece of local memory with its key.
struct LocalPiece {
  const void* data;
  uint32_t bytes;
  uint32_t key;
};

/// Thread: made, connected and destroyed in a helper thread; posts and polls in the link's.
class QueuePair {
 public:
  /// In state INIT, all receives posted. `psn` is random and secret until it is told to the peer. The memory of a
  /// server is not for its peer to touch, whatever key it may guess. Blocks.
  static Result<std::unique_ptr<QueuePair>, Message> make(std::shared_ptr<Device> device, Role role, uint32_t psn);
  ~QueuePair();  ///< blocks; when it returns, neither this NIC nor the peer's touches memory for it any more
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;

  Device& device() { return *device_; }
  /// What the peer needs to know.
  wire::RdmaEnd local() const;
  /// To ready-to-send. Blocks, up to a second where the peer's address must be resolved first.
  Result<void, Message> connect(const wire::RdmaEnd& peer);
  void fail();  ///< to the error state: everything posted comes back as flushed. Blocks.

  int event_fd() const { return channel_->fd; }
  /// The next completion raises event_fd(). Completions that are there already do not: poll once more after it.
  void arm();
  void read_events();  ///< takes what event_fd() holds
  /// Completions, in order of each queue; < 0: the queue itself failed.
  int poll(std::span<ibv_wc> out) { return ibv_poll_cq(cq_, static_cast<int>(out.size()), out.data()); }

  static bool is_receive(const ibv_wc& completion) { return completion.wr_id < kRecvs; }
  /// True for a SEND with an immediate value, the only kind that this protocol uses. A WRITE with an immediate value
  /// looks similar, but its length is that of bytes written elsewhere.
  static bool is_message(const ibv_wc& receive) {
    return receive.opcode == IBV_WC_RECV && (receive.wc_flags & IBV_WC_WITH_IMM) != 0 &&
           receive.byte_len <= kMessageBytes;
  }
  std::byte* receive_buffer(uint32_t index) { return buffers_.get() + size_t{index} * kMessageBytes; }
  std::byte* send_buffer(uint32_t index) { return buffers_.get() + size_t{kRecvs + index} * kMessageBytes; }
  [[nodiscard]] bool post_receive(uint32_t index);

  // A batch: one doorbell for all that stands between begin() and end(). Room in the queue is the caller's to keep.
  void begin() { ibv_wr_start(extended_); }
  void write(std::span<const LocalPiece> from, uint64_t to, uint32_t remote_key);
  void read(const LocalPiece& into, uint64_t from, uint32_t remote_key, bool signaled);
  /// `imm` reaches the peer with the first completion that tells of the message.
  void send(uint32_t index, uint32_t bytes, uint32_t imm);
  [[nodiscard]] bool end() { return ibv_wr_complete(extended_) == 0; }

 private:
  QueuePair(std::shared_ptr<Device> device, uint32_t psn) : device_(std::move(device)), psn_(psn) {}
  Result<void, Message> create();
  Result<void, Message> to_init(Role role);

  const std::shared_ptr<Device> device_;
  const uint32_t psn_;
  std::unique_ptr<std::byte[]> buffers_;
  ibv_mr* buffers_mr_ = nullptr;
  ibv_comp_channel* channel_ = nullptr;
  ibv_cq* cq_ = nullptr;
  ibv_qp* qp_ = nullptr;
  ibv_qp_ex* extended_ = nullptr;
  unsigned events_ = 0;  // taken, to be acknowledged before the end
};

}  // namespace memkv::transport::rdma
