/// Fuzzes both sides of the handshake against a peer that sends anything. First byte: 0 = the input is the server's
/// first frame; 1 = it is the frame after an honest HELLO; else it is the client's answer to its HELLO. Without the
/// secret nobody may get through.

#include <vector>

#include "base/assert.h"
#include "wire/handshake.h"

using namespace memkv;
using namespace memkv::wire;

namespace {

constexpr Secret kSecret = {1, 2, 3};

bool find(void*, const KeyId& id, Secret& out) {
  out = kSecret;
  return id == key_id_of(kSecret);
}

void at_server(std::span<const std::byte> frame, bool after_hello) {
  ServerHandshake server(find, nullptr, "fuzzed");
  if (!after_hello) {
    (void)server.on_hello(frame);
    return;
  }
  ClientHandshake client(kSecret, Hello{});
  MEMKV_ASSERT(server.on_hello(client.start()).ok(), "an honest HELLO is answered");
  MEMKV_ASSERT(!server.on_proof(frame).ok(), "a proof cannot be guessed");
}

void at_client(std::span<const std::byte> frame) {
  ClientHandshake client(kSecret, Hello{});
  (void)client.start();
  MEMKV_ASSERT(!client.on_reply(frame).ok(), "a server's proof cannot be guessed");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > kHelloBytesMax + 64) return 0;
  const std::vector<std::byte> frame(reinterpret_cast<const std::byte*>(data) + 1,
                                     reinterpret_cast<const std::byte*>(data) + size);
  if (data[0] < 2)
    at_server(frame, data[0] == 1);
  else
    at_client(frame);
  return 0;
}
