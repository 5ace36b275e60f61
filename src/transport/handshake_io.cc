#include "transport/handshake_io.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace memkv::transport {
namespace {

constexpr uint64_t kRetryNs = 1'000'000;

}  // namespace

HandshakeIo::HandshakeIo(io::Reactor& reactor, int fd, uint64_t deadline_ns) : reactor_(reactor), fd_(fd) {
  op_.context = timer_.context = this;
  op_.on_done = [](io::IoOp& op, int32_t result) { static_cast<HandshakeIo*>(op.context)->on_op(result); };
  timer_.on_done = [](io::Timer& timer) { static_cast<HandshakeIo*>(timer.context)->on_deadline(); };
  if (deadline_ns > 0) reactor_.start(timer_, deadline_ns);
}

HandshakeIo::~HandshakeIo() {
  MEMKV_ASSERT(!op_.pending(), "destroyed before its end");
  reactor_.stop(timer_);
}

void HandshakeIo::connect(const sockaddr* address, socklen_t length) {
  step_ = Step::kConnect;
  if (auto r = reactor_.connect(op_, fd_.get(), address, length); !r) fail(r.error());
}

void HandshakeIo::read_frame_with_descriptors() {
  op_.control = control_;
  read_frame();
}

/// Takes the descriptors that came along. The kernel has closed those that did not fit; a missing one is noticed by
/// whoever needs it.
void HandshakeIo::take_descriptors() {
  for (cmsghdr* at = CMSG_FIRSTHDR(&op_.message); at != nullptr; at = CMSG_NXTHDR(&op_.message, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(at) + i * sizeof fd, sizeof fd);
      base::UniqueFd owned(fd);
      for (base::UniqueFd& free : descriptors_) {
        if (!free && owned) free = std::move(owned);
      }
    }
  }
}

void HandshakeIo::read_frame(uint8_t version) {
  version_ = version;
  step_ = Step::kHeader;
  have_ = 0;
  want_ = wire::kHeaderBytes;
  submit_read();
}

void HandshakeIo::submit_read() {
  MEMKV_ASSERT(!failing_ && have_ < want_ && want_ <= buffer_.size(), "on_read() checks what a frame announces");
  piece_ = {buffer_.data() + have_, want_ - have_};
  if (auto r = reactor_.recv(op_, fd_.get(), {&piece_, 1}); !r) fail(r.error());
}

void HandshakeIo::write(std::span<const std::byte> bytes) {
  MEMKV_ASSERT(!bytes.empty() && !op_.pending(), "the op does one thing at a time");
  step_ = Step::kWrite;
  out_ = bytes;
  submit_write();
}

void HandshakeIo::submit_write() {
  piece_ = {const_cast<std::byte*>(out_.data()), out_.size()};
  if (auto r = reactor_.send(op_, fd_.get(), {&piece_, 1}); !r) {
    if (failing_) return end_soon();
    fail(r.error());
  }
}

void HandshakeIo::fail(const Error& why, std::span<const std::byte> farewell) {
  if (failing_) return;
  failing_ = true;
  why_ = why;
  if (op_.pending()) return reactor_.cancel(op_);
  if (farewell.empty()) return end_soon();
  farewell_ = true;
  write(farewell);
}

/// The owner hears of the end from the reactor, never inside a call of its own. A timer brings it when the reactor
/// takes no op.
void HandshakeIo::end_soon() {
  step_ = Step::kEnd;
  reactor_.stop(timer_);
  if (!reactor_.post(op_, 0)) reactor_.start(timer_, reactor_.now_ns() + kRetryNs);
}

void HandshakeIo::on_deadline() {
  if (step_ == Step::kEnd) return on_end(Error{why_});
  if (failing_) {  // the peer does not take the farewell
    farewell_ = false;
    return reactor_.cancel(op_);
  }
  fail(Error{Status::kDeadline, 0, "the handshake took too long"});
}

/// The one completion of a handshake: there is a single op, and `step_` says what it was doing. After a failure it only
/// sends the farewell and ends.
void HandshakeIo::on_op(int32_t result) {
  const bool receiving = step_ == Step::kHeader || step_ == Step::kBody;
  if (receiving && !op_.control.empty() && result > 0) take_descriptors();
  if (failing_) {
    if (farewell_ && result > 0 && static_cast<size_t>(result) < out_.size()) {
      out_ = out_.subspan(static_cast<size_t>(result));
      return submit_write();
    }
    reactor_.stop(timer_);
    return on_end(Error{why_});
  }
  if (result < 0) {
    const char* what = step_ == Step::kConnect ? "connect failed" : "the connection broke in the handshake";
    return fail(Error{Status::kUnavailable, -result, what});
  }
  const auto bytes = static_cast<size_t>(result);
  switch (step_) {
    case Step::kConnect:
      return on_connected();
    case Step::kHeader:
    case Step::kBody:
      return on_read(bytes);
    case Step::kWrite:
      MEMKV_ASSERT(bytes <= out_.size());
      out_ = out_.subspan(bytes);
      return out_.empty() ? on_written() : submit_write();
    default:
      MEMKV_ASSERT(false, "an op without a step");
  }
}

void HandshakeIo::on_read(size_t bytes) {
  if (bytes == 0) return fail(Error{Status::kUnavailable, 0, "the peer closed the connection in the handshake"});
  have_ += bytes;
  if (have_ < want_) return submit_read();
  if (step_ == Step::kHeader) {
    auto header = wire::decode_header(std::span(buffer_).first<wire::kHeaderBytes>());
    if (!header) return fail(header.error());
    const bool any_version = !op_.control.empty();
    if ((!any_version && header->version != version_) || header->payload_bytes != 0 ||
        header->body_bytes > wire::kHelloBytesMax - wire::kHeaderBytes) {
      return fail(Error{Status::kInvalid, 0, "handshake: bad frame"});
    }
    step_ = Step::kBody;
    want_ += header->body_bytes;
    if (have_ < want_) return submit_read();
  }
  on_frame({buffer_.data(), want_});
}

int HandshakeIo::release_fd() {
  reactor_.stop(timer_);
  return fd_.release();
}

}  // namespace memkv::transport
