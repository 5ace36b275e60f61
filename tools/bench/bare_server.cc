/// The least that a server has to do: MemKV's numbers are measured against it. Also starts the peers.

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <thread>
#include <vector>

#include "base/thread.h"
#include "base/unique_fd.h"
#include "io/device.h"
#include "io/huge_memory.h"
#include "io/reactor.h"
#include "io/socket.h"
#include "tools/bench/bare.h"
#include "tools/bench/peer.h"

namespace memkv::bench {
namespace {

constexpr uint64_t kColdBytes = 256 << 20;  // more than any cache holds

/// Blocks lie in cold memory. Each connection has a thread with blocking calls, and there is nothing else.
class MemoryServer {
 public:
  explicit MemoryServer(const BareOptions& options) : options_(options) {
    auto memory = io::HugeMemory::make(kColdBytes, /*prefault=*/true);
    if (memory) cold_ = std::move(*memory);
  }
  bool ready() const { return cold_.size() > 0; }

  void serve(int fd) {
    auto pipe = options_.lend ? PagePipe::make() : std::nullopt;
    if (options_.lend && !pipe) return;
    BareHeader header;
    for (iovec head{&header, sizeof header}; receive_all(fd, {&head, 1}); head = {&header, sizeof header}) {
      if (header.bytes > cold_.size()) return;
      std::byte* block = take(header.bytes);
      iovec pieces[] = {{&header, sizeof header}, {block, header.bytes}};
      if (header.put != 0) {
        iovec payload{block, header.bytes};
        if (!receive_all(fd, {&payload, 1})) return;
        if (options_.hash) hash_block({block, header.bytes}, 1);
      } else if (pipe) {
        if (!pipe->send(fd, base::bytes_of(&header, sizeof header), {block, header.bytes})) return;
        continue;
      }
      if (!send_all(fd, std::span(pieces, header.put != 0 ? 1 : 2))) return;
    }
  }

 private:
  std::byte* take(uint64_t bytes) {
    const uint64_t rooms = cold_.size() / bytes;
    return cold_.data() + next_.fetch_add(1, std::memory_order_relaxed) % rooms * bytes;
  }
  const BareOptions options_;
  io::HugeMemory cold_;
  std::atomic<uint64_t> next_{0};
};

/// Blocks go from the drive to the socket and back. Each connection has a reactor.
class DriveConnection {
 public:
  DriveConnection(const BareOptions& options, io::DriveFile& file, int fd) : options_(options), fd_(fd) {
    reactor_ = std::move(*io::make_reactor({.kind = io::ReactorKind::kAuto}, nullptr));
    device_ = file.bind(*reactor_);
    slots_.resize(std::clamp<uint64_t>(kColdBytes / options.block_bytes, 2, 64));
    memory_ = std::move(*io::HugeMemory::make(slots_.size() * options.block_bytes, true));
    reactor_->register_memory(memory_.bytes());
    for (size_t i = 0; i < slots_.size(); i++) {
      slots_[i].owner = this;
      slots_[i].piece = {memory_.data() + i * options.block_bytes, options.block_bytes};
      free_.push_back(&slots_[i]);
    }
    receive_.context = send_.context = this;
    receive_.on_done = [](io::IoOp& op, int32_t n) { static_cast<DriveConnection*>(op.context)->on_received(n); };
    send_.on_done = [](io::IoOp& op, int32_t n) { static_cast<DriveConnection*>(op.context)->on_sent(n); };
  }

  void run() {
    receive();
    while (!ended_ || reactor_->pending() > 0) reactor_->run_once(100'000'000);
  }

 private:
  struct Slot {
    DriveConnection* owner = nullptr;
    io::IoOp io;
    iovec piece{};
    BareHeader header{};
  };

