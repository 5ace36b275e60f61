#include "tests/tenants/attacks.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <fstream>

namespace memkv::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using wire::OpKind;

constexpr uint32_t kChunk = kChunkBytesMax;
constexpr uint32_t kOpsInFlight = 1024;
constexpr size_t kOpensPerTurn = 16;
constexpr milliseconds kRestAfterRefusal{10};
constexpr uint64_t kWindowsWanted = 1500;

std::string key_of(std::string_view what, uint64_t number) { return std::string(what) + " " + std::to_string(number); }

/// Builds one OPS frame with `count` ops that `op_of(i, key)` makes. It only announces their payloads.
template <typename OpOf>
void queue_ops(RawClient& client, uint16_t count, OpOf&& op_of) {
  std::vector<std::byte> body(64 * 1024);
  wire::OpsEncoder encoder(body);
  for (uint16_t i = 0; i < count; ++i) {
    std::string key;
    wire::Op op = op_of(i, key);
    op.index = i;
    op.key = key;
    if (!encoder.add(op, {})) break;
  }
  client.queue(wire::Opcode::kOps, encoder.finish(), static_cast<uint32_t>(encoder.payload_bytes()));
}

/// B1: 200 connections, each with one put of 2 MiB, of which it sends a byte every 5 s.
class Trickle final : public Attack {
 public:
  size_t connections() const override { return 200; }
  void begin(Peer& peer) override {
    queue_ops(peer.client, 1, [&](uint16_t, std::string& key) {
      key = key_of("trickle", ++next_);
      return wire::Op{.kind = OpKind::kPut, .flags = wire::kOpServerChecksum, .length = kChunk};
    });
  }
  void go_on(Peer& peer) override {
    peer.client.queue_bytes("x");
    peer.due = Clock::now() + seconds(5);
  }

 private:
  uint64_t next_ = 0;
};

/// B2: 40 readers that ask for much, and read 4 KiB a second.
class Readers final : public Attack {
 public:
  size_t connections() const override { return 40; }
  bool reads() const override { return false; }
  void begin(Peer& peer) override {
    const int small = 4096;
    setsockopt(peer.client.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (!stored_) put(peer.client);
    stored_ = true;
    peer.due = Clock::now() + seconds(1);
  }
  void go_on(Peer& peer) override {
    if (peer.in_flight == 0) ask(peer);
    (void)peer.client.pull(4096);
    while (peer.client.next_frame()) {
    }
    peer.due = Clock::now() + seconds(1);
  }

 private:
  static constexpr uint16_t kGets = 32;

  /// Puts the block that all of them read.
  static void put(RawClient& client) {
    queue_ops(client, 1, [&](uint16_t, std::string& key) {
      key = "large";
      return wire::Op{.kind = OpKind::kPut, .flags = wire::kOpServerChecksum, .length = kChunk};
    });
    client.queue_bytes(std::string(kChunk, 'x'));
  }
  static void ask(Peer& peer) {
    queue_ops(peer.client, kGets, [&](uint16_t, std::string& key) {
      key = "large";
      return wire::Op{.kind = OpKind::kGet, .length = kChunk};
    });
    peer.in_flight = kGets;
  }

  bool stored_ = false;
};

/// B3: 1,024 connections that do nothing.
class Idle final : public Attack {
 public:
  size_t connections() const override { return 1024; }
};

/// B4: 8 connections, each with 64 uploads that never end.
class Uploads final : public Attack {
 public:
  size_t connections() const override { return 8; }
  void go_on(Peer& peer) override {
    queue_ops(peer.client, 64, [&](uint16_t, std::string& key) {
      key = key_of("upload", ++next_);
      return wire::Op{.kind = OpKind::kBegin,
                      .flags = wire::kOpServerChecksum,
                      .deadline_us = UINT32_MAX,
                      .offset = 2 * uint64_t{kChunk}};
    });
    peer.due = Clock::now() + seconds(1);
  }

 private:
  uint64_t next_ = 0;
};

/// B5: 4 connections that list all blocks of their namespace again and again.
class Lists final : public Attack {
 public:
  size_t connections() const override { return 4; }
  void begin(Peer& peer) override { ask(peer, 0); }
  void take(Peer& peer, const RawClient::Frame& frame) override {
    const auto body = std::as_bytes(std::span(frame.body));
    wire::ListReplyDecoder decoder(body);
    const bool page = frame.opcode == wire::Opcode::kListReply && decoder.validate();
    if (page || frame.opcode == wire::Opcode::kReply) ask(peer, page ? decoder.next_cursor() : 0);
  }

 private:
  static void ask(Peer& peer, uint64_t cursor) {
    std::array<std::byte, 64> body;
    peer.client.queue(wire::Opcode::kList, std::span(body).first(wire::encode(wire::List{cursor, 0}, body)));
  }
};

/// B6: 4 connections that ask for 16,000 keys at a time and never read the answers.
class Questions final : public Attack {
 public:
  Questions() : body_(wire::kBodyBytesMax) {
    wire::ExistsEncoder encoder(body_, /*touch=*/false);
    for (uint64_t i = 0; i < 16'000 && encoder.add(key_of("key", i)); ++i) {
    }
    body_.resize(encoder.finish().size());
  }
  size_t connections() const override { return 4; }
  bool reads() const override { return false; }
  void go_on(Peer& peer) override { peer.client.queue(wire::Opcode::kExists, body_); }

