#include "sim/hostile.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "io/socket.h"
#include "sim/calls.h"
#include "transport/link.h"
#include "transport/shm/window.h"
#include "wire/messages.h"

namespace memkv::sim {

/// Flips bytes that wait in the ring, or one that was there before; or turns an index or the sleep word into another
/// one, often one that is nearly right.
void scribble_in(std::span<std::byte> memory, base::Random& random) {
  using transport::ShmPage;
  MEMKV_ASSERT(memory.size() > ShmPage::kBytes);
  const std::span<std::byte> ring = memory.first(memory.size() - ShmPage::kBytes);
  auto& page = *reinterpret_cast<ShmPage*>(ring.data() + ring.size());
  const uint64_t written = page.written.load();
  const uint64_t way = random.below(8);
  if (way < 4) {
    for (uint64_t i = random.between(1, 8); i > 0; i--) {
      const uint64_t back = random.chance(3, 4) ? 1 + random.below(std::min<uint64_t>(ring.size(), 4096)) : 0;
      ring[(written - back) & (ring.size() - 1)] ^= static_cast<std::byte>(random.between(1, 255));
    }
    return;
  }
  auto& word = way == 4 ? page.sleep : way == 5 ? page.read : page.written;
  const uint64_t step = random.chance(1, 2) ? random.below(ring.size() * 2) : random.next_u64();
  word.store(random.chance(1, 2) ? word.load() + step : word.load() - step);
}

/// One hostile connection. With a credential it shakes hands, and then sends frames with a right MAC and senseless
/// bodies, or honest frames that it never finishes. Without one it sends random bytes. It may also stop reading.
class Hostiles::Guest final : public Actor, public transport::LinkOwner {
 public:
  Guest(World& world, Network& network, uint32_t host, uint32_t server_host, const Tenant& tenant, uint64_t seed,
        const std::string& socket_path)
      : Actor("hostile"),
        network_(network),
        loop_(world, network, SimLoop::Likeness::kEpoll, 0),
        host_(host),
        shm_(!socket_path.empty()),
        random_(seed) {
    const sockaddr_in over_tcp = Network::address(server_host, Network::kPort);
    const auto over_shm = io::unix_address(socket_path);
    use_host(host_);
    if (shm_) network_.place(host_, server_host);
    transport::Connector::Options options;
    if (shm_) options.transport = Transport::kShm;
    options.secret = tenant.secret;
    options.hello.version_min = wire::kVersionMin;
    options.hello.version_max = wire::kVersionMax;
    if (random_.chance(1, 4)) options.secret.fill(7);  // a credential that nobody has
    options.client_name = "hostile";
    options.deadline_ns = loop_.now_ns() + 5 * kSecond;
    connector_ = transport::Connector::make(
        loop_, shm_ ? over_shm->get() : reinterpret_cast<const sockaddr*>(&over_tcp),
        shm_ ? over_shm->length : sizeof over_tcp, options, *this,
        [](void* context, Result<std::unique_ptr<transport::Link>> link, std::string_view, std::string_view) {
          static_cast<Guest*>(context)->on_link(std::move(link));
        },
        this);
  }

  bool runnable() const override { return loop_.runnable(); }
  uint64_t next_ns() const override { return loop_.next_ns(); }
  void turn() override {
    use_host(host_);
    loop_.run_once(kSecond);
    if (over_) connector_.reset();
  }
  bool gone() const { return over_ && link_ == nullptr; }
  uint32_t host() const { return host_; }

  /// Sends a few bad frames.
  void misbehave() {
    if (link_ == nullptr || closed_) return;
    loop_.touch();
    if (shm_ && random_.chance(1, 2)) {
      const auto memory = network_.memory().writable(host_);
      return scribble_in(memory[0], random_);
    }
    for (uint64_t i = random_.between(1, 4); i > 0; i--) send_nonsense();
  }
  void leave() {
    network_.memory().keep_all(host_, false);
    loop_.touch();
    if (link_ != nullptr && !closed_) link_->close(Status::kCanceled);
    if (connector_ && !over_) connector_->cancel();
  }

  transport::PayloadTarget on_frame(transport::Link&, const wire::FrameHeader&, std::span<const std::byte>) override {
    return random_.chance(1, 6) ? transport::PayloadTarget::pause() : transport::PayloadTarget::sink();
  }
  void on_payload(transport::Link&) override {}
  void on_closed(transport::Link&, const Error&) override {
    closed_ = true;
    link_.reset();
  }

 private:
  struct Out {
    transport::SendFrame frame;
    std::vector<std::byte> body;
  };

  void on_link(Result<std::unique_ptr<transport::Link>> link) {
    over_ = true;
    if (!link) return;
    link_ = std::move(*link);
    if (shm_ && random_.chance(1, 2)) network_.memory().keep_all(host_, true);
    if (shm_ && random_.chance(1, 3)) return link_->close(Status::kCanceled);
    misbehave();
  }

  void send_nonsense() {
    out_.push_back(std::make_unique<Out>());
    Out& out = *out_.back();
    out.body.resize(random_.below(random_.chance(1, 3) ? 4000 : 200));
    random_.fill(out.body);
    // Small numbers are drawn more often, since they pass the first checks.
    for (std::byte& b : out.body) b = random_.chance(2, 3) ? static_cast<std::byte>(random_.below(3)) : b;
    out.frame.opcode = static_cast<wire::Opcode>(random_.below(40));
    out.frame.request_id = random_.below(8);
    out.frame.body = out.body;
    out.frame.on_done = [](transport::SendFrame&, bool) {};
    (void)link_->send(out.frame);
  }

  Network& network_;
  SimLoop loop_;
  const uint32_t host_;
  const bool shm_;
  base::Random random_;
  std::vector<std::unique_ptr<Out>> out_;
  std::unique_ptr<transport::Connector> connector_;
  std::unique_ptr<transport::Link> link_;
  bool over_ = false, closed_ = false;
};

Hostiles::Hostiles(World& world, Network& network, uint32_t server_host, uint32_t first_host, Tenant tenant)
    : world_(world),
      network_(network),
      server_host_(server_host),
      first_host_(first_host),
      tenant_(std::move(tenant)) {}

Hostiles::~Hostiles() {
  for (auto& guest : guests_) {
    world_.remove(*guest);
    (void)guest.release();  // at the run's end, with its process
  }
}

void Hostiles::act(uint64_t seed, const ServerProcess* shm) {
  if (!guests_.empty() && seed % 3 == 0) return guests_[seed / 3 % guests_.size()]->misbehave();
  guests_.push_back(std::make_unique<Guest>(world_, network_, first_host_ + ++count_, server_host_, tenant_,
                                            base::mix64(seed), shm != nullptr ? shm->socket_path() : std::string()));
  world_.add(*guests_.back());
}

void Hostiles::leave() {
  for (auto& guest : guests_) guest->leave();
}

}  // namespace memkv::sim
