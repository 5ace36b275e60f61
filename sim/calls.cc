/// Definitions that take the place of the C library's in programs that link the simulator. A call goes on to the kernel
/// if there is no world, or if its descriptor does not belong to the simulated network.

#include "sim/calls.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/random.h"
#include "sim/fabric.h"
#include "sim/network.h"
#include "sim/world.h"

namespace memkv::sim {
namespace {

World* the_world = nullptr;
Network* the_network = nullptr;
uint32_t the_host = 0;
int64_t wall_step_s = 0;
std::optional<base::Random> entropy;

constexpr uint64_t kWallAtStartS = 1'790'000'000;

bool is_virtual(int fd) { return fd >= Network::kFirstFd && fd < MemoryFiles::kFirstFd; }
bool is_of_rdma(int fd) { return fd >= Fabric::kFirstFd && fd < MemoryFiles::kFirstFd; }

uint64_t monotonic_ns() {
  const Actor* actor = the_world->current();
  return the_world->now_ns() + (actor ? actor->clock_offset_ns() : 0);
}

int answer(int result) {
  if (result >= 0) return result;
  errno = -result;
  return -1;
}

}  // namespace

void enter_world(World& world, uint64_t seed) {
  the_world = &world;
  entropy.emplace(seed);
  wall_step_s = 0;
}

void leave_world() {
  the_world = nullptr;
  the_network = nullptr;
}

void use_network(Network* network) { the_network = network; }
void use_host(uint32_t host) { the_host = host; }
Network* network_now() { return the_network; }
uint32_t host_now() { return the_host; }
Fabric& fabric() { return the_network->rdma(); }
void step_wall_clock(int64_t seconds) { wall_step_s += seconds; }

}  // namespace memkv::sim

using namespace memkv::sim;

extern "C" {

int clock_gettime(clockid_t clock, timespec* out) noexcept {
  const bool ours = the_world != nullptr && (clock == CLOCK_MONOTONIC || clock == CLOCK_REALTIME);
  if (!ours) return static_cast<int>(syscall(SYS_clock_gettime, clock, out));
  uint64_t ns = clock == CLOCK_MONOTONIC ? monotonic_ns() : the_world->now_ns();
  if (clock == CLOCK_REALTIME) ns += (kWallAtStartS + static_cast<uint64_t>(wall_step_s)) * kSecond;
  out->tv_sec = static_cast<time_t>(ns / kSecond);
  out->tv_nsec = static_cast<long>(ns % kSecond);
  return 0;
}

ssize_t getrandom(void* out, size_t bytes, unsigned int flags) {
  if (the_world == nullptr) return syscall(SYS_getrandom, out, bytes, flags);
  entropy->fill({static_cast<std::byte*>(out), bytes});
  return static_cast<ssize_t>(bytes);
}

/// madvise() does nothing for page advice: a world has many small processes, and pages that they never touch need not
/// exist.
int madvise(void* at, size_t bytes, int advice) noexcept {
  if (the_world != nullptr) return 0;
  return static_cast<int>(syscall(SYS_madvise, at, bytes, advice));
}

int socket(int domain, int type, int protocol) noexcept {
  if (the_network != nullptr && domain == AF_UNIX) return the_network->make_local_socket(the_host);
  if (the_network == nullptr || (domain != AF_INET && domain != AF_INET6)) {
    return static_cast<int>(syscall(SYS_socket, domain, type, protocol));
  }
  return the_network->make_socket(the_host);
}

int close(int fd) {
  if (fd >= MemoryFiles::kFirstFd) return the_network != nullptr ? the_network->memory().close(fd), 0 : 0;
  if (!is_virtual(fd)) return static_cast<int>(syscall(SYS_close, fd));
  if (the_network != nullptr) is_of_rdma(fd) ? fabric().close_epoll(fd) : the_network->close(fd);
  return 0;
}

/// In a world only RDMA uses epoll, for its completion channels: reactors are simulated.
int epoll_create1(int flags) noexcept {
  return the_network ? fabric().make_epoll() : static_cast<int>(syscall(SYS_epoll_create1, flags));
}

int epoll_ctl(int epoll, int op, int fd, epoll_event* event) noexcept {
  if (!is_of_rdma(epoll)) return static_cast<int>(syscall(SYS_epoll_ctl, epoll, op, fd, event));
  return answer(fabric().control_epoll(epoll, op, fd, event));
}

int epoll_wait(int epoll, epoll_event* events, int count, int wait_ms) {
  if (!is_of_rdma(epoll)) return static_cast<int>(syscall(SYS_epoll_pwait, epoll, events, count, wait_ms, nullptr, 0));
  return fabric().wait_epoll(epoll, events, count);
}

int shutdown(int fd, int how) noexcept {
  if (!is_virtual(fd)) return static_cast<int>(syscall(SYS_shutdown, fd, how));
  if (the_network != nullptr) the_network->shut(fd);
  return 0;
}

int setsockopt(int fd, int level, int name, const void* value, socklen_t length) noexcept {
  if (is_virtual(fd)) return 0;
  return static_cast<int>(syscall(SYS_setsockopt, fd, level, name, value, length));
}

int getsockopt(int fd, int level, int name, void* value, socklen_t* length) noexcept {
  if (!is_virtual(fd)) return static_cast<int>(syscall(SYS_getsockopt, fd, level, name, value, length));
  std::memset(value, 0, *length);
  if (level == SOL_SOCKET && name == SO_PEERCRED && the_network != nullptr) {
    const ucred peer{.pid = static_cast<pid_t>(the_network->peer_host(fd)), .uid = 0, .gid = 0};
    std::memcpy(value, &peer, std::min<size_t>(*length, sizeof peer));
  }
  return 0;
}

int getpeername(int fd, sockaddr* address, socklen_t* length) noexcept {
  if (!is_virtual(fd)) return static_cast<int>(syscall(SYS_getpeername, fd, address, length));
  return answer(the_network ? the_network->address_of(fd, true, address, length) : -ENOTCONN);
}

int getsockname(int fd, sockaddr* address, socklen_t* length) noexcept {
  if (!is_virtual(fd)) return static_cast<int>(syscall(SYS_getsockname, fd, address, length));
  return answer(the_network ? the_network->address_of(fd, false, address, length) : -ENOTCONN);
}

}  // extern "C"
