/// get: writes a block to a file or to stdout, piece by piece.

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"
#include "base/units.h"
#include "tools/memkv/session.h"

namespace memkv::cli {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{32} << 20;
constexpr int kAttempts = 3;  ///< if a block is replaced while it is read, it is read again, so often

struct Range {
  uint64_t offset = 0;
  uint64_t length = UINT64_MAX;
};

Result<uint64_t, Message> parse_bytes(const char* option, const std::string& text) {
  auto parsed = base::parse_size(text, base::BareNumber::kAllow);
  if (!parsed) return Message{Status::kInvalid, fmt::format("{}: {}", option, parsed.error().text)};
  return *parsed;
}

Result<Range, Message> parse_range(const GetOptions& options) {
  Range range;
  if (!options.offset.empty()) {
    auto offset = parse_bytes("--offset", options.offset);
    if (!offset) return offset.error();
    range.offset = *offset;
  }
  if (!options.length.empty()) {
    auto length = parse_bytes("--length", options.length);
    if (!length) return length.error();
    range.length = *length;
  }
  return range;
}

/// Where the bytes go. A named file appears whole or not at all: the bytes go into another file, which is renamed at
/// the end.
class Sink {
 public:
  static Result<Sink, Message> open_at(const std::string& file);
  Sink(Sink&& other) noexcept = default;
  Sink& operator=(Sink&&) = delete;
  ~Sink() {
    if (!partial_.empty()) unlink(partial_.c_str());
  }
  Result<void, Message> write_all(const std::byte* data, size_t size);
  Result<void, Message> finish();

 private:
  Sink() = default;
  Message error(const char* doing) const {
    return {Status::kIo, fmt::format("{}: cannot {}: {}", file_, doing, std::strerror(errno))};
  }

  std::string file_ = "stdout";
  std::string partial_;  ///< empty: the file is written in place
  base::UniqueFd owned_;
  int fd_ = STDOUT_FILENO;
};

Result<Sink, Message> Sink::open_at(const std::string& file) {
  Sink sink;
  if (file.empty() || file == "-") return sink;
  sink.file_ = file;
  struct stat info {};
  const bool in_place = stat(file.c_str(), &info) == 0 && !S_ISREG(info.st_mode);
  const std::string path = in_place ? file : fmt::format("{}.partial.{}", file, getpid());
  sink.owned_.reset(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!sink.owned_) return sink.error("write");
  if (!in_place) sink.partial_ = path;
  sink.fd_ = sink.owned_.get();
  return sink;
}

Result<void, Message> Sink::write_all(const std::byte* data, size_t size) {
  while (size > 0) {
    const ssize_t wrote = write(fd_, data, size);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return error("write");
    data += wrote;
    size -= static_cast<size_t>(wrote);
  }
  return {};
}

/// Closes the file. Some file systems report a full disk or a quota only then.
Result<void, Message> Sink::finish() {
  if (owned_ && ::close(owned_.release()) != 0 && errno != EINTR) return error("write");
  if (partial_.empty()) return {};
  if (rename(partial_.c_str(), file_.c_str()) != 0) return error("rename");
  partial_.clear();
  return {};
}

/// Reads the block once from front to back. If the block changed before anything was written, run() returns kChanged.
class Reading {
 public:
  Reading(Connected& connected, const std::string& key, Sink& sink) : connected_(connected), key_(key), sink_(sink) {}

  /// Returns 0 when all is written, else the exit code; the failure has been printed then.
  int run(const Range& range) {
    for (int attempt = 1;; ++attempt) {
      const Status status = once(range);
      if (status == Status::kOk) return told_;
      if (status == Status::kChanged && wrote_ == 0 && attempt < kAttempts) continue;
      return explain(connected_, "get", key_, status);
    }
  }

 private:
  Status once(const Range& range) {
    const Outcome found = connected_.client.stat(key_, connected_.timeout);
    if (!found.hit()) return found.status;
    if (range.offset > found.block_bytes) return past_the_end(range, found.block_bytes);
    const uint64_t end = range.offset + std::min(range.length, found.block_bytes - range.offset);
    buffer_.resize(std::min(kPieceBytes, end - range.offset));
    for (uint64_t at = range.offset; at < end;) {
      const size_t size = std::min<uint64_t>(kPieceBytes, end - at);
      const Status status = piece(at, size, found.generation);
      if (status != Status::kOk || told_ != 0) return status;
      at += size;
    }
    return Status::kOk;
  }

  Status piece(uint64_t at, size_t size, Generation generation) {
    Batch batch;
    batch.get(key_, Scatter(buffer_.data(), size), at, generation);
    const auto outcomes = connected_.client.run(batch, connected_.timeout);
    if (!outcomes[0].hit()) return outcomes[0].status;
    if (outcomes[0].bytes != size) return Status::kChanged;
    auto written = sink_.write_all(buffer_.data(), size);
    if (!written) told_ = fail(kExitFailed, written.error().text);
    wrote_ += size;
    return Status::kOk;
  }

  Status past_the_end(const Range& range, uint64_t block_bytes) {
    told_ = fail(kExitUsage, fmt::format("get {}: --offset {} is past the end: the block has {} bytes", show_key(key_),
                                         range.offset, block_bytes));
    return Status::kOk;
  }

  Connected& connected_;
  const std::string& key_;
  Sink& sink_;
  std::vector<std::byte> buffer_;
  uint64_t wrote_ = 0;
  int told_ = 0;  ///< exit code of a failure that was printed
};

}  // namespace

int run_get(const GetOptions& options) {
  auto key = parse_key(options.key, options.common.hex);
  if (!key) return fail(key.error());
  auto range = parse_range(options);
  if (!range) return fail(range.error());
  auto connected = connect(options.common);
  if (!connected) return fail(connected.error());
  auto sink = Sink::open_at(options.file);
  if (!sink) return fail(kExitUsage, sink.error().text);
  Reading reading(*connected, *key, *sink);
  if (const int code = reading.run(*range); code != 0) return code;
  auto finished = sink->finish();
  return finished ? kExitDone : fail(kExitFailed, finished.error().text);
}

}  // namespace memkv::cli
