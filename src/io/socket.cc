#include "io/socket.h"

#include <arpa/inet.h>
#include <linux/capability.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <limits>

#include "io/congestion.h"

namespace memkv::io {
namespace {

Message invalid(std::string text) { return {Status::kInvalid, std::move(text)}; }

Message listen_message(const std::string& where, int error) {
  switch (error) {
    case EADDRINUSE:
      return {Status::kBusy, "cannot listen on " + where + ": the port is in use"};
    case EADDRNOTAVAIL:
      return invalid("cannot listen on " + where + ": this host does not have that address");
    case EACCES:
      return invalid("cannot listen on " + where + ": permission denied (ports below 1024 need privileges)");
    default:
      return {Status::kIo, "cannot listen on " + where + ": " + strerror(error)};
  }
}

Result<void> set_option(int fd, int level, int name, int value, const char* what) {
  if (setsockopt(fd, level, name, &value, sizeof value) < 0) return Error{Status::kIo, errno, what};
  return {};
}

Result<std::vector<SocketAddress>, Message> look_up(const std::string& host, uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int failed = getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (failed != 0) {
    const char* why = failed == EAI_SYSTEM ? strerror(errno) : gai_strerror(failed);
    return Message{Status::kUnavailable, "cannot resolve " + (host.empty() ? "the local host" : host) + ": " + why};
  }
  std::vector<SocketAddress> addresses;
  for (const addrinfo* at = found; at; at = at->ai_next) {
    SocketAddress& address = addresses.emplace_back();
    address.length = at->ai_addrlen;
    std::memcpy(&address.storage, at->ai_addr, at->ai_addrlen);
  }
  freeaddrinfo(found);
  if (addresses.empty()) return Message{Status::kUnavailable, "no address for " + host};
  return addresses;
}

/// The addresses for listening on all interfaces: one IPv6 socket, which takes IPv4 as well; IPv4 alone where IPv6 is
/// off.
std::vector<SocketAddress> any_addresses(uint16_t port) {
  std::vector<SocketAddress> addresses(2);
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_port = htons(port);
  std::memcpy(&addresses[0].storage, &six, addresses[0].length = sizeof six);
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_port = htons(port);
  std::memcpy(&addresses[1].storage, &four, addresses[1].length = sizeof four);
  return addresses;
}

/// Opens a listener into `into`. Returns an errno.
int open_listener(const SocketAddress& address, int backlog, base::UniqueFd& into) {
  base::UniqueFd fd(socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return errno;
  const int on = 1;
  const int off = 0;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.family() == AF_INET6) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  if (bind(fd.get(), address.get(), address.length) < 0) return errno;
  if (listen(fd.get(), backlog) < 0) return errno;
  into = std::move(fd);
  return 0;
}

/// True in a user namespace: there even root lacks the capability, which the kernel asks for on the whole machine.
bool in_user_namespace() {
  std::ifstream map("/proc/self/uid_map");
  uint64_t inside = 0, outside = 0, count = 0;
  return map >> inside >> outside >> count && (outside != 0 || count < std::numeric_limits<uint32_t>::max());
}

bool may_lock_memory() {
  if (in_user_namespace()) return false;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (syscall(SYS_capget, &header, data.data()) < 0) return false;
  return (data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK)) != 0;
}

}  // namespace

Result<HostPort, Message> parse_host_port(std::string_view text) {
  const auto bad = [&](const char* why) { return invalid("bad address '" + std::string(text) + "': " + why); };
  const bool brackets = text.starts_with('[');
  const size_t colon = brackets ? text.find("]:") + 1 : text.rfind(':');
  if (brackets && colon == 0) return bad("expected [HOST]:PORT");
  if (colon == std::string_view::npos) return bad("expected HOST:PORT");
  std::string_view host = text.substr(0, colon);
  if (brackets) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return bad("an IPv6 address stands in brackets, as in [::1]:9900");
  }
  const std::string_view digits = text.substr(colon + 1);
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc{} || end != digits.data() + digits.size()) return bad("the port is a number from 0 to 65535");
  return HostPort{std::string(host), port};
}

std::string format_host_port(std::string_view host, uint16_t port) {
  const bool six = host.find(':') != std::string_view::npos;
  return (six ? "[" : "") + std::string(host) + (six ? "]:" : ":") + std::to_string(port);
}

