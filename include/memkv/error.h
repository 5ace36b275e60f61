#pragma once
/// Outcomes, failures and `Result<T>`: the one vocabulary of status shared by the wire, the C++ API and the tools.

#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace memkv {

/// What became of one op. Values 0..15 are *outcomes* (the store did its job), values from 16 on are *failures*.
/// The numbers stand on the wire and in JSON: never renumber, only append. One table: docs/wire-protocol.md.
enum class Status : uint8_t {
  kOk = 0,             ///< done: a hit, stored, removed, touched
  kMiss = 1,           ///< the key (or a byte of the asked range) is not there
  kExists = 2,         ///< put_if_absent found the key; nothing was written
  kRefused = 3,        ///< a put that the store chose not to take (breaker open, admission); nothing was written
  kChanged = 4,        ///< get demanded a generation that is no longer the present one
  kInvalid = 16,       ///< the request itself is wrong: empty or too long key, bad range, bad option
  kTooLarge = 17,      ///< larger than the store's limit
  kUnauthorized = 18,  ///< the credential was not accepted, or the peer failed to prove its own
  kVersion = 19,       ///< no protocol or format version in common
  kBusy = 20,          ///< a pool was empty; worth trying again within the deadline
  kNotReady = 21,      ///< the server is still recovering its index
  kDeadline = 22,      ///< the deadline passed; a get did not happen, a put may still land
  kUnavailable = 23,   ///< the server cannot be reached (connect failed, connection lost, breaker open)
  kUnknown = 24,       ///< a change was sent and its reply was lost: it may or may not have happened
  kCorrupt = 25,       ///< bytes failed their checksum
  kIo = 26,            ///< a device or socket failed; sys_errno says how
  kNoSpace = 27,       ///< no room and nothing could be evicted in time
  kCanceled = 28,      ///< canceled by the caller
  kForked = 29,        ///< called in the child of a fork
  kWrongWorker = 30,   ///< the op reached a worker that does not own its shard (internal; never leaves the client)
  kInternal = 31,      ///< a bug, reported instead of hidden
  kUnsupported = 32,   ///< this host, device or transport cannot do it (GPU memory without rdma); nothing was done
};

/// True for outcomes (the store did its job, even if that was a miss), false for failures.
constexpr bool is_outcome(Status s) { return static_cast<uint8_t>(s) < 16; }
constexpr bool is_failure(Status s) { return !is_outcome(s); }

/// The status's stable short name ("ok", "miss", "deadline", ...), as printed by tools and JSON.
std::string_view to_string(Status s);

/// A failure: which one, the errno behind it if any, and a static sentence about where. Small, copyable, no allocation.
struct Error {
  Status status = Status::kInternal;
  int32_t sys_errno = 0;  ///< 0 if no system call is to blame
  const char* what = "";  ///< static storage, never freed

  friend bool operator==(const Error& a, const Error& b) { return a.status == b.status; }
};

/// A failure told to a human at the edge (configuration, set-up, command line): what was wrong, where, what to do.
struct Message {
  Status status = Status::kInvalid;
  std::string text;
};

/// A value or a failure. `[[nodiscard]]`; reading the wrong side aborts.
template <typename T, typename E = Error>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : ok_(true) { new (&storage_.value) T(std::move(value)); }   // NOLINT: implicit on purpose
  Result(E error) : ok_(false) { new (&storage_.error) E(std::move(error)); }  // NOLINT: implicit on purpose
  Result(Result&& o) noexcept : ok_(o.ok_) { take(std::move(o)); }
  Result(const Result& o) : ok_(o.ok_) {
    if (ok_)
      new (&storage_.value) T(o.storage_.value);
    else
      new (&storage_.error) E(o.storage_.error);
  }
  Result& operator=(Result o) noexcept {
    destroy();
    ok_ = o.ok_;
    take(std::move(o));
    return *this;
  }
  ~Result() { destroy(); }

  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  T& value() & {
    check(ok_);
    return storage_.value;
  }
  const T& value() const& {
    check(ok_);
    return storage_.value;
  }
  T&& value() && {
    check(ok_);
    return std::move(storage_.value);
  }
  E& error() & {
    check(!ok_);
    return storage_.error;
  }
  const E& error() const& {
    check(!ok_);
    return storage_.error;
  }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T value_or(T other) && { return ok_ ? std::move(storage_.value) : std::move(other); }

 private:
  static void check(bool right) {
    if (!right) std::abort();
  }
  void take(Result&& o) {
    if (ok_)
      new (&storage_.value) T(std::move(o.storage_.value));
    else
      new (&storage_.error) E(std::move(o.storage_.error));
  }
  void destroy() {
    if (ok_)
      storage_.value.~T();
    else
      storage_.error.~E();
  }
  union Storage {
    Storage() {}
    ~Storage() {}
    T value;
    E error;
  } storage_;
  bool ok_;
};

template <typename E>
class [[nodiscard]] Result<void, E> {
 public:
  using value_type = void;
  Result() : ok_(true) {}
  Result(E error) : error_(std::move(error)), ok_(false) {}  // NOLINT: implicit on purpose
  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  void value() const {
    if (!ok_) std::abort();
  }
  const E& error() const {
    if (ok_) std::abort();
    return error_;
  }

 private:
  E error_{};
  bool ok_;
};

}  // namespace memkv
