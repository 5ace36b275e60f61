#pragma once
/// Chooses the TCP congestion control of a program's sockets. The default gives way to the system's where it cannot be
/// had. A name that a user wrote does not give way: it is an error.

#include <string>

#include "memkv/error.h"

namespace memkv::io {

struct Congestion {
  std::string name;  ///< empty: sockets keep the system's default
  std::string note;  ///< one line when the default cannot be had, which says what is used instead; else empty
};

/// Chooses by `wanted`. Empty: cubic, or the system's where this process cannot have cubic. "system": the system's. Any
/// other name must be available; if not, kInvalid says why. The message begins with `where` (the option's name).
Result<Congestion, Message> choose_congestion(const std::string& wanted, const std::string& where);

/// Why a socket did not take `name`: the system does not offer it, or this process may not use it.
std::string explain_congestion(const std::string& name, int error);

}  // namespace memkv::io
