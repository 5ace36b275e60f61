/// `memkv setup`: formats drives, makes a credential, writes a configuration. The order matters: first all checks that
/// take no time; then the files of drives are made; then the configuration is written and checked; and only then is a
/// drive formatted.

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/clock.h"
#include "base/standard_streams.h"
#include "base/units.h"
#include "format/fit.h"
#include "format/layout.h"
#include "io/device.h"
#include "io/socket.h"
#include "server/config_file.h"
#include "server/find_drives.h"
#include "server/options.h"
#include "server/server.h"
#include "server/storage.h"
#include "volume/volume.h"
#include "wire/credential_file.h"

namespace memkv::server {
namespace {

constexpr int kExitInput = 2;
constexpr int kExitFailed = 5;
constexpr const char* kDefaultKeyFile = "memkv.key";
constexpr uint64_t kDefaultIndexBlock = 32 * base::kKiB;
constexpr uint32_t kPatienceMs = 1000;  ///< how long a message waits for its reader

template <typename... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  (void)base::write_stderr(fmt::format(format, std::forward<Args>(args)...) + "\n", kPatienceMs);
}

int fail(int code, const std::string& text) {
  say("memkv setup: {}", text);
  return code;
}
int fail(const Message& message) {
  const bool input =
      message.status == Status::kInvalid || message.status == Status::kTooLarge || message.status == Status::kExists;
  return fail(input ? kExitInput : kExitFailed, message.text);
}

struct Target {
  std::string path;
  uint64_t create_bytes = 0;  ///< size of the file to make; 0: it exists
  bool created = false;
  std::unique_ptr<io::DriveFile> file;
};

/// Reads "PATH" or "PATH:8GiB". If the whole text is a path that exists, it is that path, whatever colons it has.
Result<Target, Message> parse_target(const std::string& text) {
  const size_t colon = text.rfind(':');
  Target target;
  target.path = text;
  if (::access(text.c_str(), F_OK) == 0) return target;
  if (colon == std::string::npos || text.find('/', colon) != std::string::npos) return target;
  auto size = parse_size_option(text.substr(colon + 1), fmt::format("--drive {}", text));
  if (!size) {
    return Message{Status::kInvalid,
                   size.error().text + fmt::format(". If {} is a path: there is nothing of that name", text)};
  }
  target.path = text.substr(0, colon);
  target.create_bytes = base::align_down(*size, base::kSectorBytes);
  if (target.path.empty()) return Message{Status::kInvalid, fmt::format("--drive {}: names no path", text)};
  return target;
}

/// While it lives, Ctrl-C and similar signals are only noted, so that setup can remove what it has made before it ends.
/// A second one ends the program as usual. Signals that were ignored when the program began stay ignored.
class Interrupts {
 public:
  Interrupts() {
    for (size_t i = 0; i < kSignals.size(); i++) {
      struct sigaction action {};
      action.sa_handler = [](int) { seen_ = 1; };
      action.sa_flags = SA_RESETHAND;
      ::sigaction(kSignals[i], nullptr, &before_[i]);
      if (before_[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
    }
    pipe_before_ = ::signal(SIGPIPE, SIG_IGN);  // a reader of stdout that is gone becomes an error of write()
  }
  ~Interrupts() {
    for (size_t i = 0; i < kSignals.size(); i++) ::sigaction(kSignals[i], &before_[i], nullptr);
    ::signal(SIGPIPE, pipe_before_);
  }
  static bool seen() { return seen_ != 0; }

 private:
  static constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP};
  static inline volatile sig_atomic_t seen_ = 0;
  std::array<struct sigaction, kSignals.size()> before_{};
  sighandler_t pipe_before_ = SIG_DFL;
};

/// Progress: on a terminal one line that moves, elsewhere a line every few seconds.
class Progress {
 public:
  explicit Progress(std::string path)
      : path_(std::move(path)), terminal_(isatty(STDERR_FILENO) != 0), next_ns_(clock_.now_ns() + step()) {}
  ~Progress() {
    if (shown_ && terminal_) (void)base::write_stderr("\n");
  }
  static bool show(uint64_t done, uint64_t total, void* self) {
    static_cast<Progress*>(self)->show(done, total);
    return !Interrupts::seen();
  }

