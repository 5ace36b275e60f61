#pragma once
/// Statuses and messages of the C ABI. No exception leaves the library.

#include <exception>
#include <new>
#include <string_view>

#include "memkv/error.h"
#include "memkv/memkv.h"

namespace memkv::c {

using Checked = Result<void, Message>;

/// Keeps the reason for memkv_last_message() in this thread, and returns the status's number. The reason is copied into
/// a fixed buffer and cut to its size, so no memory is needed.
int32_t failed(Status status, std::string_view why);
inline int32_t failed(const Message& message) { return failed(message.status, message.text); }
inline int32_t failed(const Error& error) { return failed(error.status, error.what); }

/// The number of an op's status. If it is a failure, its sentence becomes the thread's message.
int32_t told(Status status);

inline Message invalid(std::string text) { return {Status::kInvalid, std::move(text)}; }

/// What every call is answered in the child of a fork.
inline constexpr const char* kForkedText =
    "this process is the child of a fork, and the object is its parent's: connect a client of its own";

/// Runs `body`, which returns the number of a status. Exceptions become a status, too.
template <typename Body>
int32_t guarded(Body body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return failed(Status::kBusy, "there is no memory for this call, and nothing was begun: try again");
  } catch (const std::exception& e) {
    return failed(Status::kInternal, e.what());
  }
}

}  // namespace memkv::c
