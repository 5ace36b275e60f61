#include "client/remote/resolver.h"

#include <fmt/format.h>

#include <cstring>

#include "base/thread.h"
#include "client/settings.h"

namespace memkv::client {

Resolver::Resolver(std::string host, uint16_t port)
    : host_(std::move(host)), port_(port), numeric_(is_numeric_host(host_)) {}

Resolver::~Resolver() {
  if (!lookup_) return;
  const std::lock_guard lock(lookup_->mutex);
  lookup_->reactor = nullptr;
}

void Resolver::start(io::Reactor& reactor) {
  if (lookup_ || (numeric_ && !addresses_.empty())) return;
  if (numeric_) {
    auto found = io::resolve(host_, port_);
    if (found)
      addresses_ = std::move(*found);
    else
      failure_ = found.error().text;
    return;
  }
  auto lookup_now = std::make_shared<Lookup>();
  lookup_now->reactor = &reactor;
  auto thread = base::start_thread("memkv-resolve", [lookup = lookup_now, host = host_, port = port_] {
    auto found = io::resolve(host, port);
    const std::lock_guard lock(lookup->mutex);
    if (found)
      lookup->addresses = std::move(*found);
    else
      lookup->failure = found.error().text;
    lookup->done = true;
    if (lookup->reactor) lookup->reactor->wake();
  });
  if (!thread) {  // the addresses of before may do; the next start() tries again
    failure_ =
        fmt::format("cannot resolve {}: {}: {}", host_, std::strerror(thread.error().sys_errno), thread.error().what);
    return;
  }
  thread->detach();
  lookup_ = std::move(lookup_now);
}

bool Resolver::ready() {
  if (!lookup_) return true;
  {
    const std::lock_guard lock(lookup_->mutex);
    if (!lookup_->done) return false;
    if (!lookup_->addresses.empty()) addresses_ = std::move(lookup_->addresses);  // else those of before may do
    failure_ = std::move(lookup_->failure);
  }
  lookup_.reset();
  return true;
}

}  // namespace memkv::client
