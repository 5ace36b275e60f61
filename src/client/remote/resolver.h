#pragma once
/// Names to addresses off the I/O thread.

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "io/reactor.h"
#include "io/socket.h"

namespace memkv::client {

/// One lookup at a time. A numeric address needs no thread. Thread: the context's; the lookup itself runs in a
/// short-lived thread that may outlive the resolver (a resolver can block for many seconds).
class Resolver {
 public:
  Resolver(std::string host, uint16_t port);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  /// Asks again, unless the host is numeric or a lookup is under way. `reactor` is woken when the answer is there.
  /// Where no thread can be made that is the answer, and it is there at once.
  void start(io::Reactor& reactor);
  /// True once an answer of the last start() is there; it is then in addresses() or failure().
  bool ready();
  const std::vector<io::SocketAddress>& addresses() const { return addresses_; }
  const std::string& failure() const { return failure_; }
  /// The one whose turn it is; null: none is known.
  const io::SocketAddress* present() const {
    return addresses_.empty() ? nullptr : &addresses_[turn_ % addresses_.size()];
  }
  void take_next() { turn_++; }

 private:
  struct Lookup {
    std::mutex mutex;
    io::Reactor* reactor = nullptr;  ///< null: nobody waits any more
    bool done = false;
    std::vector<io::SocketAddress> addresses;
    std::string failure;
  };
  const std::string host_;
  const uint16_t port_;
  const bool numeric_;
  std::shared_ptr<Lookup> lookup_;
  std::vector<io::SocketAddress> addresses_;
  std::string failure_;
  size_t turn_ = 0;
};

}  // namespace memkv::client
