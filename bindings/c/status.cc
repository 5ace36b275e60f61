#include "status.h"

#include <algorithm>
#include <cstring>

namespace memkv::c {
namespace {

struct Row {
  int32_t number;
  Status status;
  const char* text;
};

/// One row for each status: the C number, the C++ value, and the sentence for people.
constexpr Row kRows[] = {
    {MEMKV_OK, Status::kOk, "done"},
    {MEMKV_MISS, Status::kMiss, "the key, or a byte of the asked range, is not there"},
    {MEMKV_EXISTS, Status::kExists, "the key is there already; nothing was written"},
    {MEMKV_REFUSED, Status::kRefused, "the store chose not to take the block; nothing was written"},
    {MEMKV_CHANGED, Status::kChanged, "the block is another generation than the one asked for: read it anew"},
    {MEMKV_INVALID, Status::kInvalid,
     "the request itself is wrong: keys are 1 to 1,024 bytes, a range ends below the largest offset, and an op's "
     "memory "
     "is all registered GPU memory or none of it is"},
    {MEMKV_TOO_LARGE, Status::kTooLarge, "the block is larger than the store's limit: store it in several"},
    {MEMKV_UNAUTHORIZED, Status::kUnauthorized,
     "the server does not accept the credential, or did not prove its own: check MEMKV_AUTH_KEY"},
    {MEMKV_VERSION, Status::kVersion, "client and server have no protocol version in common: update the older one"},
    {MEMKV_BUSY, Status::kBusy, "a pool was empty until the deadline: send less at once, or allow more time"},
    {MEMKV_NOT_READY, Status::kNotReady, "the server was recovering its index until the deadline: try again"},
    {MEMKV_DEADLINE, Status::kDeadline,
     "the deadline passed: a get did not happen, a put may still land; allow more time, or look at the server"},
    {MEMKV_UNAVAILABLE, Status::kUnavailable,
     "the server cannot be reached: is it running, and is its address right? memkv_describe says what was tried"},
    {MEMKV_UNKNOWN, Status::kUnknown,
     "the change was sent and its reply was lost, so it may or may not have happened: do it again"},
    {MEMKV_CORRUPT, Status::kCorrupt, "bytes failed their checksum, and were not used"},
    {MEMKV_IO, Status::kIo, "a device or a socket failed: the server's log says which"},
    {MEMKV_NO_SPACE, Status::kNoSpace,
     "there is no room, and none could be made in time; of registered memory: raise the limit of locked memory "
     "(ulimit -l)"},
    {MEMKV_CANCELED, Status::kCanceled, "canceled by the caller, by the op that it was chained to, or by the close"},
    {MEMKV_FORKED, Status::kForked, kForkedText},
    {MEMKV_WRONG_WORKER, Status::kWrongWorker, "the op reached a worker that does not own its shard: please report it"},
    {MEMKV_INTERNAL, Status::kInternal, "a bug in MemKV: please report it"},
    {MEMKV_UNSUPPORTED, Status::kUnsupported,
     "this host, device or transport cannot do it, and nothing was done; copy GPU memory through host memory"},
};

constexpr bool same_numbers() {
  return std::all_of(std::begin(kRows), std::end(kRows),
                     [](const Row& row) { return row.number == static_cast<int32_t>(row.status); });
}
static_assert(same_numbers(), "memkv.h and error.h have the same numbers");

const Row* row_of(int32_t number) {
  const auto* row = std::find_if(std::begin(kRows), std::end(kRows), [&](const Row& r) { return r.number == number; });
  return row == std::end(kRows) ? nullptr : row;
}

constexpr size_t kMessageBytes = 1024;
thread_local char last_message[kMessageBytes];

}  // namespace

int32_t failed(Status status, std::string_view why) {
  const size_t bytes = std::min(why.size(), kMessageBytes - 1);
  std::memcpy(last_message, why.data(), bytes);
  last_message[bytes] = '\0';
  return static_cast<int32_t>(status);
}

int32_t told(Status status) {
  const auto number = static_cast<int32_t>(status);
  return is_failure(status) ? failed(status, memkv_error_text(number)) : number;
}

}  // namespace memkv::c

extern "C" {

const char* memkv_error_name(int32_t status) {
  const memkv::c::Row* row = memkv::c::row_of(status);
  return row ? memkv::to_string(row->status).data() : "unnamed";  // literals, so they end with a zero
}

const char* memkv_error_text(int32_t status) {
  const memkv::c::Row* row = memkv::c::row_of(status);
  return row ? row->text : "no status of this version of the library";
}

const char* memkv_last_message(void) { return memkv::c::last_message; }
const char* memkv_version(void) { return MEMKV_LIBRARY_VERSION; }
uint32_t memkv_abi_version(void) { return MEMKV_ABI_VERSION; }
}