std::string to_string(const SocketAddress& address) {
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (address.family() == AF_UNIX) return "unix";
  const int failed = getnameinfo(address.get(), address.length, host.data(), host.size(), port.data(), port.size(),
                                 NI_NUMERICHOST | NI_NUMERICSERV);
  return failed ? "?" : format_host_port(host.data(), static_cast<uint16_t>(atoi(port.data())));
}

uint16_t local_port(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) < 0) return 0;
  if (storage.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in*>(&storage)->sin_port);
  if (storage.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6*>(&storage)->sin6_port);
  return 0;
}

Result<std::vector<SocketAddress>, Message> resolve(const std::string& host, uint16_t port) {
  return look_up(host, port, 0);
}

Result<base::UniqueFd, Message> listen_tcp(const std::string& host, uint16_t port, const ListenOptions& options) {
  const std::string where = format_host_port(host.empty() ? "*" : host, port);
  std::vector<SocketAddress> addresses = any_addresses(port);
  if (!host.empty()) {
    auto resolved = look_up(host, port, AI_PASSIVE);
    if (!resolved) return resolved.error();
    addresses = std::move(resolved).value();
    addresses.resize(1);  // what the caller named first, not whichever of its addresses happens to be free
  }
  base::UniqueFd fd;
  int failed = 0;
  for (const SocketAddress& address : addresses) {
    failed = open_listener(address, options.backlog, fd);
    if (failed != EAFNOSUPPORT && failed != EADDRNOTAVAIL) break;
  }
  if (failed != 0) return listen_message(where, failed);
  if (!options.congestion.empty()) {
    const auto set = set_congestion(fd.get(), options.congestion);
    if (!set) return invalid(explain_congestion(options.congestion, set.error().sys_errno));
  }
  return fd;
}

Result<base::UniqueFd> make_tcp_socket(const SocketAddress& address) {
  base::UniqueFd fd(socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return Error{Status::kIo, errno, "socket"};
  if (auto set = set_nodelay(fd.get()); !set) return set.error();
  return fd;
}

Result<base::UniqueFd> make_unix_socket() {
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return Error{Status::kIo, errno, "socket"};
  return fd;
}

Result<SocketAddress> unix_address(const std::string& path) {
  sockaddr_un unix_path{};
  if (path.size() >= sizeof unix_path.sun_path)
    return Error{Status::kInvalid, ENAMETOOLONG, "unix socket: path too long"};
  unix_path.sun_family = AF_UNIX;
  std::memcpy(unix_path.sun_path, path.data(), path.size());
  SocketAddress address;
  std::memcpy(&address.storage, &unix_path, address.length = sizeof unix_path);
  return address;
}

Result<base::UniqueFd, Message> listen_unix(const std::string& path, uint32_t mode) {
  const auto failed = [&](int error) {
    return Message{Status::kIo, "cannot listen on " + path + ": " + strerror(error)};
  };
  const auto address = unix_address(path);
  if (!address) return failed(address.error().sys_errno);
  auto fd = make_unix_socket();
  if (!fd) return failed(fd.error().sys_errno);
  // On Linux bind() gives the path the mode of the socket itself.
  if (fchmod(fd->get(), mode) != 0) return failed(errno);
  if (bind(fd->get(), address->get(), address->length) != 0) return failed(errno);
  if (chmod(path.c_str(), mode) != 0) return failed(errno);
  if (listen(fd->get(), 1024) != 0) return failed(errno);
  return std::move(*fd);
}

Result<void> set_nodelay(int fd) { return set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"); }

void reset_tcp(int fd) {
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  (void)::connect(fd, &nobody, sizeof nobody);
}

Result<void> set_notsent_lowat(int fd, uint32_t bytes) {
  return set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, static_cast<int>(bytes), "TCP_NOTSENT_LOWAT");
}

Result<void> set_congestion(int fd, const std::string& name) {
  if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) < 0) {
    return Error{Status::kInvalid, errno, "TCP_CONGESTION"};
  }
  return {};
}

std::string get_congestion(int fd) {
  std::array<char, 17> name{};  // TCP_CA_NAME_MAX and a closing zero
  socklen_t length = name.size() - 1;
  return getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &length) < 0 ? "" : name.data();
}

uint64_t memlock_limit_bytes() {
  rlimit limit{};
  if (may_lock_memory() || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY) {
    return std::numeric_limits<uint64_t>::max();
  }
  return limit.rlim_cur;
}

}  // namespace memkv::io
