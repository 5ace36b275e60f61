#include "memkv/error.h"

namespace memkv {

std::string_view to_string(Status s) {
  switch (s) {
    case Status::kOk:
      return "ok";
    case Status::kMiss:
      return "miss";
    case Status::kExists:
      return "exists";
    case Status::kRefused:
      return "refused";
    case Status::kChanged:
      return "changed";
    case Status::kInvalid:
      return "invalid";
    case Status::kTooLarge:
      return "too_large";
    case Status::kUnauthorized:
      return "unauthorized";
    case Status::kVersion:
      return "version";
    case Status::kBusy:
      return "busy";
    case Status::kNotReady:
      return "not_ready";
    case Status::kDeadline:
      return "deadline";
    case Status::kUnavailable:
      return "unavailable";
    case Status::kUnknown:
      return "unknown";
    case Status::kCorrupt:
      return "corrupt";
    case Status::kIo:
      return "io";
    case Status::kNoSpace:
      return "no_space";
    case Status::kCanceled:
      return "canceled";
    case Status::kForked:
      return "forked";
    case Status::kWrongWorker:
      return "wrong_worker";
    case Status::kInternal:
      return "internal";
    case Status::kUnsupported:
      return "unsupported";
  }
  return "unnamed";
}

}  // namespace memkv
