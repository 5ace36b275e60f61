#pragma once
/// The receiving half of a link that carries a stream of bytes.

#include <array>
#include <memory>

#include "transport/frames.h"

namespace memkv::transport {

/// Cuts a stream into frames for a link's owner: checks header and MAC, asks where the payload goes, has it received
/// there. The link asks room() where the next bytes go, tells filled() how many came, then calls run(). Headers and
/// bodies lie in memory of its own while they are looked at. Thread: the reactor's.
class FrameReader {
 public:
  struct Shape {
    size_t part_bytes = 0;    ///< of a payload at a time: its owner hashes them while they are in the cache
    bool reads_ahead = true;  ///< asking once more costs a system call: what follows comes along
  };
  FrameReader(Link& link, LinkOwner& owner, const base::SipKey& key, uint64_t first_sequence, Shape shape);

  /// Valid until filled() or drop_room().
  std::span<const iovec> room();
  void filled(size_t bytes);
  void drop_room() { direct_bytes_ = 0; }  ///< the receive into room() was canceled

  enum class Next : uint8_t { kMore, kPaused, kStopped, kBad };
  /// Takes apart what has been received and calls the owner for each frame. Any callback may stop() it.
  Next run();
  const Error& error() const { return error_; }  ///< after kBad

  void resume(PayloadTarget target);
  /// Throws away the rest of the present payload. True: room() holds no memory of the owner, who may use it again.
  bool redirect();
  bool paused() const { return paused_; }
  bool in_payload() const { return in_payload_; }
  /// No callback any more.
  void stop() { stopped_ = true; }

 private:
  bool take_payload();
  bool take_frame();
  bool fail(const Error& error);
  void set_target(PayloadTarget target);
  size_t buffered() const { return end_ - begin_; }
  size_t ask();

  Link& link_;
  LinkOwner& owner_;
  const base::SipKey key_;
  const Shape shape_;
  uint64_t sequence_;
  Error error_{Status::kOk};
  bool stopped_ = false;

  // [begin_, end_) of the buffer was received and not yet looked at.
  std::unique_ptr<std::byte[]> buffer_;
  size_t capacity_;
  size_t begin_ = 0;
  size_t end_ = 0;
  wire::FrameHeader header_;
  bool have_header_ = false;
  bool expect_large_ = false;  // the last payload was: read little ahead, so that the next goes into its pieces
  bool in_payload_ = false;
  bool paused_ = false;
  bool into_ = false;  // else the sink
  size_t payload_left_ = 0;
  PieceCursor target_;
  size_t direct_bytes_ = 0;  // of room(), how many are the owner's memory
  std::array<iovec, kPiecesPerPayloadMax + 1> pieces_{};
};

}  // namespace memkv::transport
