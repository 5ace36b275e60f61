#pragma once
/// The configuration that `memkv setup` makes: its text, and its way out, checked. Thread: main.

#include <cstdint>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "memkv/error.h"

namespace memkv::server {

/// What the text tells of a store that is about to be formatted.
struct ConfigFigures {
  std::string address;
  std::string key_file;             ///< of the credential; absolute
  std::vector<std::string> drives;  ///< absolute
  bool raw = true;                  ///< all of them are block devices
  bool volatile_cache = false;      ///< one of them has a write cache, or may have
  uint32_t shards = 1;
  uint64_t fitting_bytes = 0;       ///< of blocks of index_block_bytes, put in batches
  uint64_t fitting_lone_bytes = 0;  ///< put one by one
  uint64_t block_bytes_max = 0;
  uint64_t index_bytes = 0;
  uint64_t index_block_bytes = 0;
};
/// The commented YAML. Paths are quoted where YAML would read something else.
std::string render_config(const ConfigFigures& figures);

/// Where the text goes. What was written is taken back unless keep() is reached.
class ConfigFile {
 public:
  /// Empty `output`: stdout. A file is refused when it is there already, unless `replace`; it appears with keep().
  static Result<ConfigFile, Message> open(const std::string& output, bool replace);
  ConfigFile(ConfigFile&& other) noexcept;
  ConfigFile& operator=(ConfigFile&&) = delete;
  ~ConfigFile();

  /// Writes all of it through to the disk, once the server's own parser has read it. Fails with a sentence.
  Result<void, Message> write(const std::string& text);
  Result<void, Message> keep();

 private:
  ConfigFile() = default;
  Message failed(const char* doing) const;
  int fd() const;

  std::string path_;   ///< empty: stdout
  std::string draft_;  ///< what is there until keep(); empty: stdout
  base::UniqueFd owned_;
  int64_t stdout_from_ = -1;  ///< where our text begins in a file that is stdout; -1: it is no file
};

}  // namespace memkv::server