  void receive() {
    if (receiving_ || ended_) return;
    if (at_ < sizeof header_) {
      incoming_ = {reinterpret_cast<char*>(&header_) + at_, sizeof header_ - at_};
    } else {
      if (free_.empty()) return;  // the next slot that comes back goes on
      Slot& slot = *free_.back();
      slot.header = header_;
      const size_t in_block = at_ - sizeof header_;
      if (header_.put == 0 || in_block == options_.block_bytes) {
        free_.pop_back();
        at_ = 0;
        start(slot);
        return receive();
      }
      incoming_ = {static_cast<char*>(slot.piece.iov_base) + in_block, options_.block_bytes - in_block};
    }
    receiving_ = true;
    ended_ = !reactor_->recv(receive_, fd_, {&incoming_, 1}).ok();
  }
  void on_received(int32_t n) {
    receiving_ = false;
    if (n <= 0) ended_ = true;
    if (n > 0) at_ += static_cast<size_t>(n);
    receive();
  }
  void start(Slot& slot) {
    slot.io.context = &slot;
    slot.io.on_done = [](io::IoOp& op, int32_t n) {
      auto& done = *static_cast<Slot*>(op.context);
      if (n < 0) done.owner->ended_ = true;
      done.owner->to_send_.push_back(&done);
      done.owner->send();
    };
    const uint64_t offset = slot.header.number % (options_.drive_bytes / options_.block_bytes) * options_.block_bytes;
    const auto started = slot.header.put != 0
                             ? device_->write(slot.io, offset, {&slot.piece, 1}, device_->info().volatile_cache)
                             : device_->read(slot.io, offset, {&slot.piece, 1});
    if (!started) ended_ = true;
  }
  void send() {
    if (sending_ > 0 || to_send_.empty() || ended_) return;
    outgoing_.clear();
    for (; sending_ < to_send_.size() && sending_ < 16; sending_++) {
      Slot& slot = *to_send_[sending_];
      outgoing_.push_back({&slot.header, sizeof slot.header});
      if (slot.header.put == 0) outgoing_.push_back(slot.piece);
    }
    outgoing_at_ = 0;
    ended_ = !reactor_->send(send_, fd_, outgoing_).ok();
  }
  void on_sent(int32_t n) {
    if (n <= 0) {
      ended_ = true;
      return;
    }
    auto left = static_cast<size_t>(n);
    while (outgoing_at_ < outgoing_.size() && left >= outgoing_[outgoing_at_].iov_len) {
      left -= outgoing_[outgoing_at_++].iov_len;
    }
    if (outgoing_at_ < outgoing_.size()) {
      iovec& piece = outgoing_[outgoing_at_];
      piece = {static_cast<char*>(piece.iov_base) + left, piece.iov_len - left};
      ended_ = !reactor_->send(send_, fd_, std::span(outgoing_).subspan(outgoing_at_)).ok();
      return;
    }
    for (; sending_ > 0; sending_--) {
      free_.push_back(to_send_.front());
      to_send_.pop_front();
    }
    send();
    receive();
  }

  const BareOptions& options_;
  const int fd_;
  std::unique_ptr<io::Reactor> reactor_;
  std::unique_ptr<io::BlockDevice> device_;
  io::HugeMemory memory_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_;
  std::deque<Slot*> to_send_;
  BareHeader header_{};
  size_t at_ = 0;  // bytes of this request that have arrived
  iovec incoming_{};
  std::vector<iovec> outgoing_;
  size_t outgoing_at_ = 0, sending_ = 0;
  io::IoOp receive_, send_;
  bool receiving_ = false, ended_ = false;
};

/// The child process of the bare servers. Each connection has a thread, which sends blocks from memory or from one
/// drive, or takes them. Ends when the listener is closed.
int serve(const BareOptions& options, int listener) {
  std::unique_ptr<MemoryServer> memory;
  std::unique_ptr<io::DriveFile> file;
  if (options.drive.empty()) {
    memory = std::make_unique<MemoryServer>(options);
    if (!memory->ready()) return 1;
  } else {
    auto opened = io::DriveFile::open(options.drive, {.lock = false});
    if (!opened) return 1;
    file = std::move(*opened);
  }
  fcntl(listener, F_SETFL, 0);  // blocking, since this process does nothing else
  while (true) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return 1;
    (void)io::set_nodelay(fd);
    auto thread = base::start_thread("memkv-bare", [&, fd] {
      const base::UniqueFd owned(fd);
      if (memory)
        memory->serve(fd);
      else
        DriveConnection(options, *file, fd).run();
    });
    if (!thread) return ::close(fd), 1;
    thread->detach();
  }
}

/// A port of loopback that was free a moment ago.
uint16_t free_port() {
  const auto listener = io::listen_tcp("127.0.0.1", 0, {});
  return listener ? io::local_port(listener->get()) : 0;
}

}  // namespace

Result<Peer, Message> start_bare(const BareOptions& options) {
  const auto listener = io::listen_tcp("127.0.0.1", 0, {.congestion = options.congestion});
  if (!listener) return listener.error();
  Peer peer;
  peer.port = io::local_port(listener->get());
  peer.child = Child::fork("", [&] { return serve(options, listener->get()); });
  return peer;
}

Result<Peer, Message> start_memcached(const std::string& dir) {
  Peer peer;
  peer.kind = PeerKind::kMemcached;
  peer.port = free_port();
  peer.child =
      Child::exec(dir + "/memcached.log", {"memcached", "-u", "root", "-l", "127.0.0.1", "-p",
                                           std::to_string(peer.port), "-U", "0", "-t", "2", "-m", "4096", "-I", "32m"});
  return peer;
}

Result<Peer, Message> start_redis(const std::string& dir) {
  Peer peer;
  peer.kind = PeerKind::kRedis;
  peer.port = free_port();
  peer.child = Child::exec(dir + "/redis.log", {"redis-server", "--port", std::to_string(peer.port), "--bind",
                                                "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir});
  return peer;
}

}  // namespace memkv::bench
