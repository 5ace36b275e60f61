#pragma once
/// For tests: a worker with a memory store and a client's end of a link, in one thread on one reactor.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/checksum.h"
#include "base/chunk_seed.h"
#include "base/clock.h"
#include "format/layout.h"
#include "shard/worker.h"
#include "transport/link.h"

namespace memkv::shard {

inline constexpr uint64_t kTestNamespace = 77;
inline constexpr ClientId kTestClient = {7, 7, 7};
inline const wire::SessionKeys kTestKeys = {{1, 2}, {3, 4}};

inline std::string pattern(size_t bytes, uint32_t seed = 1) {
  std::string text(bytes, '\0');
  uint32_t x = seed * 2654435761u + 1;
  for (char& c : text) x = x * 1664525u + 1013904223u, c = static_cast<char>(x >> 24);
  return text;
}

/// The sums of the range [at, at + data.size()) of a chunk, as a client sends them.
inline std::vector<uint64_t> sums_of(std::string_view key, std::string_view data, uint32_t chunk = 0, uint64_t at = 0) {
  const uint64_t seed = base::chunk_seed(kTestNamespace, key, chunk);
  std::vector<uint64_t> sums;
  for (size_t done = 0; done < data.size();) {
    const uint64_t grain = (at + done) / base::kGrainBytes;
    const size_t piece = std::min<size_t>((grain + 1) * base::kGrainBytes - at - done, data.size() - done);
    sums.push_back(base::xxh3(base::as_bytes(data.substr(done, piece)), seed + grain));
    done += piece;
  }
  return sums;
}

struct Reply {
  uint64_t request_id = 0;
  wire::OpReply op;
  std::vector<uint64_t> sums;
  std::string payload;
};

/// The client's end: records everything, and keeps replies by op.
class TestClient final : public transport::LinkOwner {
 public:
  transport::PayloadTarget on_frame(transport::Link&, const wire::FrameHeader& header,
                                    std::span<const std::byte> body) override {
    opcodes.push_back(header.opcode);
    bodies.emplace_back(reinterpret_cast<const char*>(body.data()), body.size());
    if (header.opcode == wire::Opcode::kWelcome) welcome = *wire::decode_welcome(body);
    if (header.opcode == wire::Opcode::kGoodbye) goodbye = wire::decode_goodbye(body)->status;
    if (header.opcode == wire::Opcode::kReply) hear_reply(header, body);
    payload.assign(header.payload_bytes, '?');
    piece = {payload.data(), payload.size()};
    return transport::PayloadTarget::into({&piece, 1});
  }
  void on_payload(transport::Link&) override {
    size_t at = 0;
    for (size_t i = first_of_frame; i < replies.size(); i++) {
      replies[i].payload = payload.substr(at, replies[i].op.payload_bytes);
      at += replies[i].op.payload_bytes;
    }
  }
  void on_closed(transport::Link&, const Error& why) override {
    closed = true;
    closed_why = why;
  }

  /// Adds an op to the frame; the first one starts it. Then call send().
  TestClient& op(wire::Op wire_op, std::string_view data = {}, std::vector<uint64_t> sums = {}) {
    if (!encoder) {
      frames.push_back(std::make_unique<Out>());
      const uint64_t made_us = base::SystemClock().now_ns() / 1000 - late_us;
      encoder.emplace(frames.back()->body, wire::OpsHeader{.made_us = made_us, .epoch = epoch});
    }
    Out& out = *frames.back();
    wire_op.index = static_cast<uint16_t>(encoder->count());
    if (wire::has_payload(wire_op.kind)) wire_op.length = static_cast<uint32_t>(data.size());
    EXPECT_TRUE(encoder->add(wire_op, sums));
    out.payload.append(data);
    return *this;
  }
  uint64_t send() {
    Out& out = *frames.back();
    out.frame.opcode = wire::Opcode::kOps;
    out.frame.request_id = ++last_request;
    out.frame.body = encoder->finish();
    out.piece = {out.payload.data(), out.payload.size()};
    if (!out.payload.empty()) out.frame.payload = {&out.piece, 1};
    out.frame.on_done = [](transport::SendFrame&, bool) {};
    encoder.reset();
    EXPECT_TRUE(link->send(out.frame).ok());
    return last_request;
  }
  uint64_t send_plain(wire::Opcode opcode, auto&& encode) {
    frames.push_back(std::make_unique<Out>());
    Out& out = *frames.back();
    out.frame.opcode = opcode;
    out.frame.request_id = ++last_request;
    out.frame.body = {out.body.data(), encode(std::span<std::byte>(out.body))};
    out.frame.on_done = [](transport::SendFrame&, bool) {};
    EXPECT_TRUE(link->send(out.frame).ok());
    return last_request;
  }
  /// Sends the first frame of a connection, which says which client it belongs to.
  void introduce(const ClientId& id = kTestClient) {
    send_plain(wire::Opcode::kIntroduce,
               [&](std::span<std::byte> body) { return wire::encode(wire::Introduce{.client_id = id}, body); });
  }
  const Reply* find(uint64_t request, uint16_t index = 0) const {
    for (const Reply& reply : replies) {
      if (reply.request_id == request && reply.op.index == index) return &reply;
    }
    return nullptr;
  }
  size_t count(wire::Opcode opcode) const {
    return static_cast<size_t>(std::count(opcodes.begin(), opcodes.end(), opcode));
  }
  const std::string& last(wire::Opcode opcode) const {
    for (size_t i = opcodes.size(); i > 0; i--) {
      if (opcodes[i - 1] == opcode) return bodies[i - 1];
    }
    return bodies.front();
  }

