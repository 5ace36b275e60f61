#pragma once
/// Who this process is to its servers.

#include <array>
#include <atomic>
#include <cstdint>

namespace memkv::client {

/// A client as servers know it: one process with all its `Client`s, sessions, I/O contexts and connections. Its id is
/// random. Thread: any.
struct ClientIdentity {
  ClientIdentity();
  explicit ClientIdentity(const std::array<uint8_t, 16>& client_id) : id(client_id) {}
  ClientIdentity(const ClientIdentity&) = delete;
  ClientIdentity& operator=(const ClientIdentity&) = delete;

  /// What is sent from now on belongs to a newer epoch than a frame of `of_frame`: a change of that frame which no
  /// server has done by the time that it hears of the newer epoch is never done. Called before the change is given up,
  /// so that whatever its caller sends next is of the newer one.
  void raise_above(uint64_t of_frame) {
    uint64_t present = epoch.load(std::memory_order_relaxed);
    while (present <= of_frame && !epoch.compare_exchange_weak(present, of_frame + 1, std::memory_order_release)) {
    }
  }

  std::array<uint8_t, 16> id{};
  std::atomic<uint64_t> epoch{1};
};

/// The identity of this process; in the child of a fork another one than in its parent. Lives as long as the process.
/// (Each copy of this library in a process has its own: what is linked into the NIXL plugin is a client of its own.)
ClientIdentity& process_identity();

}  // namespace memkv::client
