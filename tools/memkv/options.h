#pragma once
/// The parsed command line of `memkv`: one struct for each command. `cli.cc` fills them, the files of the commands run
/// them.

#include <cstdint>
#include <string>
#include <vector>

#include "server/server.h"

namespace memkv::cli {

/// Options of every command that talks to servers. Empty: environment, configuration file or default.
struct Common {
  std::vector<std::string> servers;
  std::string auth_key;   ///< 64 hex characters or @FILE
  std::string config;     ///< the client's YAML
  std::string timeout;    ///< "5s"; empty: the client's defaults
  std::string transport;  ///< auto, tcp
  std::string log_level;  ///< of the client library; empty: error, since the command itself reports failures
  bool hex = false;       ///< keys are hex digits
};

struct PutOptions {
  Common common;
  std::string key;
  std::string file;  ///< "-" is stdin
  bool if_absent = false;
};

struct GetOptions {
  Common common;
  std::string key;
  std::string file;    ///< empty or "-" is stdout
  std::string offset;  ///< sizes as text: "4096", "1MiB"
  std::string length;  ///< empty: to the end
};

/// exists, rm
struct KeysOptions {
  Common common;
  std::vector<std::string> keys;
  bool quiet = false;
};

struct StatOptions {
  Common common;
  std::string key;
  bool json = false;
};

struct ListOptions {
  Common common;
  int server = -1;  ///< place in the list; -1: all
  uint64_t limit = 0;
  bool json = false;
};

struct FlushOptions {
  Common common;
  bool yes = false;
};

struct StatusOptions {
  Common common;
  bool json = false;
};

struct DoctorOptions {
  Common common;
  bool json = false;
};

struct SettingsOptions {
  Common common;
  std::string engine;  ///< vllm, lmcache, sglang or nixl
  std::string model;
};

int run_put(const PutOptions& options);
int run_get(const GetOptions& options);
int run_exists(const KeysOptions& options);
int run_remove(const KeysOptions& options);
int run_stat(const StatOptions& options);
int run_list(const ListOptions& options);
int run_flush(const FlushOptions& options);
int run_status(const StatusOptions& options);
int run_doctor(const DoctorOptions& options);
int run_settings(const SettingsOptions& options);
int run_version();
std::string version_text();

/// Parses, runs the command, returns the exit code.
int run_command_line(int argc, char** argv);

}  // namespace memkv::cli
