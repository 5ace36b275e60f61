/// EXISTS: a list of keys, a bitmap. Memory only; a long list in steps.

#include <cstring>

#include "base/assert.h"
#include "shard/connection.h"
#include "shard/request_ops.h"
#include "shard/worker.h"

namespace memkv::shard {
namespace {

enum class Looked : uint8_t { kAll, kWrongWorker };

/// The next `keys` of the list, from number `at` on.
Looked look_up(Connection& connection, wire::ExistsDecoder& decoder, uint32_t at, uint32_t keys,
               std::span<uint8_t> bits) {
  Worker& worker = connection.worker();
  engine::BlockKey block;
  block.namespace_id = connection.namespace_id();
  for (const uint32_t end = at + keys; at < end && decoder.next(block.key); at++) {
    Shard* shard = worker.stores().find(block.key, block.namespace_id);
    if (shard == nullptr) return Looked::kWrongWorker;
    block.digest = engine::digest_of(worker.identity().digest_key, block.namespace_id, block.key);
    const bool there = decoder.touch() ? shard->store->touch(block) : shard->store->exists(block);
    if (there) bits[at / 8] = static_cast<uint8_t>(bits[at / 8] | (1u << (at % 8)));
  }
  return Looked::kAll;
}

void answer(Connection& connection, uint64_t request_id, std::span<const uint8_t> bits, uint32_t count) {
  Worker& worker = connection.worker();
  worker.count(worker.mutable_stats().ops);
  const bool sent = connection.replies().send_control(
      wire::Opcode::kExistsReply, request_id, [&](auto out) { return wire::encode_exists_reply(bits, count, out); });
  if (!sent) connection.close(Status::kBusy);
}

void end(ExistsOp& exists) {
  Connection& connection = *exists.connection;
  Worker& worker = connection.worker();
  worker.tenants().give(connection.holder(), kPooledQuestions);
  worker.pools().exists_ops.give_back(exists);
  connection.unhold();
}

void step(Walk& walk) {
  auto& exists = static_cast<ExistsOp&>(walk);
  Connection& connection = *exists.connection;
  if (connection.closing()) return end(exists);
  if (look_up(connection, *exists.decoder, exists.at, kExistsStepKeys, exists.bits) == Looked::kWrongWorker) {
    connection.replies().fail_wrong_worker(exists.request_id);
    return end(exists);
  }
  exists.at += kExistsStepKeys;
  if (exists.at < exists.count) return connection.worker().walk_on(exists);
  answer(connection, exists.request_id, exists.bits, exists.count);
  end(exists);
}

}  // namespace

void start_exists(Connection& connection, uint64_t request_id, std::span<const std::byte> body) {
  wire::ExistsDecoder decoder(body);
  const auto count = decoder.validate();
  if (!count) return connection.protocol_error(count.error().what);
  Worker& worker = connection.worker();
  if (worker.draining()) return connection.replies().fail_request(request_id, Status::kUnavailable);
  if (!worker.ready()) return connection.replies().fail_request(request_id, Status::kNotReady);
  if (*count <= kExistsStepKeys) {
    std::array<uint8_t, kExistsStepKeys / 8> bits{};
    const Looked looked = look_up(connection, decoder, 0, *count, bits);
    if (looked == Looked::kWrongWorker) return connection.replies().fail_wrong_worker(request_id);
    return answer(connection, request_id, bits, *count);
  }
  const bool fits = worker.tenants().fits(connection.holder(), kPooledQuestions);
  ExistsOp* exists = fits ? worker.pools().exists_ops.take() : nullptr;
  if (exists == nullptr) {
    worker.count(worker.mutable_stats().busy);
    return connection.replies().fail_request(request_id, Status::kBusy);
  }
  worker.tenants().take(connection.holder(), kPooledQuestions);
  connection.hold();
  exists->state() = {.connection = &connection, .request_id = request_id, .count = *count};
  std::memcpy(exists->body.data(), body.data(), body.size());
  exists->decoder.emplace(std::span<const std::byte>(exists->body).first(body.size()));
  exists->step = step;
  worker.walk_on(*exists);
}

}  // namespace memkv::shard
