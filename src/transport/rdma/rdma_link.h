#pragma once
/// A link over a reliable connection between two NICs. docs/rdma.md

#include <array>
#include <memory>

#include "base/unique_fd.h"
#include "transport/deferred_call.h"
#include "transport/frame_reader.h"
#include "transport/rdma/fetcher.h"
#include "transport/rdma/poller.h"
#include "transport/rdma/sender.h"
#include "transport/rdma/work_queue.h"

namespace memkv::transport::rdma {

/// What a link is made of: a queue pair that is ready to send, and the control connection whose end ends it.
struct LinkParts {
  std::unique_ptr<QueuePair> pair;
  size_t rail = 0;
  wire::RdmaEnd peer;
  base::UniqueFd control;
};

/// Thread: the reactor's.
class RdmaLink final : public Link, private Polled, private LinkOwner {
 public:
  RdmaLink(Poller& poller, LinkParts parts, Role role, const wire::SessionKeys& keys, LinkOwner& owner);
  ~RdmaLink() override;
  RdmaLink(const RdmaLink&) = delete;
  RdmaLink& operator=(const RdmaLink&) = delete;

  Result<void> send(SendFrame& frame) override;
  void resume(PayloadTarget target) override;
  bool redirect() override;
  void withdraw(SendFrame& frame) override;
  void close(Status why) override;
  bool expose(std::span<const iovec> pieces, Staging staging, Exposure& out) override;
  SendRoom send_room() const override { return {kWriteRequestsMax, kReadAheadBytesMax}; }
  uint64_t bytes_queued() const override { return sender_.bytes_queued(); }
  uint64_t last_sent_ns() const override { return last_sent_ns_; }
  uint64_t last_received_ns() const override { return last_received_ns_; }
  int fd() const override { return control_.get(); }
  size_t rail() const { return rail_; }
  QueuePair& queue_pair() override { return *pair_; }

 private:
  /// Bytes of the peer's stream, in the receive that they came in.
  struct Message {
    uint32_t index = 0;
    uint32_t bytes = 0;
  };
  enum class PayloadBeside : uint8_t { kNone, kPlaced, kPaused, kSunk, kRead };

  // From the poller.
  size_t take_completions() override;
  void on_device_gone() override;
  void on_received(const ibv_wc& completion);
  void on_work_done();
  void on_failed(const ibv_wc& completion);

  // From the reader of the stream, which takes this for the owner.
  PayloadTarget on_frame(Link& link, const wire::FrameHeader& header, std::span<const std::byte> body) override;
  void on_payload_part(Link& link, size_t arrived) override { owner_.on_payload_part(link, arrived); }
  void on_payload(Link& link) override { owner_.on_payload(link); }
  void on_closed(Link&, const Error&) override {}

  void on_offer(std::span<const std::byte> body);
  void on_taken(std::span<const std::byte> body);
  PayloadTarget take_elsewhere(PayloadTarget target, uint32_t payload_bytes);
  void feed();
  bool feed_message();
  void give_back_receive(uint32_t index);
  bool end_elsewhere();
  void fetched();
  void offer_taken();
  void move();
  void on_turn();
  void on_control(int32_t result);
  void begin_close(const Error& why);
  void finish_close();

  Poller& poller_;
  LinkOwner& owner_;
  const Role role_;
  const size_t rail_;
  RailCounters& counters_;
  std::unique_ptr<QueuePair> pair_;
  base::UniqueFd control_;
  WorkQueue work_;
  Sender sender_;
  Fetcher fetcher_;
  FrameReader reader_;
  DeferredCall turn_;
  uint64_t last_sent_ns_, last_received_ns_;
  bool closing_ = false;
  bool torn_down_ = false;
  bool broken_ = false;  // a receive could not be posted again
  Error why_;
  BlockingJob tear_down_;
  io::IoOp control_op_;
  std::byte control_byte_{};
  iovec control_piece_{};

  // Messages that are not yet read, oldest first.
  std::array<Message, kRecvs> messages_{};
  size_t first_message_ = 0, message_count_ = 0;
  uint32_t message_at_ = 0;
  bool feeding_ = false;
  PayloadBeside elsewhere_ = PayloadBeside::kNone;  // of the payload that comes not in the stream
  uint64_t offers_taken_ = 0;
  bool withdrawn_ = false;  // the next offer to be taken
};

}  // namespace memkv::transport::rdma
