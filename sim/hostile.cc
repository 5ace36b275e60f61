#include "sim/hostile.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "sim/calls.h"
#include "transport/link.h"
#include "wire/messages.h"

namespace memkv::sim {
/// One hostile connection. With a credential it shakes hands, and then sends frames with a right MAC and senseless
/// bodies, or honest frames that it never finishes. Without one it sends random bytes. It may also stop reading.
class Hostiles::Guest final : public Actor, public transport::LinkOwner {
 public:
  Guest(World& world, Network& network, uint32_t host, uint32_t server_host, const Tenant& tenant, uint64_t seed)
      : Actor("hostile"), loop_(world, network, SimLoop::Likeness::kEpoll, 0), host_(host), random_(seed) {
    const sockaddr_in address = Network::address(server_host, Network::kPort);
    use_host(host_);
    transport::Connector::Options options;
    options.secret = tenant.secret;
    options.hello.version_min = wire::kVersionMin;
    options.hello.version_max = wire::kVersionMax;
    if (random_.chance(1, 4)) options.secret.fill(7);  // a credential that nobody has
    options.client_name = "hostile";
    options.deadline_ns = loop_.now_ns() + 5 * kSecond;
    connector_ = transport::Connector::make(
        loop_, reinterpret_cast<const sockaddr*>(&address), sizeof address, options, *this,
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
    for (uint64_t i = random_.between(1, 4); i > 0; i--) send_nonsense();
  }
  void leave() {
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

  SimLoop loop_;
  const uint32_t host_;
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

void Hostiles::act(uint64_t seed) {
  if (!guests_.empty() && seed % 3 == 0) return guests_[seed / 3 % guests_.size()]->misbehave();
  guests_.push_back(
      std::make_unique<Guest>(world_, network_, first_host_ + ++count_, server_host_, tenant_, base::mix64(seed)));
  world_.add(*guests_.back());
}

void Hostiles::leave() {
  for (auto& guest : guests_) guest->leave();
}

}  // namespace memkv::sim
