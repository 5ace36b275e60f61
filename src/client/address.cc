#include <arpa/inet.h>

#include <charconv>

#include "base/text.h"
#include "client/settings.h"
#include "io/socket.h"

namespace memkv::client {
namespace {

using base::trim;

constexpr size_t kNameBytesMax = 256;

Message bad(std::string_view text, const std::string& why) {
  return {Status::kInvalid,
          "server '" + std::string(text) + "': " + why + ". Write NAME=HOST:PORT, as in kv1=10.0.0.10:9900"};
}

bool parse_port(std::string_view digits, uint16_t& port) {
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return error == std::errc{} && end == digits.data() + digits.size() && port != 0;
}

}  // namespace

Result<ServerAddress, Message> parse_server(std::string_view text) {
  const std::string_view whole = trim(text);
  std::string_view rest = whole;
  ServerAddress out;
  if (const size_t equals = rest.find('='); equals != std::string_view::npos) {
    out.name = std::string(trim(rest.substr(0, equals)));
    out.named = true;
    rest = trim(rest.substr(equals + 1));
    if (out.name.empty()) return bad(whole, "the name before '=' is empty");
    if (out.name.size() > kNameBytesMax) return bad(whole, "the name is longer than 256 bytes");
  }
  if (const size_t scheme = rest.find("://"); scheme != std::string_view::npos) rest = rest.substr(scheme + 3);
  while (rest.ends_with('/')) rest.remove_suffix(1);
  std::string_view host = rest;
  std::string_view port;
  bool has_port = false;
  if (rest.starts_with('[')) {
    const size_t close = rest.find(']');
    if (close == std::string_view::npos) return bad(whole, "']' is missing");
    host = rest.substr(1, close - 1);
    const std::string_view after = rest.substr(close + 1);
    if (!after.empty() && after[0] != ':') return bad(whole, "only :PORT may follow ']'");
    has_port = !after.empty();
    if (has_port) port = after.substr(1);
  } else if (const size_t colon = rest.rfind(':'); colon != std::string_view::npos) {
    host = rest.substr(0, colon);
    port = rest.substr(colon + 1);
    has_port = true;
    if (host.find(':') != std::string_view::npos)
      return bad(whole, "an IPv6 address stands in brackets, as in [::1]:9900");
  }
  if (host.empty()) return bad(whole, "the host is missing");
  if (has_port && !parse_port(port, out.port)) return bad(whole, "the port must be a number from 1 to 65535");
  out.host = std::string(host);
  if (!out.named) out.name = io::format_host_port(out.host, out.port);
  return out;
}

bool is_numeric_host(const std::string& host) {
  in6_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1 || inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

bool is_loopback_host(const std::string& host) {
  return host == "localhost" || host == "::1" || (host.starts_with("127.") && is_numeric_host(host));
}

}  // namespace memkv::client
