#pragma once
/// Where the server's unix socket is: the door of the shm transport.

#include <array>
#include <cstdint>
#include <string>

#include "base/unique_fd.h"
#include "memkv/error.h"
#include "wire/messages.h"

namespace memkv::server {

struct ShmOptions {
  bool enabled = true;
  std::string dir;                   ///< empty: MEMKV_SHM_DIR, else the first usual place that can be made
  uint32_t socket_mode = 0600;       ///< permissions of the socket: who may connect
  uint64_t window_bytes_max = 0;     ///< of all clients together; 0: chosen by the machine
  uint64_t ring_bytes = 512u << 10;  ///< each way, of each connection; a power of two
};

/// The server's runtime folder, made if it is not there: `dir`, else MEMKV_SHM_DIR, else the first usual place that
/// belongs to this user alone.
Result<std::string, Message> choose_runtime_dir(const std::string& dir);

/// A listening socket whose name is the server process's boot id: whoever learned that id over tcp, and finds the
/// socket, is on the same host. Removed at the end. Thread: main makes it; then the door's.
class ShmSocket {
 public:
  /// Also removes sockets that dead servers left in the folder.
  static Result<ShmSocket, Message> open(const ShmOptions& options, const std::array<uint8_t, 16>& boot_id);
  /// Opens the socket for shared memory. Without it the server serves over tcp alone, so it is only a warning.
  /// `bytes_max`: of all clients' windows.
  static ShmSocket open_if_possible(const ShmOptions& options, const wire::Windows& windows, uint64_t bytes_max,
                                    const std::array<uint8_t, 16>& boot_id);
  ShmSocket() = default;
  ShmSocket(ShmSocket&& other) noexcept;
  ShmSocket& operator=(ShmSocket&& other) noexcept;
  ~ShmSocket();

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  /// False: somebody removed the file, nobody finds the server any more.
  bool there() const;
  /// A new socket at the same path. False: not now.
  bool open_again();

 private:
  base::UniqueFd fd_;
  std::string path_;
  uint32_t mode_ = 0;
};

}  // namespace memkv::server
