#pragma once
/// Sets sockets up before a reactor drives them. Every function may block or allocate: for main, the door and set-up
/// code only.

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "memkv/error.h"

namespace memkv::io {

/// One address that connect() or bind() takes.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

struct HostPort {
  std::string host;
  uint16_t port = 0;
};

/// "10.0.0.1:9900", "name:9900", "[::1]:9900". Fails with a sentence on anything else.
Result<HostPort, Message> parse_host_port(std::string_view text);
/// The inverse: an IPv6 host gets brackets.
std::string format_host_port(std::string_view host, uint16_t port);
std::string to_string(const SocketAddress& address);
/// The port of a listening socket, for when port 0 was asked for. 0 on failure.
uint16_t local_port(int fd);

/// Calls getaddrinfo, and keeps its order of preference. Never empty on ok. Blocks, for seconds at worst.
Result<std::vector<SocketAddress>, Message> resolve(const std::string& host, uint16_t port);

struct ListenOptions {
  std::string congestion;  ///< TCP congestion control that accepted sockets inherit; empty: the system's default
  int backlog = 1024;
};
/// A non-blocking listening socket with SO_REUSEADDR, on the first address of `host`. An empty host means all
/// addresses, IPv6 and IPv4.
Result<base::UniqueFd, Message> listen_tcp(const std::string& host, uint16_t port, const ListenOptions& options);
/// A fresh non-blocking TCP socket of the address's family, TCP_NODELAY set.
Result<base::UniqueFd> make_tcp_socket(const SocketAddress& address);

/// A fresh non-blocking unix stream socket.
Result<base::UniqueFd> make_unix_socket();
/// kInvalid: the path is longer than an address can hold.
Result<SocketAddress> unix_address(const std::string& path);
/// A listening unix socket at `path`, which must not exist yet. It never has other permissions than `mode`.
Result<base::UniqueFd, Message> listen_unix(const std::string& path, uint32_t mode);

Result<void> set_nodelay(int fd);
/// Ends a TCP connection by RST, and throws away what is unsent or not acknowledged; also while a fork's child has the
/// socket, whom a close here would not impress.
void reset_tcp(int fd);
/// The socket counts as writable only while less than `bytes` are unsent. A reply that comes later then does not queue
/// behind megabytes of data.
Result<void> set_notsent_lowat(int fd, uint32_t bytes);
Result<void> set_congestion(int fd, const std::string& name);
std::string get_congestion(int fd);  ///< empty when unknown

/// How much memory the process may lock (RLIMIT_MEMLOCK, soft). UINT64_MAX when there is no limit, or the process may
/// ignore it.
uint64_t memlock_limit_bytes();

}  // namespace memkv::io
