/// put: stores a file or stdin as a block.

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"
#include "tools/memkv/session.h"

namespace memkv::cli {
namespace {

constexpr size_t kReadStep = size_t{1} << 20;

Message io_error(const std::string& file, const char* doing) {
  return {Status::kInvalid, fmt::format("{}: cannot {}: {}", file, doing, std::strerror(errno))};
}

/// The bytes to store: a mapped file, or what came out of a pipe. Owns them.
class Content {
 public:
  static Result<Content, Message> of(const std::string& file);
  Content(Content&& other) noexcept
      : mapped_(std::exchange(other.mapped_, nullptr)),
        mapped_size_(other.mapped_size_),
        read_(std::move(other.read_)) {}
  Content& operator=(Content&&) = delete;
  ~Content() {
    if (mapped_ != nullptr) munmap(mapped_, mapped_size_);
  }
  Gather gather() const {
    return mapped_ != nullptr ? Gather(static_cast<const void*>(mapped_), mapped_size_)
                              : Gather(read_.data(), read_.size());
  }

 private:
  Content() = default;
  bool map(int fd, size_t size);
  Result<void, Message> read_all(int fd, const std::string& file);

  void* mapped_ = nullptr;
  size_t mapped_size_ = 0;
  std::vector<std::byte> read_;
};

bool Content::map(int fd, size_t size) {
  void* at = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (at == MAP_FAILED) return false;
  mapped_ = at;
  mapped_size_ = size;
  return true;
}

Result<void, Message> Content::read_all(int fd, const std::string& file) {
  size_t have = 0;
  for (;;) {
    if (read_.size() - have < kReadStep) read_.resize(std::max(read_.size() * 2, have + kReadStep));
    const ssize_t got = read(fd, read_.data() + have, read_.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error(file, "read");
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  read_.resize(have);
  return {};
}

Result<Content, Message> Content::of(const std::string& file) {
  Content content;
  base::UniqueFd opened;
  int fd = STDIN_FILENO;
  if (file != "-") {
    opened.reset(open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!opened) return io_error(file, "open");
    fd = opened.get();
  }
  struct stat info {};
  if (fstat(fd, &info) != 0) return io_error(file, "stat");
  if (S_ISDIR(info.st_mode)) return Message{Status::kInvalid, file + ": is a directory"};
  if (S_ISREG(info.st_mode) && info.st_size > 0 && content.map(fd, static_cast<size_t>(info.st_size))) return content;
  if (auto read = content.read_all(fd, file); !read) return read.error();
  return content;
}

}  // namespace

int run_put(const PutOptions& options) {
  auto key = parse_key(options.key, options.common.hex);
  if (!key) return fail(key.error());
  auto content = Content::of(options.file);
  if (!content) return fail(content.error());
  auto connected = connect(options.common);
  if (!connected) return fail(connected.error());
  const Gather source = content->gather();
  const Outcome outcome = options.if_absent ? connected->client.put_if_absent(*key, source, connected->timeout)
                                            : connected->client.put(*key, source, connected->timeout);
  return outcome.hit() ? kExitDone : explain(*connected, "put", *key, outcome.status);
}

}  // namespace memkv::cli
