#pragma once
/// What a tenant may do to the others: rows B1 to B7 and A4 of the case table, one class each.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tests/tenants/raw_client.h"

namespace memkv::test {

using Clock = std::chrono::steady_clock;

/// One connection of an attacker.
struct Peer {
  RawClient client;
  Clock::time_point due{};  ///< when it does its next thing
  uint32_t in_flight = 0;   ///< ops that have no reply yet
};

/// What all connections of an attacker do. Thread: one.
class Attack {
 public:
  virtual ~Attack() = default;
  virtual size_t connections() const = 0;
  virtual bool reads() const { return true; }  ///< whether it reads what the server sends
  virtual void begin(Peer&) {}                 ///< the connection has been welcomed
  virtual void go_on(Peer&) {}                 ///< everything queued is sent, and its time has come
  virtual void take(Peer&, const RawClient::Frame&) {}
};

/// Null: no attack of this name goes over ordinary connections.
std::unique_ptr<Attack> make_attack(std::string_view name);

/// Puts blocks of one byte, as fast as they are acknowledged.
class Fill final : public Attack {
 public:
  size_t connections() const override { return 4; }
  void begin(Peer& peer) override { go_on(peer); }
  void go_on(Peer& peer) override;
  void take(Peer& peer, const RawClient::Frame& frame) override;
  uint64_t acknowledged() const { return acknowledged_; }

 private:
  uint64_t next_ = 0;
  uint64_t acknowledged_ = 0;
};

/// Keeps the connections of an attack open, whatever the server does to them.
class Herd {
 public:
  Herd(const Target& target, Attack& attack) : target_(target), attack_(attack) {}
  /// Does everything that can be done now. If that is nothing, it waits a little.
  void turn();
  std::string summary() const;

 private:
  void open_more();
  bool serve(Peer& peer, short events);

  const Target& target_;
  Attack& attack_;
  std::vector<Peer> peers_;
  Clock::time_point next_open_{};
  uint64_t opened_ = 0, refused_ = 0, ended_ = 0;
  std::string last_refusal_ = "none";
};

/// Connects over shm again and again, and keeps each window that it is given (row A4).
class Windows {
 public:
  explicit Windows(const Target& target) : target_(target) {}
  void turn();
  std::string summary() const;

 private:
  struct Mapping {
    void* data = nullptr;
    size_t bytes = 0;
    bool writable = false;
  };
  void keep(const base::UniqueFd& fd, bool writable);
  void touch_all();

  const Target& target_;
  std::vector<Mapping> mappings_;
  uint64_t taken_ = 0, refused_ = 0;
  Clock::time_point next_touch_{};
  std::string last_refusal_ = "none";
};

}  // namespace memkv::test
