/// `memkv setup`: formats drives, makes a credential, prints a configuration.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/clock.h"
#include "base/hex.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "engine/layout.h"
#include "engine/volume.h"
#include "io/device.h"
#include "io/socket.h"
#include "server/find_drives.h"
#include "server/options.h"
#include "server/server.h"
#include "server/storage.h"
#include "wire/handshake.h"

namespace memkv::server {
namespace {

constexpr int kExitInput = 2;
constexpr int kExitFailed = 5;
constexpr const char* kDefaultKeyFile = "memkv.key";
constexpr uint64_t kDefaultIndexBlock = 32 * base::kKiB;

template <typename... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  std::fprintf(stderr, "%s\n", fmt::format(format, std::forward<Args>(args)...).c_str());
}

int fail(int code, const std::string& text) {
  std::fprintf(stderr, "memkv setup: %s\n", text.c_str());
  return code;
}
int fail(const Message& message) {
  const bool input =
      message.status == Status::kInvalid || message.status == Status::kTooLarge || message.status == Status::kExists;
  return fail(input ? kExitInput : kExitFailed, message.text);
}

struct Target {
  std::string path;
  uint64_t create_bytes = 0;  ///< 0: it is there
  bool created = false;
  std::unique_ptr<io::DriveFile> file;
};

/// "PATH" or "PATH:8GiB".
Result<Target, Message> parse_target(const std::string& text) {
  const size_t colon = text.rfind(':');
  Target target;
  if (colon == std::string::npos || text.find('/', colon) != std::string::npos) {
    target.path = text;
    return target;
  }
  target.path = text.substr(0, colon);
  auto size = parse_size_option(text.substr(colon + 1), fmt::format("--drive {}", text));
  if (!size) return size.error();
  target.create_bytes = base::align_down(*size, io::kSectorBytes);
  if (target.path.empty()) return Message{Status::kInvalid, fmt::format("--drive {}: names no path", text)};
  return target;
}

/// One line on a terminal that moves, else a line every few seconds.
class Progress {
 public:
  explicit Progress(std::string path)
      : path_(std::move(path)), terminal_(isatty(STDERR_FILENO) != 0), next_ns_(clock_.now_ns() + step()) {}
  ~Progress() {
    if (shown_ && terminal_) std::fputc('\n', stderr);
  }
  static void show(uint64_t done, uint64_t total, void* self) { static_cast<Progress*>(self)->show(done, total); }

 private:
  uint64_t step() const { return (terminal_ ? 1 : 30) * base::kNsPerSecond / 10; }
  void show(uint64_t done, uint64_t total) {
    const uint64_t now = clock_.now_ns();
    if (now < next_ns_) return;
    next_ns_ = now + step();
    shown_ = true;
    const std::string line = fmt::format("{}: {} of {} written ({} %)", path_, base::format_bytes(done),
                                         base::format_bytes(total), total == 0 ? 100 : done * 100 / total);
    std::fprintf(stderr, terminal_ ? "\r%s  " : "%s\n", line.c_str());
  }

