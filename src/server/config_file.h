#pragma once
/// The configuration that `memkv setup` makes: renders its text, writes it and checks that it was written. Thread:
/// main.

#include <cstdint>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "memkv/error.h"

namespace memkv::server {

/// What the text says about a store that is about to be formatted.
struct ConfigFigures {
  std::string address;
  std::string key_file;             ///< of the credential; absolute
  std::vector<std::string> drives;  ///< absolute
  bool raw = true;                  ///< all drives are block devices
  bool volatile_cache = false;      ///< one of the drives has a write cache, or may have one
  uint32_t shards = 1;
  uint64_t fitting_bytes = 0;       ///< of blocks of index_block_bytes, put in batches
  uint64_t fitting_lone_bytes = 0;  ///< put one by one
  uint64_t block_bytes_max = 0;
  uint64_t index_bytes = 0;
  uint64_t index_block_bytes = 0;
};
/// The YAML text, with comments. Paths are quoted where YAML would read something else.
std::string render_config(const ConfigFigures& figures);

/// The place that the text goes to. Without keep() its destructor takes back what was written.
class ConfigFile {
 public:
  /// Empty `output`: stdout. A file that exists is refused, unless `replace`. The new file appears with keep().
  static Result<ConfigFile, Message> open(const std::string& output, bool replace);
  ConfigFile(ConfigFile&& other) noexcept;
  ConfigFile& operator=(ConfigFile&&) = delete;
  ~ConfigFile();

  /// Writes the text through to the disk, after the server's own parser has read it. Fails with a sentence.
  Result<void, Message> write(const std::string& text);
  Result<void, Message> keep();

 private:
  ConfigFile() = default;
  Message failed(const char* doing) const;
  int fd() const;

  std::string path_;   ///< empty: stdout
  std::string draft_;  ///< the file's name until keep(); empty: stdout
  base::UniqueFd owned_;
  int64_t stdout_from_ = -1;  ///< where our text begins in the file that is stdout; -1: stdout is no file
};

}  // namespace memkv::server