 private:
  uint64_t step() const { return (terminal_ ? 1 : 30) * base::kNsPerSecond / 10; }
  void show(uint64_t done, uint64_t total) {
    const uint64_t now = clock_.now_ns();
    if (now < next_ns_) return;
    next_ns_ = now + step();
    shown_ = true;
    const std::string line = fmt::format("{}: {} of {} written ({} %)", path_, base::format_bytes(done),
                                         base::format_bytes(total), total == 0 ? 100 : done * 100 / total);
    (void)base::write_stderr(terminal_ ? "\r" + line + "  " : line + "\n");
  }

  base::SystemClock clock_;
  std::string path_;
  bool terminal_;
  bool shown_ = false;
  uint64_t next_ns_;
};

/// The drives of this run. Files that it made are removed if the run fails.
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

/// Fills in the drives of the machine, and tells what it found.
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

/// Makes the file of a drive, filled with zeros, so that it has all its space from the start. A file that exists is
/// replaced only with --force, and never while a server has it open.
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
    auto held = io::DriveFile::open(target.path, {});  // refused if a running server has it
    if (!held) return held.error();
    held->reset();
    if (::unlink(target.path.c_str()) != 0)
      return Message{Status::kIo, fmt::format("{}: {}", target.path, std::strerror(errno))};
  }
  const uint64_t least = format::drive_bytes_min(std::max(options.shards, 1u));
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
  if (target.create_bytes == 0 && !options.force && !looks_unused(target.path, &why)) {
    return Message{Status::kInvalid,
                   fmt::format("{}: {}: to overwrite all of it, format with --force", target.path, why)};
  }
  return {};
}

/// The file with the credential. If this run made it and then fails, it is removed.
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

/// Makes the file with mode 0600. If it exists and holds a credential, that one is used.
Result<std::unique_ptr<KeyFile>, Message> credential_file(const SetupOptions& options) {
  const std::string wanted = options.auth_key_file.empty() ? kDefaultKeyFile : options.auth_key_file;
  const std::string path = std::filesystem::absolute(wanted).lexically_normal().string();
  const int failed = wire::write_credential_file(path, wire::make_secret());
  if (failed == 0) return std::make_unique<KeyFile>(path, true);
  if (failed != EEXIST) return Message{Status::kIo, fmt::format("{}: cannot be made: {}", path, std::strerror(failed))};
  auto there = wire::parse_secret("@" + path);
  if (!there) {
    return Message{Status::kInvalid,
                   fmt::format("{}: {}: name another with --auth-key-file", path, there.error().text)};
  }
  return std::make_unique<KeyFile>(path, false);
}

struct Figures {
  uint32_t shards = 1;
  uint64_t fitting_bytes = 0, fitting_lone_bytes = 0;  // of blocks of kDefaultIndexBlock
  uint64_t index_bytes = 0;
  uint64_t block_bytes_max = 0;
};

Figures figures_of(const std::vector<io::DriveFile*>& drives, uint32_t shards) {
  Figures figures;
  figures.shards = shards;
  uint64_t shard_bytes = 0;
  for (const io::DriveFile* drive : drives) {
    const format::Layout layout = format::choose_layout(drive->info().size_bytes, shards).value();
    shard_bytes += format::segment_count(layout.slice_bytes, layout.segment_bytes) *
                   (layout.segment_bytes - 2 * base::kSectorBytes);  // header and footer
    const auto fitting = [&](uint32_t batch) {
      return shards * format::fitting_bytes(layout.slice_bytes, layout.segment_bytes, kDefaultIndexBlock, batch);
    };
    figures.fitting_bytes += fitting(format::kFitBatch);
    figures.fitting_lone_bytes += fitting(1);
  }
  figures.index_bytes = index_entries(shard_bytes, kDefaultIndexBlock) * kIndexEntryBytes * shards;
  figures.block_bytes_max = shard_bytes / 4;
  return figures;
}