 private:
  std::vector<std::byte> body_;
};

}  // namespace

// B7.

void Fill::go_on(Peer& peer) {
  constexpr uint16_t kOps = wire::kOpsPerFrameMax;
  if (peer.in_flight + kOps > kOpsInFlight) return;
  queue_ops(peer.client, kOps, [&](uint16_t, std::string& key) {
    key = key_of("fill", ++next_);
    return wire::Op{.kind = OpKind::kPut, .flags = wire::kOpServerChecksum, .length = 1};
  });
  peer.client.queue_bytes(std::string(kOps, 'x'));
  peer.in_flight += kOps;
}

void Fill::take(Peer& peer, const RawClient::Frame& frame) {
  if (frame.opcode != wire::Opcode::kReply) return;
  wire::ReplyDecoder decoder(std::as_bytes(std::span(frame.body)));
  wire::OpReply reply;
  while (peer.in_flight > 0 && decoder.next(reply)) {
    peer.in_flight--;
    if (reply.status == Status::kOk) acknowledged_++;
  }
}

std::unique_ptr<Attack> make_attack(std::string_view name) {
  if (name == "trickle") return std::make_unique<Trickle>();
  if (name == "readers") return std::make_unique<Readers>();
  if (name == "idle") return std::make_unique<Idle>();
  if (name == "uploads") return std::make_unique<Uploads>();
  if (name == "lists") return std::make_unique<Lists>();
  if (name == "questions") return std::make_unique<Questions>();
  if (name == "fill") return std::make_unique<Fill>();
  return nullptr;
}

void Herd::open_more() {
  for (size_t i = 0; i < kOpensPerTurn && peers_.size() < attack_.connections(); ++i) {
    if (Clock::now() < next_open_) return;
    std::string why;
    auto client = RawClient::open(target_, why);
    if (!client) {
      refused_++;
      last_refusal_ = why;
      next_open_ = Clock::now() + kRestAfterRefusal;
      return;
    }
    opened_++;
    attack_.begin(peers_.emplace_back(Peer{.client = std::move(*client)}));
  }
}

/// False: the connection has ended.
bool Herd::serve(Peer& peer, short events) {
  if ((events & (POLLERR | POLLHUP | POLLRDHUP)) != 0) return false;
  if ((events & POLLIN) != 0 && !peer.client.pull(SIZE_MAX)) return false;
  if (attack_.reads()) {
    while (const auto frame = peer.client.next_frame()) attack_.take(peer, *frame);
  }
  if (peer.client.all_sent() && Clock::now() >= peer.due) attack_.go_on(peer);
  return peer.client.push();
}

void Herd::turn() {
  open_more();
  std::vector<pollfd> fds;
  for (const Peer& peer : peers_) {
    const int wanted = POLLRDHUP | (attack_.reads() ? POLLIN : 0) | (peer.client.all_sent() ? 0 : POLLOUT);
    fds.push_back({peer.client.fd(), static_cast<short>(wanted), 0});
  }
  poll(fds.data(), fds.size(), /*ms=*/10);
  size_t kept = 0;
  for (size_t i = 0; i < fds.size(); ++i) {
    if (!serve(peers_[i], fds[i].revents)) {
      ended_++;
      continue;
    }
    if (kept != i) peers_[kept] = std::move(peers_[i]);
    kept++;
  }
  peers_.erase(peers_.begin() + static_cast<ptrdiff_t>(kept), peers_.end());
}

std::string Herd::summary() const {
  return std::to_string(opened_) + " connections opened, " + std::to_string(ended_) + " ended by the server, " +
         std::to_string(refused_) + " refused (" + last_refusal_ + ")";
}

// A4.

void Windows::keep(const base::UniqueFd& fd, bool writable) {
  struct stat file {};
  if (fstat(fd.get(), &file) != 0 || file.st_size == 0) return;
  const auto bytes = static_cast<size_t>(file.st_size);
  void* data = mmap(nullptr, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd.get(), 0);
  if (data != MAP_FAILED) mappings_.push_back({data, bytes, writable});
}

/// Writes to pages again that the server has taken back.
void Windows::touch_all() {
  constexpr size_t kPage = 4096;
  for (const Mapping& mapping : mappings_) {
    auto* bytes = static_cast<volatile char*>(mapping.data);
    for (size_t at = 0; at < mapping.bytes; at += kPage) {
      if (mapping.writable) bytes[at] = 1;
      (void)bytes[at];
    }
  }
}

void Windows::turn() {
  if (taken_ < kWindowsWanted) {
    base::UniqueFd window[2];
    std::string why;
    if (RawClient::take_window(target_, window, why)) {
      taken_++;
      keep(window[0], /*writable=*/false);
      keep(window[1], /*writable=*/true);
    } else {
      refused_++;
      last_refusal_ = why;
      poll(nullptr, 0, /*ms=*/10);
    }
  }
  if (Clock::now() < next_touch_) return;
  touch_all();
  next_touch_ = Clock::now() + std::chrono::seconds(1);
}

std::string Windows::summary() const {
  std::string word, held = "0";
  for (std::ifstream status("/proc/self/status"); status >> word;) {
    if (word == "RssShmem:") status >> held;
  }
  return std::to_string(taken_) + " windows taken, " + std::to_string(refused_) + " refused (" + last_refusal_ +
         "), held " + held + " KiB";
}

}  // namespace memkv::test
