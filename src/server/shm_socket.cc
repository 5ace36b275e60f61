#include "server/shm_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/units.h"
#include "io/socket.h"
#include "transport/link.h"
#include "transport/shm/window.h"

namespace memkv::server {
namespace {

namespace fs = std::filesystem;

/// Makes the folder. Returns why it cannot be used, or empty. In a folder that others may write to, they could replace
/// our socket by their own.
std::string make_dir(const std::string& dir) {
  if (::mkdir(dir.c_str(), 0755) != 0 && errno != EEXIST) return std::strerror(errno);
  struct stat info {};
  if (::lstat(dir.c_str(), &info) != 0) return std::strerror(errno);
  if (!S_ISDIR(info.st_mode)) return "not a folder";
  if (info.st_uid != geteuid()) return "it belongs to another user";
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) return "others may write to it";
  return {};
}

bool is_dead(const std::string& path) {
  const auto address = io::unix_address(path);
  const auto fd = io::make_unix_socket();
  return address && fd && ::connect(fd->get(), address->get(), address->length) != 0 && errno == ECONNREFUSED;
}

/// Removes sockets of MemKV servers that are dead. Sockets of other programs stay.
void remove_dead_sockets(const std::string& dir) {
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(dir, failed)) {
    const bool ours = transport::is_shm_socket_name(entry.path().filename().string());
    if (ours && is_dead(entry.path())) fs::remove(entry.path(), failed);
  }
}

}  // namespace

Result<std::string, Message> choose_runtime_dir(const std::string& dir) {
  const char* environment = std::getenv("MEMKV_SHM_DIR");
  std::vector<std::string> dirs = transport::usual_shm_dirs(std::getenv("XDG_RUNTIME_DIR"));
  if (!dir.empty()) {
    dirs = {dir};
  } else if (environment != nullptr && *environment != '\0') {
    dirs = {environment};
  }
  std::string reasons;
  for (const std::string& place : dirs) {
    const std::string why = make_dir(place);
    if (why.empty()) return place;
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", place, why);
  }
  return Message{Status::kIo, "no runtime folder (" + reasons + ")"};
}

Result<ShmSocket, Message> ShmSocket::open(const ShmOptions& options, const std::array<uint8_t, 16>& boot_id) {
  auto dir = choose_runtime_dir(options.dir);
  if (!dir) return dir.error();
  remove_dead_sockets(*dir);
  ShmSocket made;
  made.mode_ = options.socket_mode;
  const std::string path = *dir + "/" + transport::shm_socket_name(boot_id);
  auto fd = io::listen_unix(path, options.socket_mode);
  if (!fd) return fd.error();
  made.path_ = path;
  made.fd_ = std::move(*fd);
  return made;
}

ShmSocket ShmSocket::open_if_possible(const ShmOptions& options, const wire::Windows& windows, uint64_t bytes_max,
                                      const std::array<uint8_t, 16>& boot_id) {
  const auto without = [](const std::string& why) {
    MEMKV_LOG(kWarn, "no shared memory for clients on this host: {}", why);
    return ShmSocket();
  };
  if (!options.enabled) return {};
  if (const uint64_t one = transport::ShmWindow::bytes(windows); one > bytes_max) {
    return without(fmt::format("{} {}, and one connection takes {}",
                               options.window_bytes_max != 0 ? "shm.max_size is" : "the memory limit leaves room for",
                               base::format_bytes(bytes_max), base::format_bytes(one)));
  }
  if (auto tried = transport::ShmWindow::make(windows, nullptr); !tried) {
    return without(fmt::format("{}: {}", tried.error().what, std::strerror(tried.error().sys_errno)));
  }
  auto socket = open(options, boot_id);
  return socket ? std::move(*socket) : without(socket.error().text);
}

ShmSocket::ShmSocket(ShmSocket&& other) noexcept { *this = std::move(other); }

ShmSocket& ShmSocket::operator=(ShmSocket&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(mode_, other.mode_);
  return *this;
}

ShmSocket::~ShmSocket() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

bool ShmSocket::there() const { return ::access(path_.c_str(), F_OK) == 0; }

bool ShmSocket::open_again() {
  if (!make_dir(fs::path(path_).parent_path()).empty()) return false;
  auto fd = io::listen_unix(path_, mode_);
  if (!fd) return false;
  fd_ = std::move(*fd);
  return true;
}

}  // namespace memkv::server