std::string config_text(const SetupOptions& options, const Targets& targets, const std::string& key_file,
                        const Figures& figures) {
  ConfigFigures told;
  told.address = options.address;
  told.key_file = key_file;
  told.shards = figures.shards;
  told.fitting_bytes = figures.fitting_bytes;
  told.fitting_lone_bytes = figures.fitting_lone_bytes;
  told.index_bytes = figures.index_bytes;
  told.index_block_bytes = kDefaultIndexBlock;
  told.block_bytes_max = figures.block_bytes_max;
  for (const Target& target : targets.list) {
    told.drives.push_back(std::filesystem::absolute(target.path).lexically_normal().string());
    told.raw = told.raw && target.file->info().raw;
    told.volatile_cache = told.volatile_cache || target.file->info().volatile_cache;
  }
  return render_config(told);
}

/// Refuses all that can be refused before anything is made.
Result<void, Message> check_targets(const Targets& targets) {
  std::vector<io::NewFile> files;
  for (const Target& target : targets.list) {
    if (target.create_bytes > 0) files.push_back({target.path, target.create_bytes});
  }
  return io::check_room(files);
}

/// Opens or makes the drives and checks that they will do. Does not write to a drive that existed before.
Result<Figures, Message> prepare(Targets& targets, const SetupOptions& options, std::vector<io::DriveFile*>& drives) {
  if (auto fits = check_targets(targets); !fits) return fits.error();
  for (Target& target : targets.list) {
    if (auto opened = open(target, options); !opened) return opened.error();
    drives.push_back(target.file.get());
  }
  auto shards = volume::Volume::check_format(drives, {.shards = options.shards, .force = options.force});
  if (!shards) return shards.error();
  return figures_of(drives, *shards);
}

}  // namespace

int run_setup(const SetupOptions& given) {
  const Interrupts interrupts;
  SetupOptions options = given;
  if (options.address.empty()) options.address = "0.0.0.0:9900";
  if (auto address = io::parse_host_port(options.address); !address) return fail(address.error());
  options.drives = split_drives(options.drives);
  if (options.drives.empty()) {
    auto chosen = choose_drives(options.force);
    if (!chosen) return fail(chosen.error());
    options.drives = std::move(chosen).value();
  }
  auto config = ConfigFile::open(options.output, options.force);
  if (!config) return fail(config.error());
  Targets targets;
  for (const std::string& text : options.drives) {
    auto target = parse_target(text);
    if (!target) return fail(target.error());
    targets.list.push_back(std::move(target).value());
  }
  auto key_file = credential_file(options);
  if (!key_file) return fail(key_file.error());
  std::vector<io::DriveFile*> drives;
  auto figures = prepare(targets, options, drives);
  if (!figures) return fail(figures.error());
  const std::string& key_path = (*key_file)->path;
  if (auto out = config->write(config_text(options, targets, key_path, *figures)); !out) return fail(out.error());
  if (Interrupts::seen()) return fail(kExitFailed, "interrupted: nothing was formatted, what was made is removed");
  if (auto done = volume::Volume::format(drives, {.shards = options.shards, .force = options.force}); !done)
    return fail(done.error());
  targets.keep = true;
  (*key_file)->keep = true;
  if (auto kept = config->keep(); !kept) return fail(kept.error());
  say("credential: {} {}; clients need it: MEMKV_AUTH_KEY=@{}",
      (*key_file)->created ? "a new one, readable by you alone, is in" : "as before, the one in", key_path, key_path);
  say("formatted {} drive{}: {} for blocks of {} ({} if each is put alone), {} shard{}", drives.size(),
      drives.size() == 1 ? "" : "s", base::format_bytes(figures->fitting_bytes), base::format_bytes(kDefaultIndexBlock),
      base::format_bytes(figures->fitting_lone_bytes), figures->shards, figures->shards == 1 ? "" : "s");
  return 0;
}

}  // namespace memkv::server
