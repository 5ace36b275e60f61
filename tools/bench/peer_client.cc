/// The one client for bare servers, memcached and redis. It pipelines requests, with a thread and a blocking socket for
/// each connection.

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "io/huge_memory.h"
#include "io/socket.h"
#include "tools/bench/bare.h"
#include "tools/bench/pattern.h"
#include "tools/bench/peer.h"
#include "tools/bench/rounds.h"

namespace memkv::bench {
namespace {

/// The protocol of a peer: requests and responses have a fixed size once the block's size is known.
class Protocol {
 public:
  Protocol(PeerKind kind, uint64_t block) : kind_(kind), block_(block) {
    switch (kind) {
      case PeerKind::kBare:
        get_head = sizeof(BareHeader), put_reply = sizeof(BareHeader);
        break;
      case PeerKind::kMemcached:
        get_head = fmt::format("VALUE {} 0 {}\r\n", key(0), block).size(), get_tail = 7;  // \r\nEND\r\n
        put_tail = "\r\n", put_reply = 8;                                                 // STORED\r\n
        break;
      case PeerKind::kRedis:
        get_head = fmt::format("${}\r\n", block).size(), get_tail = 2;
        put_tail = "\r\n", put_reply = 5;  // +OK\r\n
        break;
    }
  }
  void head(std::string& out, bool put, uint64_t number) const {
    switch (kind_) {
      case PeerKind::kBare: {
        const BareHeader header{put ? 1u : 0u, static_cast<uint32_t>(block_), number};
        out.append(reinterpret_cast<const char*>(&header), sizeof header);
        return;
      }
      case PeerKind::kMemcached:
        out += put ? fmt::format("set {} 0 0 {}\r\n", key(number), block_) : fmt::format("get {}\r\n", key(number));
        return;
      case PeerKind::kRedis:
        if (put)
          fmt::format_to(std::back_inserter(out), "*3\r\n$3\r\nSET\r\n$16\r\n{}\r\n${}\r\n", key(number), block_);
        else
          fmt::format_to(std::back_inserter(out), "*2\r\n$3\r\nGET\r\n$16\r\n{}\r\n", key(number));
        return;
    }
  }
  size_t get_head = 0, get_tail = 0, put_reply = 0;
  std::string put_tail;

 private:
  static std::string key(uint64_t number) { return fmt::format("{:016x}", number); }
  PeerKind kind_;
  uint64_t block_;
};

class PeerThread final : public Worker {
 public:
  PeerThread(const PeerPlan& plan, uint32_t index, std::span<std::byte> memory, base::UniqueFd socket)
      : plan_(plan),
        memory_(memory),
        socket_(std::move(socket)),
        protocol_(plan.peer->kind, plan.block_bytes),
        first_(plan.keys * index / plan.connections),
        count_(std::max<uint64_t>(1, plan.keys * (index + 1) / plan.connections - first_)),
        left_(plan.bytes / plan.connections / plan.block_bytes) {
    scratch_.resize(std::max({protocol_.get_head, protocol_.get_tail, protocol_.put_reply * plan.depth}) + 64);
  }

  bool prepare() override {
    used_ = failed ? 0 : std::min<uint64_t>(left_, memory_.size() / plan_.block_bytes);
    left_ -= used_;
    for (uint64_t i = 0; i < used_; i++) {
      std::byte* data = memory_.data() + i * plan_.block_bytes;
      if (plan_.put)
        fill_pattern(data, plan_.block_bytes, pattern_seed(number(i), 1));
      else
        std::memset(data, 0xA5, plan_.block_bytes);
    }
    return used_ > 0;
  }
  void go() override { failed = failed || !(plan_.put ? puts() : gets()); }
  void check() override {
    if (!failed && !plan_.put && plan_.peer->kind != PeerKind::kBare) {
      for (uint64_t i = 0; i < used_; i++) {
        const std::byte* data = memory_.data() + i * plan_.block_bytes;
        if (!matches_pattern(data, plan_.block_bytes, pattern_seed(number(i), 1))) failed = true;
      }
    }
    base_ += used_;
  }
  uint64_t bytes_done() const override { return ops * plan_.block_bytes; }

  uint64_t ops = 0;
  bool failed = false;
  base::Histogram latency;

 private:
  uint64_t number(uint64_t i) const { return first_ + (base_ + i) % count_; }
  std::byte* block(uint64_t i) { return memory_.data() + i * plan_.block_bytes; }
  void hash(uint64_t i) {
    if (plan_.hash) hash_block({block(i), plan_.block_bytes}, i);
  }

