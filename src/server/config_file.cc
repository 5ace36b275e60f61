#include "server/config_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/units.h"
#include "server/options.h"

namespace memkv::server {
namespace {

/// The text as it is, or in double quotes where YAML would read something else.
std::string yaml_text(const std::string& text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::strchr("/._-+=,:", c);
  };
  if (text.starts_with('/') && !text.ends_with(':') && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      quoted += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

const char* plural(uint64_t count) { return count == 1 ? "" : "s"; }

constexpr const char* kCacheNote =
    "    # A drive with a write cache is written with care (each write is flushed). If it keeps its cache on power "
    "loss,\n"
    "    # say so below its media, and it is faster:  power_loss_protection: true\n";

constexpr const char* kRest = R"(
memory:
  index_block_size: 32KiB               # average block that the index has room for
  # max_size: 8GiB                      # buffers, 256MiB a worker; what is over keeps hot chunks in memory

# rdma:                                 # NICs of clients on other hosts
#   devices: [mlx5_0, mlx5_1]           # as in /sys/class/infiniband; by default all usable ones; none turns it off

# shm:                                  # shared memory for clients on this host
#   enabled: true
#   dir: /run/memkv                     # of the socket; clients look here, in $XDG_RUNTIME_DIR/memkv and /tmp/memkv-UID
#   socket_mode: "0600"                 # who may connect; 0660 for a group. The credential is asked for all the same
#   max_size: 256MiB                    # memory of all such connections; who finds none left uses tcp

# workers: 4                            # threads that serve; by default half the CPUs, at most one a shard
# io: auto                              # auto, uring or epoll
# name: kv1                             # if clients list servers as name=host:port, this one's name
log:
  level: info                           # debug, info, warn, error, off
)";

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t done = ::write(fd, text.data(), text.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return false;
    text.remove_prefix(static_cast<size_t>(done));
  }
  return true;
}

/// The place in stdout's file where a write would begin. -1: stdout is no file.
int64_t end_of_stdout_file() {
  struct stat info {};
  if (::fstat(STDOUT_FILENO, &info) != 0 || !S_ISREG(info.st_mode)) return -1;
  const bool append = (::fcntl(STDOUT_FILENO, F_GETFL) & O_APPEND) != 0;
  return append ? info.st_size : ::lseek(STDOUT_FILENO, 0, SEEK_CUR);
}

}  // namespace

std::string render_config(const ConfigFigures& figures) {
  std::string text =
      fmt::format(R"(# Configuration of a MemKV server, made by `memkv setup`. Start it: memkv start --config THIS_FILE
# {} on {} drive{}, {} shard{}, for blocks of {} ({} if each is put alone). Blocks may have up to {}.
# The index takes {} of memory: room for blocks of {} on average; for smaller ones make memory.index_block_size smaller.

network:
  address: {:<28} # the one port for clients
  # 64 hex digits or @FILE; whoever has it may read and write all blocks.
  auth_key: {}
  # congestion: bbr                     # TCP congestion control; by default cubic where the system has and permits it

storage:
  mode: {:<31} # direct: drives; file: files in a file system; memory: nothing survives a restart
  drives:
)",
                  base::format_bytes(figures.fitting_bytes), figures.drives.size(), plural(figures.drives.size()),
                  figures.shards, plural(figures.shards), base::format_bytes(figures.index_block_bytes),
                  base::format_bytes(figures.fitting_lone_bytes), base::format_bytes(figures.block_bytes_max),
                  base::format_bytes(figures.index_bytes), base::format_bytes(figures.index_block_bytes),
                  figures.address, yaml_text("@" + figures.key_file), figures.raw ? "direct" : "file");
  for (const std::string& drive : figures.drives) text += fmt::format("    - media: {}\n", yaml_text(drive));
  if (figures.volatile_cache) text += kCacheNote;
  return text + kRest;
}

Result<ConfigFile, Message> ConfigFile::open(const std::string& output, bool replace) {
  ConfigFile file;
  if (output.empty()) {
    if (::fcntl(STDOUT_FILENO, F_GETFL) < 0 || (::fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY) {
      return Message{Status::kInvalid,
                     "stdout is closed, and the configuration goes there: say --output FILE, or > memkv.yaml"};
    }
    return file;
  }
  file.path_ = output;
  if (!replace && ::access(output.c_str(), F_OK) == 0) {
    return Message{Status::kExists,
                   fmt::format("--output {}: is there already: name another file, or replace it with --force", output)};
  }
  const std::string draft = output + ".new";
  file.owned_.reset(::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file.owned_) return Message{Status::kInvalid, fmt::format("--output {}: {}", output, std::strerror(errno))};
  file.draft_ = draft;
  return file;
}

ConfigFile::ConfigFile(ConfigFile&& other) noexcept
    : path_(std::move(other.path_)),
      draft_(std::exchange(other.draft_, {})),
      owned_(std::move(other.owned_)),
      stdout_from_(std::exchange(other.stdout_from_, -1)) {}

ConfigFile::~ConfigFile() {
  if (!draft_.empty()) ::unlink(draft_.c_str());
  if (stdout_from_ < 0) return;
  (void)!::ftruncate(STDOUT_FILENO, stdout_from_);
  (void)::lseek(STDOUT_FILENO, stdout_from_, SEEK_SET);
}

int ConfigFile::fd() const { return path_.empty() ? STDOUT_FILENO : owned_.get(); }

Message ConfigFile::failed(const char* doing) const {
  return {Status::kIo, fmt::format("the configuration cannot be {} {}: {}. Nothing was formatted", doing,
                                   path_.empty() ? "stdout" : path_, std::strerror(errno))};
}

Result<void, Message> ConfigFile::write(const std::string& text) {
  const std::string name = path_.empty() ? "the configuration" : path_;
  if (auto readable = parse_options(text, name); !readable) return readable.error();
  if (path_.empty()) stdout_from_ = end_of_stdout_file();
  if (!write_all(fd(), text)) return failed("written to");
  const bool through = ::fsync(fd()) == 0 || errno == EINVAL || errno == EROFS;  // pipes and terminals cannot be synced
  return through ? Result<void, Message>() : failed("written to");
}

Result<void, Message> ConfigFile::keep() {
  stdout_from_ = -1;
  if (draft_.empty()) return {};
  const std::string draft = std::exchange(draft_, {});
  if (::rename(draft.c_str(), path_.c_str()) == 0) return {};
  return Message{Status::kIo, fmt::format("the drives are formatted, but {} cannot be renamed to {}: {}", draft, path_,
                                          std::strerror(errno))};
}

}  // namespace memkv::server
