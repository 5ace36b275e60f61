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

  std::array<uint8_t, 16> id{};
};

/// The identity of this process; in the child of a fork another one than in its parent. Lives as long as the process.
/// (Each copy of this library in a process has its own: what is linked into the NIXL plugin is a client of its own.)
ClientIdentity& process_identity();

}  // namespace memkv::client
