#pragma once
/// The commands of `memkv` that talk to servers. Each returns the exit code.

#include <string>
#include <vector>

namespace memkv::tool {

enum ExitCode : int { kDone = 0, kMissing = 1, kUsage = 2, kUnreachable = 3, kNotAllowed = 4, kFailed = 5 };

struct ClientArgs {
  std::string servers, auth_key, config, timeout = "10s", transport;
  bool hex = false;  ///< keys are given as hex digits
  bool json = false;
  size_t server = 0;  ///< ls: which one
  bool all_servers = true;
};

int run_put(const ClientArgs& args, const std::string& key, const std::string& file);
int run_get(const ClientArgs& args, const std::string& key, const std::string& file);
int run_exists(const ClientArgs& args, const std::vector<std::string>& keys);
int run_rm(const ClientArgs& args, const std::vector<std::string>& keys);
int run_stat(const ClientArgs& args, const std::string& key);
int run_ls(const ClientArgs& args);
int run_flush(const ClientArgs& args);
int run_status(const ClientArgs& args);

}  // namespace memkv::tool
