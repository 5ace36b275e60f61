#pragma once
/// Which TCP congestion control a program's sockets use. The default gives way to the system; a name that a user wrote
/// does not.

#include <string>

#include "memkv/error.h"

namespace memkv::io {

struct Congestion {
  std::string name;  ///< empty: sockets keep the system's
  std::string note;  ///< one line when the default is not to be had, and what is used instead; else empty
};

/// Chooses by `wanted`. Empty: cubic, or the system's where this process cannot have cubic. "system": the system's. Any
/// other name must be available, else kInvalid says why it is not; the message starts with `where` (the option's name).
Result<Congestion, Message> choose_congestion(const std::string& wanted, const std::string& where);

/// Why a socket did not take `name`: not offered by the system, or not permitted to this process.
std::string explain_congestion(const std::string& name, int error);

}  // namespace memkv::io