  uint64_t epoch = 1;    ///< of frames that are begun from now on
  uint64_t late_us = 0;  ///< frames say that they were made so long ago
  std::unique_ptr<transport::Link> link;
  wire::Welcome welcome;
  Status goodbye = Status::kOk;
  bool closed = false;
  Error closed_why;
  std::vector<wire::Opcode> opcodes;
  std::vector<std::string> bodies;
  std::vector<Reply> replies;

 private:
  struct Out {
    transport::SendFrame frame;
    std::array<std::byte, wire::kBodyBytesMax> body;
    std::string payload;
    iovec piece{};
  };
  void hear_reply(const wire::FrameHeader& header, std::span<const std::byte> body) {
    wire::ReplyDecoder decoder(body);
    ASSERT_TRUE(decoder.validate(header.payload_bytes).ok());
    first_of_frame = replies.size();
    wire::OpReply reply;
    while (decoder.next(reply)) {
      Reply heard{header.request_id, reply, {}, {}};
      for (size_t i = 0; i < reply.sum_count; i++) heard.sums.push_back(reply.sum(i));
      replies.push_back(std::move(heard));
    }
  }

  std::vector<std::unique_ptr<Out>> frames;
  std::optional<wire::OpsEncoder> encoder;
  uint64_t last_request = 0;
  std::string payload;
  iovec piece{};
  size_t first_of_frame = 0;
};

inline Identity test_identity(uint8_t shards = 1) {
  Identity identity;
  identity.shard_seed = 5;
  identity.digest_key = {1, 2};
  identity.shard_count = shards;
  return identity;
}

void run_until(Worker& worker, auto&& done) {
  const uint64_t limit = worker.now_ns() + 5'000'000'000;
  while (!done()) {
    ASSERT_LT(worker.now_ns(), limit) << "not in time";
    worker.turn(1'000'000);
  }
}

inline WorkerOptions test_worker_options() {
  WorkerOptions options;
  options.ops_max = 64;
  options.frames_max = 64;
  options.connections_max = 4;
  options.uploads_max = 8;
  options.slots = {{(2u << 20) + 8192, 4}, {72 * 1024, 8}, {16 * 1024, 16}};
  options.spin_ns = 0;
  options.drain_ns = 500'000'000;
  return options;
}

inline std::unique_ptr<io::Reactor> test_reactor() {
  auto reactor = io::make_reactor({.kind = io::ReactorKind::kEpoll, .ops_max = 512, .device_threads = 1}, nullptr);
  return std::move(reactor).value();
}

/// A memory store of `bytes` for shard `number` of `shards`.
/// `views` false: served like a drive, through slots.
inline ShardPlan memory_plan(Worker& worker, std::shared_ptr<io::MemoryStorage> storage, uint64_t bytes,
                             uint32_t number, uint32_t shards, bool views = true) {
  auto device = io::make_memory_device(worker.reactor(), std::move(storage), views);
  const auto layout = format::choose_layout(bytes, shards);
  EXPECT_TRUE(layout);
  ShardPlan plan;
  plan.number = number;
  plan.options.shard = number;
  plan.options.memory_mode = views;
  plan.options.stripe_width = 1;
  plan.options.index_entries_max = 10000;
  engine::DriveSlice slice;
  slice.device = device.get();
  slice.offset_bytes = format::kSlicesOffset + number * layout->slice_bytes;
  slice.size_bytes = layout->slice_bytes;
  slice.segment_bytes = layout->segment_bytes;
  plan.options.slices = {slice};
  worker.stores().keep(std::move(device));
  return plan;
}

}  // namespace memkv::shard
