#pragma once
/// The receiving half of a link that carries a stream of bytes.

#include <array>
#include <memory>

#include "transport/frames.h"

namespace memkv::transport {

/// Cuts a stream into frames for a link's owner. It checks header and MAC, asks the owner where the payload goes, and
/// has it received there. The link asks room() where the next bytes go, tells filled() how many came, and calls run().
/// Headers and bodies lie in a buffer of the reader. Thread: the reactor's.
///
///   take_frame()    header, body, MAC, owner.on_frame() -> target
///   take_payload()  bytes that were already in the buffer are copied, the rest is received into the target
class FrameReader {
 public:
  struct Shape {
    size_t part_bytes = 0;    ///< of a payload to receive at a time: the owner hashes them while they are cached
    bool reads_ahead = true;  ///< receive more than is missing, since each receive costs a system call
  };
  FrameReader(Link& link, LinkOwner& owner, const base::SipKey& key, uint64_t first_sequence, Shape shape);

  /// Valid until filled() or drop_room().
  std::span<const iovec> room();
  void filled(size_t bytes);
  void drop_room() { direct_bytes_ = 0; }  ///< the receive into room() was canceled

  /// What run() ended with: more bytes are needed, the owner holds a payload back, stop() was called, or the peer broke
  /// the protocol (error() says how).
  enum class Next : uint8_t { kMore, kPaused, kStopped, kBad };
  /// Takes apart what was received, and calls the owner for each frame. Any of these calls may stop() it.
  Next run();
  const Error& error() const { return error_; }  ///< after kBad

  void resume(PayloadTarget target);
  /// Throws the rest of this payload away. True: room() names no memory of the owner, so the owner may use it again.
  bool redirect();
  bool paused() const { return paused_; }
  bool in_payload() const { return in_payload_; }
  /// From now on the owner is not called any more.
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

  // [begin_, end_) of the buffer was received and is not taken apart yet.
  std::unique_ptr<std::byte[]> buffer_;
  size_t capacity_;
  size_t begin_ = 0;
  size_t end_ = 0;
  wire::FrameHeader header_;
  bool have_header_ = false;
  bool expect_large_ = false;  // the last payload was large: read little ahead, so that the next goes into its target
  bool in_payload_ = false;
  bool paused_ = false;
  bool into_ = false;  // else the sink
  size_t payload_left_ = 0;
  PieceCursor target_;
  size_t direct_bytes_ = 0;  // how many bytes of room() are the owner's memory
  std::array<iovec, kPiecesPerPayloadMax + 1> pieces_{};
};

}  // namespace memkv::transport