  base::SystemClock clock_;
  std::string path_;
  bool terminal_;
  bool shown_ = false;
  uint64_t next_ns_;
};

/// What was made by a run that then failed goes away again.
class Targets {
 public:
  ~Targets() {
    if (keep) return;
    for (Target& target : list) {
      target.file.reset();
      if (target.created) ::unlink(target.path.c_str());
    }
  }
  std::vector<Target> list;
  bool keep = false;
};

/// Fills `options.drives` from the machine; says what it saw.
Result<std::vector<std::string>, Message> choose_drives(bool force) {
  std::vector<std::string> chosen;
  const std::vector<FoundDrive> found = find_nvme({});
  for (const FoundDrive& drive : found) {
    const bool data_only = drive.in_use.starts_with("holds data");
    const bool take = drive.in_use.empty() || (force && data_only);
    say("{} {} ({}{}{})", take ? "found" : "left out", drive.path, base::format_bytes(drive.bytes),
        drive.model.empty() ? "" : ", " + drive.model,
        drive.in_use.empty() ? "" : "): it " + drive.in_use + (data_only ? "; --force overwrites it" : ""));
    if (take) chosen.push_back(drive.path);
  }
  if (!chosen.empty()) return chosen;
  return Message{Status::kInvalid,
                 fmt::format("{}: name drives with --drive /dev/..., or a file with --drive PATH:8GiB",
                             found.empty() ? "this machine has no NVMe drive" : "none of the NVMe drives is free")};
}

Result<void, Message> create(Target& target, const SetupOptions& options) {
  struct stat status {};
  if (::stat(target.path.c_str(), &status) == 0) {
    if (!options.force) {
      return Message{
          Status::kExists,
          fmt::format("{}: exists already: leave the size out to format it as it is, or overwrite it with --force",
                      target.path)};
    }
    if (!S_ISREG(status.st_mode)) {
      return Message{Status::kInvalid, fmt::format("{}: is no file: leave the size out", target.path)};
    }
    auto held = io::DriveFile::open(target.path, {});  // not under a server that runs
    if (!held) return held.error();
    held->reset();
    if (::unlink(target.path.c_str()) != 0)
      return Message{Status::kIo, fmt::format("{}: {}", target.path, std::strerror(errno))};
  }
  const uint64_t least = engine::drive_bytes_min(std::max(options.shards, 1u));
  if (target.create_bytes < least) {
    return Message{Status::kInvalid, fmt::format("{}: {} is too small: a drive needs at least {}", target.path,
                                                 base::format_bytes(target.create_bytes), base::format_bytes(least))};
  }
  Progress progress(target.path);
  auto made = io::create_drive_file(target.path, target.create_bytes, Progress::show, &progress);
  if (made) target.created = true;
  return made;
}

Result<void, Message> open(Target& target, const SetupOptions& options) {
  if (target.create_bytes > 0) {
    if (auto made = create(target, options); !made) return made;
  }
  auto file = io::DriveFile::open(target.path, {});
  if (!file) return file.error();
  target.file = std::move(file).value();
  std::string why;
  if (target.file->info().raw && !options.force && !looks_unused(target.path, &why)) {
    return Message{Status::kInvalid,
                   fmt::format("{}: {}: to overwrite all of it, format with --force", target.path, why)};
  }
  return {};
}

/// The file with the credential. One that was made by a run that then failed goes away again.
struct KeyFile {
  KeyFile(std::string at, bool made) : path(std::move(at)), created(made) {}
  KeyFile(const KeyFile&) = delete;
  ~KeyFile() {
    if (created && !keep) ::unlink(path.c_str());
  }
  std::string path;
  bool created = false;
  bool keep = false;
};

/// Made with mode 0600, or used as it is when it holds a credential.
Result<std::unique_ptr<KeyFile>, Message> credential_file(const SetupOptions& options) {
  const std::string wanted = options.auth_key_file.empty() ? kDefaultKeyFile : options.auth_key_file;
  const std::string path = std::filesystem::absolute(wanted).lexically_normal().string();
  base::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) {
    if (errno != EEXIST) return Message{Status::kIo, fmt::format("{}: cannot be made: {}", path, std::strerror(errno))};
    auto there = wire::parse_secret("@" + path);
    if (!there)
      return Message{Status::kInvalid,
                     fmt::format("{}: {}: name another with --auth-key-file", path, there.error().text)};
    return std::make_unique<KeyFile>(path, false);
  }
  const wire::Secret secret = wire::make_secret();
  const std::string text = base::hex_encode(base::bytes_of(secret.data(), secret.size())) + "\n";
  const bool written =
      ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd.get()) == 0;
  if (!written) {
    const int error = errno;
    ::unlink(path.c_str());
    return Message{Status::kIo, fmt::format("{}: cannot be written: {}", path, std::strerror(error))};
  }
  return std::make_unique<KeyFile>(path, true);
}

struct Figures {
  uint32_t shards = 1;
  uint64_t usable_bytes = 0;
  uint64_t index_bytes = 0;
  uint64_t block_bytes_max = 0;
};

