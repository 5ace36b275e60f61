#pragma once
/// The bare server's protocol: 16 bytes, then the block of a put; a get is answered by 16 bytes and the block.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>

namespace memkv::bench {

struct BareHeader {
  uint32_t put;
  uint32_t bytes;
  uint64_t number;
};

/// Empty: the system's. On a listener it holds for what is accepted.
inline void set_congestion(int fd, const std::string& name) {
  if (!name.empty())
    (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size()));
}

}  // namespace memkv::bench
