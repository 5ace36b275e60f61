#pragma once
/// The server's unix socket, through which clients of the shm transport come in.

#include <array>
#include <cstdint>
#include <string>

#include "base/unique_fd.h"
#include "memkv/error.h"
#include "wire/messages.h"

namespace memkv::server {

struct ShmOptions {
  bool enabled = true;
  std::string dir;                   ///< empty: MEMKV_SHM_DIR, else the first usual place where a folder can be made
  uint32_t socket_mode = 0600;       ///< permissions of the socket: who may connect
  uint64_t window_bytes_max = 0;     ///< of all clients together; 0: the machine decides
  uint64_t ring_bytes = 512u << 10;  ///< of one ring; a connection has one each way; a power of two
};

/// Returns the server's runtime folder, and makes it if needed: `dir`, else MEMKV_SHM_DIR, else the first of the usual
/// places that belongs to this user alone.
Result<std::string, Message> choose_runtime_dir(const std::string& dir);

/// A listening socket. Its name is the boot id of the server process: a client that learned the id over tcp and finds
/// the socket knows that it is on the same host. The file is removed at the end. Thread: main makes it, then the door
/// uses it.
class ShmSocket {
 public:
  /// Opens the socket, and removes sockets that dead servers left in the folder.
  static Result<ShmSocket, Message> open(const ShmOptions& options, const std::array<uint8_t, 16>& boot_id);
  /// Opens the socket for shared memory. If that fails the server serves over tcp alone, so it is only a warning.
  /// `bytes_max`: limit for the windows of all clients together.
  static ShmSocket open_if_possible(const ShmOptions& options, const wire::Windows& windows, uint64_t bytes_max,
                                    const std::array<uint8_t, 16>& boot_id);
  ShmSocket() = default;
  ShmSocket(ShmSocket&& other) noexcept;
  ShmSocket& operator=(ShmSocket&& other) noexcept;
  ~ShmSocket();

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  /// False: somebody removed the file, so no client can find the server any more.
  bool there() const;
  /// Makes a new socket at the same path. False: that failed now; try again later.
  bool open_again();

 private:
  base::UniqueFd fd_;
  std::string path_;
  uint32_t mode_ = 0;
};

}  // namespace memkv::server
