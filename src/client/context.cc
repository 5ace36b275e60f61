#include "client/context.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace memkv::client {
namespace {

constexpr uint32_t kReactorOpsMax = 65536;

std::vector<std::string> names_of(const Settings& settings) {
  std::vector<std::string> names;
  for (const ServerAddress& server : settings.servers) names.push_back(server.name);
  return names;
}

}  // namespace

Context::Context(const Settings& settings)
    : machine_(settings),
      placement_(names_of(settings)),
      watch_(
          machine_, [](io::Timer& timer) { static_cast<Context*>(timer.context)->on_tick(); }, this),
      calls_(machine_, placement_),
      shared_{machine_, calls_.units(), frames_, watch_} {}

Result<std::unique_ptr<Context>, Message> Context::make(const Settings& settings) {
  auto reactor =
      io::make_epoll_reactor({.kind = io::ReactorKind::kEpoll, .ops_max = kReactorOpsMax, .device_threads = 0});
  if (!reactor) {
    const Error& error = reactor.error();
    const char* hint = error.sys_errno == EMFILE || error.sys_errno == ENFILE ? ": see ulimit -n" : "";
    return Message{error.status, std::string("the client cannot open its event loop: ") + error.what + ": " +
                                     std::strerror(error.sys_errno) + hint};
  }
  return make(settings, std::move(*reactor));
}

Result<std::unique_ptr<Context>, Message> Context::make(const Settings& settings,
                                                        std::unique_ptr<io::Reactor> reactor) {
  std::unique_ptr<Context> context(new Context(settings));
  if (auto opened = context->open(std::move(reactor)); !opened) return opened.error();
  return context;
}

Result<void, Message> Context::open(std::unique_ptr<io::Reactor> reactor) {
  if (auto opened = machine_.open(std::move(reactor)); !opened) return opened.error();
  machine_.reactor().set_on_wake([](void* self) { static_cast<Context*>(self)->on_wake(); }, this);
  for (size_t i = 0; i < machine_.settings().servers.size(); i++) {
    servers_.push_back(std::make_unique<RemoteServer>(shared_, i, machine_.settings().servers[i]));
    calls_.add(*servers_.back());
  }
  return {};
}

Context::~Context() {
  if (machine_.opened()) machine_.reactor().adopt();  // timers of what is destroyed now are stopped from here
}

void Context::set_on_wake(void (*fn)(void*), void* context) {
  on_wake_ = fn;
  on_wake_context_ = context;
}

/// Answers of resolvers come as a wake.
void Context::on_wake() {
  for (const auto& server : servers_) server->on_resolved();
  if (on_wake_) on_wake_(on_wake_context_);
}

/// Waits where the server must first say that memory is quiet, or the kernel that a socket is closed.
void Context::shut_down() {
  watch_.keep_stopped();
  while (Call* call = calls_.front()) {
    calls_.cancel(*call);
    if (calls_.front() == call) run_once(1'000'000);  // a frame still holds its memory
  }
  for (const auto& server : servers_) server->shut_down();
  const auto at_rest = [](const auto& server) { return server->routes().at_rest(); };
  while (!std::all_of(servers_.begin(), servers_.end(), at_rest)) run_once(1'000'000);
  MEMKV_ASSERT(calls_.size() == 0);
  calls_.shut_down();
  watch_.stop();
  while (!machine_.at_rest()) run_once(1'000'000);
}

std::vector<ServerLine> Context::describe() const {
  std::vector<ServerLine> lines;
  for (const auto& server : servers_) lines.push_back(server->describe());
  return lines;
}

void Context::on_tick() {
  // We were descheduled: unread replies may be waiting, so do not judge servers in this tick.
  if (watch_.late_ns() > Watch::kTickNs) return watch_.start();
  const uint64_t now = machine_.now_ns();
  for (const auto& server : servers_) server->check_liveness(now);
  const bool busy =
      std::any_of(servers_.begin(), servers_.end(), [](const auto& server) { return server->routes().frames() > 0; });
  if (busy) watch_.start();
}

}  // namespace memkv::client