Result<Figures, Message> figures_of(const std::vector<io::DriveFile*>& drives) {
  auto volume = engine::Volume::open(drives, {});
  if (!volume) return volume.error();
  Figures figures;
  figures.shards = (*volume)->superblock().shard_count;
  uint64_t shard_bytes = 0;
  for (uint32_t i = 0; i < (*volume)->drive_count(); i++) {
    const engine::Superblock& super = (*volume)->superblock_of(i);
    shard_bytes += engine::segment_count(super.slice_bytes, super.segment_bytes) *
                   (super.segment_bytes - 2 * engine::kBlockBytes);  // header and footer
  }
  figures.usable_bytes = shard_bytes * figures.shards;
  figures.index_bytes = index_entries(shard_bytes, kDefaultIndexBlock) * kIndexEntryBytes * figures.shards;
  figures.block_bytes_max = shard_bytes / 4;
  return figures;
}

void print_config(const SetupOptions& options, const Targets& targets, const std::string& key_file,
                  const Figures& figures) {
  const bool raw =
      std::all_of(targets.list.begin(), targets.list.end(), [](const Target& t) { return t.file->info().raw; });
  const bool cached = std::any_of(targets.list.begin(), targets.list.end(),
                                  [](const Target& t) { return t.file->info().volatile_cache; });
  std::string text =
      fmt::format(R"(# Configuration of a MemKV server, made by `memkv setup`. Start it: memkv start --config THIS_FILE
# {} for blocks on {} drive{}, {} shard{}. Blocks may have up to {}.
# The index takes {} of memory: room for blocks of {} on average; for smaller ones make memory.index_block_size smaller.

network:
  address: {:<28} # the one port for clients
  # 64 hex digits or @FILE; whoever has it may read and write all blocks.
  auth_key: "@{}"
  # congestion: bbr                     # TCP congestion control; by default cubic where the system has and permits it

storage:
  mode: {:<31} # direct: drives; file: files in a file system; memory: nothing survives a restart
  drives:
)",
                  base::format_bytes(figures.usable_bytes), targets.list.size(), targets.list.size() == 1 ? "" : "s",
                  figures.shards, figures.shards == 1 ? "" : "s", base::format_bytes(figures.block_bytes_max),
                  base::format_bytes(figures.index_bytes), base::format_bytes(kDefaultIndexBlock), options.address,
                  key_file, raw ? "direct" : "file");
  for (const Target& target : targets.list) {
    text += fmt::format("    - media: {}\n", std::filesystem::absolute(target.path).lexically_normal().string());
  }
  if (cached) {
    text +=
        "    # A drive with a write cache is written with care (each write is flushed). If it keeps its cache on power "
        "loss,\n"
        "    # say so below its media, and it is faster:  power_loss_protection: true\n";
  }
  text += R"(
memory:
  index_block_size: 32KiB               # average block that the index has room for
  # max_size: 1GiB                      # buffers; by default 256MiB a worker

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
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace

int run_setup(const SetupOptions& given) {
  SetupOptions options = given;
  if (options.address.empty()) options.address = "0.0.0.0:9900";
  if (auto address = io::parse_host_port(options.address); !address) return fail(address.error());
  if (options.drives.empty()) {
    auto chosen = choose_drives(options.force);
    if (!chosen) return fail(chosen.error());
    options.drives = std::move(chosen).value();
  }
  Targets targets;
  for (const std::string& text : options.drives) {
    auto target = parse_target(text);
    if (!target) return fail(target.error());
    targets.list.push_back(std::move(target).value());
  }
  std::vector<io::DriveFile*> drives;
  for (Target& target : targets.list) {
    if (auto opened = open(target, options); !opened) return fail(opened.error());
    drives.push_back(target.file.get());
  }
  auto key_file = credential_file(options);
  if (!key_file) return fail(key_file.error());
  if (auto done = engine::Volume::format(drives, {.shards = options.shards, .force = options.force}); !done)
    return fail(done.error());
  targets.keep = true;
  (*key_file)->keep = true;
  auto figures = figures_of(drives);
  if (!figures) return fail(figures.error());
  const std::string& key_path = (*key_file)->path;
  say("credential: {} {}; clients need it: MEMKV_AUTH_KEY=@{}",
      (*key_file)->created ? "a new one, readable by you alone, is in" : "as before, the one in", key_path, key_path);
  say("formatted {} drive{}: {} for blocks, {} shard{}", drives.size(), drives.size() == 1 ? "" : "s",
      base::format_bytes(figures->usable_bytes), figures->shards, figures->shards == 1 ? "" : "s");
  print_config(options, targets, key_path, *figures);
  return 0;
}

}  // namespace memkv::server
