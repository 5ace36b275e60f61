#pragma once
/// The first frame after a handshake on a unix socket: the server's window, or why there is none.

#include <array>

#include "transport/shm/window.h"
#include "wire/handshake.h"

namespace memkv::transport {

/// Sends WINDOWS and both descriptors, sequence 0. Does not block: the socket is fresh. Thread: door.
Result<void> send_windows(int fd, const wire::SessionKeys& keys, ShmWindow& window);
/// Sends GOODBYE instead, sequence 0; best effort.
void send_no_windows(int fd, const wire::SessionKeys& keys, Status status, std::string_view text);

/// A window, or the GOODBYE's status with its text in `goodbye`. `frame` is whole, any bytes; the descriptors are those
/// that came with it.
Result<std::shared_ptr<ShmWindow>> take_windows(std::span<const std::byte> frame, const wire::SessionKeys& keys,
                                                std::array<base::UniqueFd, 2>& descriptors, std::string& goodbye);

}  // namespace memkv::transport
