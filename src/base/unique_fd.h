#pragma once
/// Owns a file descriptor. It is never 0, 1 or 2: such a one is moved above the standard streams.

#include <utility>

#include "base/standard_streams.h"

namespace memkv::base {

/// Closes its descriptor in the destructor. Empty after a move. Thread: any, one at a time.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(above_standard_streams(fd)) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  /// The caller closes it.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  /// Closes the descriptor that it has, and takes `fd`.
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

}  // namespace memkv::base
