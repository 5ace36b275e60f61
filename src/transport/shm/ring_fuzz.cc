/// The server's end of a shm connection against a client that writes anything into its ring and its page. First 16
/// bytes: its two indices; the rest: the ring. Nothing may be heard: no MAC can be guessed. Also the frame that brings
/// a window.

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "io/reactor.h"
#include "transport/link.h"
#include "transport/shm/offer.h"

using namespace memkv;
using namespace memkv::transport;

namespace {

constexpr wire::Windows kSizes = {.get_ring_bytes = 4096, .put_ring_bytes = 4096};
const wire::SessionKeys kKeys = {{1, 2}, {3, 4}};

class Deaf final : public LinkOwner {
 public:
  PayloadTarget on_frame(Link&, const wire::FrameHeader&, std::span<const std::byte>) override {
    MEMKV_ASSERT(false, "a forged frame was heard");
    return PayloadTarget::sink();
  }
  void on_payload(Link&) override {}
  void on_closed(Link&, const Error&) override { link.reset(); }
  std::unique_ptr<Link> link;
};

void at_server(const uint8_t* data, size_t size) {
  static const auto reactor = std::move(*io::make_epoll_reactor({.device_threads = 0}));
  auto window = ShmWindow::make(kSizes, nullptr);
  MEMKV_ASSERT(window.ok());
  auto client =
      ShmWindow::take(kSizes, base::UniqueFd(dup((*window)->get_fd())), base::UniqueFd(dup((*window)->in_fd())));
  MEMKV_ASSERT(client.ok());
  int fds[2];
  MEMKV_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
  const base::UniqueFd peer(fds[0]);
  Deaf owner;
  owner.link = make_shm_link(*reactor, fds[1], Role::kServer, kKeys, std::move(*window), owner);
  uint64_t indices[2];
  std::memcpy(indices, data, sizeof indices);
  std::memcpy((*client)->out().data(), data + 16, std::min<size_t>(size - 16, kSizes.put_ring_bytes));
  (*client)->own().written.store(indices[0]);
  (*client)->own().read.store(indices[1]);
  for (int i = 0; i < 4; i++) reactor->run_once(0);
  if (owner.link) owner.link->close(Status::kOk);
  while (owner.link) reactor->run_once(1'000'000);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 16) return 0;
  at_server(data, size);
  std::array<base::UniqueFd, 2> none;
  std::string goodbye;
  MEMKV_ASSERT(!take_windows({reinterpret_cast<const std::byte*>(data), size}, kKeys, none, goodbye).ok());
  return 0;
}
