#include "server/ready_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace memkv::server {

Result<void, Message> remove_ready_file(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return Message{Status::kInvalid,
                 fmt::format("{}: it is there and cannot be removed: {}", path, std::strerror(errno))};
}

Result<void, Message> write_ready_file(const std::string& path, const std::string& address) {
  const std::string temporary = path + ".new";
  std::FILE* file = std::fopen(temporary.c_str(), "w");
  const bool written = file != nullptr && std::fprintf(file, "%s\n", address.c_str()) > 0;
  if (file != nullptr && std::fclose(file) == 0 && written && std::rename(temporary.c_str(), path.c_str()) == 0)
    return {};
  const int error = errno;
  ::unlink(temporary.c_str());
  return Message{Status::kIo, fmt::format("{}: {}", path, std::strerror(error))};
}

}  // namespace memkv::server
