#include "wire/credential_file.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <span>

#include "base/hex.h"
#include "base/unique_fd.h"

namespace memkv::wire {
namespace {

int write_digits(int fd, const Secret& secret) {
  std::string digits = base::hex_encode(std::as_bytes(std::span(secret))) + "\n";
  errno = EIO;  // what a write that was cut short reports
  const bool written =
      ::write(fd, digits.data(), digits.size()) == static_cast<ssize_t>(digits.size()) && ::fsync(fd) == 0;
  const int failed = written ? 0 : errno;
  OPENSSL_cleanse(digits.data(), digits.size());
  return failed;
}

/// No file system must know both calls: NFS has links only, FAT has renames only.
int rename_to_new(const std::string& from, const std::string& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  return ::link(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

}  // namespace

int write_credential_file(const std::string& path, const Secret& secret) {
  struct stat there {};
  if (::lstat(path.c_str(), &there) == 0) return EEXIST;  // also where the folder takes no file
  const std::string staged = path + "." + std::to_string(getpid());
  ::unlink(staged.c_str());  // a process that had this pid before may have left one
  const base::UniqueFd fd(::open(staged.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return errno;
  int failed = write_digits(fd.get(), secret);
  if (failed == 0) failed = rename_to_new(staged, path);
  ::unlink(staged.c_str());
  return failed;
}

}  // namespace memkv::wire
