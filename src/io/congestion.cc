#include "io/congestion.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/unique_fd.h"
#include "io/socket.h"

namespace memkv::io {
namespace {

constexpr const char* kDefault = "cubic";

/// ", and SYSCTL is 'reno bbr'"; empty where the file cannot be read.
std::string listed(const char* sysctl) {
  std::string names;
  std::ifstream file(std::string("/proc/sys/net/ipv4/") + sysctl);
  if (!std::getline(file, names) || names.empty()) return {};
  return std::string(", and net.ipv4.") + sysctl + " is '" + names + "'";
}

/// Tries `name` on a socket. Returns 0 or the errno. Where no socket can be made it returns 0: the caller that needs
/// one reports that.
int try_congestion(const std::string& name, std::string& system) {
  base::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) fd.reset(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return 0;
  system = get_congestion(fd.get());
  const auto set = set_congestion(fd.get(), name);
  return set ? 0 : set.error().sys_errno;
}

}  // namespace

std::string explain_congestion(const std::string& name, int error) {
  const std::string subject = "TCP congestion control '" + name + "'";
  if (error == EPERM || error == EACCES) {
    return subject + " is not permitted to this process (" + strerrorname_np(error) + "): it has no CAP_NET_ADMIN" +
           listed("tcp_allowed_congestion_control");
  }
  if (error == ENOENT) {
    return subject + " is not offered by this system (ENOENT): its module is not loaded" +
           listed("tcp_available_congestion_control");
  }
  return subject + " cannot be set: " + strerror(error);
}

Result<Congestion, Message> choose_congestion(const std::string& wanted, const std::string& where) {
  if (wanted == "system") return Congestion{};
  const std::string& name = wanted.empty() ? kDefault : wanted;
  std::string system;
  const int error = try_congestion(name, system);
  if (error == 0) return Congestion{name, {}};
  const std::string why = explain_congestion(name, error);
  if (!wanted.empty()) return Message{Status::kInvalid, where + ": " + why + "; leave it out, or use 'system'"};
  return Congestion{{}, why + "; the system's '" + system + "' is used"};
}

}  // namespace memkv::io