  bool gets() {
    uint64_t sent = 0;
    for (uint64_t received = 0; received < used_; received++) {
      const double started = monotonic_seconds();
      if (sent - received <= plan_.depth / 2) {
        request_.clear();
        for (; sent < used_ && sent - received < plan_.depth; sent++) protocol_.head(request_, false, number(sent));
        iovec piece{request_.data(), request_.size()};
        if (!request_.empty() && !send_all(socket_.get(), {&piece, 1})) return false;
      }
      iovec pieces[] = {{scratch_.data(), protocol_.get_head},
                        {block(received), plan_.block_bytes},
                        {scratch_.data(), protocol_.get_tail}};
      if (!receive_all(socket_.get(), std::span(pieces, protocol_.get_tail > 0 ? 3 : 2))) return false;
      hash(received);
      if (plan_.depth == 1) latency.record(static_cast<uint64_t>((monotonic_seconds() - started) * 1e9));
      ops++;
    }
    return true;
  }

  bool send_put(uint64_t i) {
    request_.clear();
    protocol_.head(request_, true, number(i));
    if (pipe_) return pipe_->send(socket_.get(), base::as_bytes(request_), {block(i), plan_.block_bytes});
    iovec pieces[] = {{request_.data(), request_.size()},
                      {block(i), plan_.block_bytes},
                      {protocol_.put_tail.data(), protocol_.put_tail.size()}};
    return send_all(socket_.get(), std::span(pieces, protocol_.put_tail.empty() ? 2 : 3));
  }

  bool puts() {
    if (plan_.lend && !pipe_ && !(pipe_ = PagePipe::make())) return false;
    uint64_t received = 0;
    for (uint64_t sent = 0; sent < used_;) {
      const double started = monotonic_seconds();
      hash(sent);
      if (!send_put(sent)) return false;
      sent++;
      if (sent - received < plan_.depth && sent < used_) continue;
      const uint64_t replies = sent == used_ ? sent - received : std::max<uint64_t>(1, plan_.depth / 2);
      iovec reply{scratch_.data(), protocol_.put_reply * replies};
      if (!receive_all(socket_.get(), {&reply, 1})) return false;
      received += replies;
      ops += replies;
      if (plan_.depth == 1) latency.record(static_cast<uint64_t>((monotonic_seconds() - started) * 1e9));
    }
    return true;
  }

  const PeerPlan& plan_;
  const std::span<std::byte> memory_;
  const base::UniqueFd socket_;
  std::optional<PagePipe> pipe_;  // of a plan that lends
  Protocol protocol_;
  const uint64_t first_, count_;
  uint64_t left_, used_ = 0, base_ = 0;
  std::vector<char> scratch_;
  std::string request_;
};

Result<base::UniqueFd, Message> dial(uint16_t port, const std::string& congestion) {
  base::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!congestion.empty()) (void)io::set_congestion(fd.get(), congestion);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  (void)io::set_nodelay(fd.get());
  for (int attempt = 0; attempt < 500; attempt++) {
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
    usleep(10'000);
  }
  return Message{Status::kUnavailable, fmt::format("nothing listens on 127.0.0.1:{}", port)};
}

}  // namespace

/// A thread for each connection, and rounds until the time or the bytes are over. The process of the peer is part of the
/// CPU time.
Result<void, Message> run_peer(const PeerPlan& plan, PeerResult& result) {
  const uint64_t share = std::max(plan.window_bytes / plan.connections, plan.block_bytes);
  auto memory = io::HugeMemory::make(share * plan.connections, /*prefault=*/true);
  if (!memory) return Message{memory.error().status, "no memory for the buffers: use a smaller --window"};
  std::vector<std::unique_ptr<Worker>> workers;
  for (uint32_t i = 0; i < plan.connections; i++) {
    auto socket = dial(plan.peer->port, plan.congestion);
    if (!socket) return socket.error();
    workers.push_back(
        std::make_unique<PeerThread>(plan, i, memory->bytes().subspan(i * share, share), std::move(*socket)));
  }
  RoundOptions options;
  options.seconds_max = plan.seconds_max;
  options.extra_cpu = [pid = plan.peer->child->pid()] { return cpu_seconds_of(pid); };
  const RoundTimes times = run_rounds(workers, options);
  result.seconds += times.seconds;
  result.cpu_seconds += times.cpu_seconds + times.extra_seconds;
  for (const auto& worker : workers) {
    const auto& part = static_cast<PeerThread&>(*worker);
    if (part.failed) return Message{Status::kIo, "a peer answered with other bytes than were put, or went away"};
    result.ops += part.ops;
    result.bytes += part.ops * plan.block_bytes;
    result.latency.merge(part.latency);
  }
  return {};
}

}  // namespace memkv::bench
