#include "server/own_credential.h"

#include <string>
#include <utility>

#include "base/log.h"
#include "server/shm_socket.h"
#include "wire/local_credential.h"

namespace memkv::server {

wire::Secret local_credential(const Options& options, uint16_t port) {
  if (port != kPortDefault) return {};
  auto dir = choose_runtime_dir(options.shm.dir);
  auto kept = dir ? wire::keep_local_credential(*dir) : Result<wire::Secret, Message>(dir.error());
  if (kept) {
    MEMKV_LOG(kInfo, "no credential is configured: this user's commands find one in {}/local.key", *dir);
    return *kept;
  }
  MEMKV_LOG(kWarn, "every user of this host may read and write, for a credential has no place: {}", kept.error().text);
  return {};
}

}  // namespace memkv::server
