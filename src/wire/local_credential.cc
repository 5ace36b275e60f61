#include "wire/local_credential.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/log.h"
#include "base/unique_fd.h"
#include "wire/credential_file.h"

namespace memkv::wire {
namespace {

constexpr size_t kDigits = 2 * sizeof(Secret);

std::string path_in(const std::string& dir) { return dir + "/local.key"; }

/// Why the file is not trusted; empty if it is.
std::string_view why_not_trusted(const struct stat& info) {
  if (!S_ISREG(info.st_mode)) return "it is not a file";
  if (info.st_uid != 0 && info.st_uid != geteuid()) return "it belongs to another user";
  if ((info.st_mode & 077) != 0) return "others may read or write it";
  return {};
}

/// Nothing: there is no such file, or none that is trusted.
Result<std::optional<Secret>, Message> read_one(const std::string& path) {
  using Found = std::optional<Secret>;
  const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!fd && errno == EACCES) {
    return Message{Status::kUnauthorized,
                   "the server on this host belongs to another user, who alone may read its "
                   "credential (" +
                       path + "): get one, and set `auth_key` or MEMKV_AUTH_KEY"};
  }
  struct stat info {};
  if (!fd || ::fstat(fd.get(), &info) != 0) return Found();
  if (const std::string_view why = why_not_trusted(info); !why.empty()) {
    MEMKV_LOG(kWarn, "{} is not used as a credential: {}", path, why);
    return Found();
  }
  std::array<char, kDigits> digits{};
  const ssize_t bytes = ::read(fd.get(), digits.data(), digits.size());
  auto secret = parse_secret({digits.data(), static_cast<size_t>(std::max<ssize_t>(bytes, 0))});
  OPENSSL_cleanse(digits.data(), digits.size());
  if (!secret) return Message{secret.error().status, path + ": " + secret.error().text};
  return Found(*secret);
}

}  // namespace

Result<std::optional<Secret>, Message> read_local_credential(const std::vector<std::string>& dirs) {
  Result<std::optional<Secret>, Message> nothing = std::optional<Secret>();
  for (const std::string& dir : dirs) {
    auto found = read_one(path_in(dir));
    if (found && *found) return found;
    if (!found && nothing) nothing = found;  // another folder may still have one
  }
  return nothing;
}

Result<Secret, Message> keep_local_credential(const std::string& dir) {
  const std::string path = path_in(dir);
  auto there = read_one(path);
  if (!there) return there.error();
  if (*there) return **there;
  const int failed = write_credential_file(path, make_secret());
  if (failed != 0 && failed != EEXIST) {
    return Message{Status::kIo, path + ": " + std::strerror(failed)};
  }
  there = read_one(path);
  if (!there) return there.error();
  if (!*there) return Message{Status::kIo, path + " is there and cannot be used: remove it"};
  return **there;
}

}  // namespace memkv::wire
