/// memkv: the server and the command line in one program.

#include <CLI/CLI.hpp>
#include <iostream>

#include "server/server.h"
#include "tools/memkv/commands.h"

namespace memkv::tool {
namespace {

constexpr const char* kFooter = R"(
Examples
  memkv setup --drive /var/lib/memkv/d0.memkv:8GiB > memkv.yaml
  memkv start --config memkv.yaml
  export MEMKV_SERVERS=127.0.0.1:9900 MEMKV_AUTH_KEY=@memkv.key
  memkv put prefix/4f2a block.bin
  memkv get prefix/4f2a -o copy.bin
  memkv status

Exit codes
  0 done, or there    1 not there    2 wrong usage or input    3 server not reachable in time
  4 credential or version not accepted    5 another failure
)";

void add_client_options(CLI::App& app, ClientArgs& args) {
  app.add_option("-s,--servers", args.servers, "comma list of [name=]host[:port]; default MEMKV_SERVERS");
  app.add_option("--auth-key", args.auth_key, "credential: 64 hex characters or @FILE; default MEMKV_AUTH_KEY");
  app.add_option("--config", args.config, "client configuration file; default MEMKV_CONFIG");
  app.add_option("--timeout", args.timeout, "how long one op may take, as 500ms or 10s")->capture_default_str();
  app.add_option("--transport", args.transport, "auto or tcp");
}

struct Parsed {
  server::SetupOptions setup;
  server::StartOptions start;
  ClientArgs client;
  std::string key, file, output;
  std::vector<std::string> keys;
  bool yes = false;
  int which = -1;
};

void add_setup(CLI::App& app, Parsed& p, int& code) {
  auto* c = app.add_subcommand("setup", "format drives and print a commented configuration");
  c->add_option("--drive,--drives", p.setup.drives,
                "a drive: /dev/nvme0n1, or FILE:SIZE (8GiB) for a file to be made; may be given often. None: unused "
                "NVMe drives are found");
  c->add_option("--shards", p.setup.shards, "slices of the key space, a power of two up to 32; 0: one for each 4 GiB");
  c->add_flag("--force", p.setup.force, "format drives that hold a MemKV store already: its blocks are lost");
  c->add_option("--auth-key-file", p.setup.auth_key_file,
                "where the new credential goes (mode 0600); default memkv.key here");
  c->add_option("--address", p.setup.address, "address that the configuration listens on")->capture_default_str();
  c->footer(
      "\nThe configuration goes to standard output, everything else to standard error:\n"
      "  memkv setup --drive /var/lib/memkv/d0.memkv:8GiB > memkv.yaml\n"
      "  memkv setup --drive /dev/nvme0n1 --drive /dev/nvme1n1 > memkv.yaml\n");
  c->callback([&] { code = server::run_setup(p.setup); });
}

void add_start(CLI::App& app, Parsed& p, int& code) {
  auto* c = app.add_subcommand("start", "run the server until SIGTERM");
  auto& s = p.start;
  c->add_option("--config", s.config_file, "configuration file; none: a file in this folder, loopback only");
  c->add_option("--address", s.address, "overrides network.address; port 0 takes a free one");
  c->add_option("--mode", s.storage_mode, "overrides storage.mode: direct, file or memory");
  c->add_option("--memory", s.memory_size, "overrides memory.max_size, as 512MiB");
  c->add_option("--drive,--drives", s.drives, "overrides storage.drives");
  c->add_option("--accept-loss", s.accept_loss, "a missing drive whose blocks may be given up, as the start names it");
  c->add_option("--workers", s.workers, "worker threads; default half the CPUs");
  c->add_option("--io", s.io, "auto, uring or epoll");
  c->add_option("--congestion", s.congestion, "TCP congestion control, as cubic or bbr");
  c->add_option("--ready-file", s.ready_file, "written with host:port once the server is ready");
  c->footer(
      "\n  memkv start --config memkv.yaml\n  memkv start --mode memory --memory 1GiB --address 127.0.0.1:9900\n");
  c->callback([&] { code = server::run_start(p.start); });
}

void add_block_commands(CLI::App& app, Parsed& p, int& code) {
  auto* put = app.add_subcommand("put", "store a file under a key");
  put->add_option("key", p.key, "the key")->required();
  put->add_option("file", p.file, "the file; - for standard input")->required();
  put->callback([&] { code = run_put(p.client, p.key, p.file); });
  auto* get = app.add_subcommand("get", "write a block to standard output or a file");
  get->add_option("key", p.key, "the key")->required();
  get->add_option("-o,--output", p.output, "the file");
  get->callback([&] { code = run_get(p.client, p.key, p.output); });
  auto* exists = app.add_subcommand("exists", "are these keys there? (exit code 1 if one is not)");
  exists->add_option("keys", p.keys, "keys")->required();
  exists->callback([&] { code = run_exists(p.client, p.keys); });
  auto* rm = app.add_subcommand("rm", "remove blocks");
  rm->add_option("keys", p.keys, "keys")->required();
  rm->callback([&] { code = run_rm(p.client, p.keys); });
  auto* stat = app.add_subcommand("stat", "size and version of a block, and where it lives");
  stat->add_option("key", p.key, "the key")->required();
  stat->add_flag("--json", p.client.json, "as JSON");
  stat->callback([&] { code = run_stat(p.client, p.key); });
  for (auto* c : {put, get, exists, rm, stat}) {
    add_client_options(*c, p.client);
    c->add_flag("--hex", p.client.hex, "keys are given as hex digits");
    c->footer(
        "\nExit codes: 0 done, 1 not there, 2 wrong input, 3 server not reachable, 4 not allowed, 5 other failure\n");
  }
}

void add_server_commands(CLI::App& app, Parsed& p, int& code) {
  auto* ls = app.add_subcommand("ls", "list the blocks of this credential's namespace");
  ls->add_option("--server", p.which, "only the N-th server of the list, from 0");
  ls->add_flag("--json", p.client.json, "as JSON");
  ls->callback([&] {
    p.client.all_servers = p.which < 0;
    p.client.server = p.which < 0 ? 0 : static_cast<size_t>(p.which);
    code = run_ls(p.client);
  });
  auto* flush = app.add_subcommand("flush", "remove every block of this credential's namespace on all servers");
  flush->add_flag("--yes", p.yes, "really");
  flush->callback([&] {
    if (!p.yes) std::cerr << "memkv: flush removes every block of the namespace on all servers; say --yes to do it\n";
    code = p.yes ? run_flush(p.client) : kUsage;
  });
  auto* status = app.add_subcommand("status", "what the servers say of themselves");
  status->add_flag("--json", p.client.json, "as JSON");
  status->footer("\nFields: docs/operating.md\n");
  status->callback([&] { code = run_status(p.client); });
  for (auto* c : {ls, flush, status}) add_client_options(*c, p.client);
}

int run(int argc, char** argv) {
  CLI::App app("MemKV: a store for the KV cache of LLM inference");
  app.name("memkv");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.set_version_flag("--version", "memkv 0.1.0");
  Parsed parsed;
  int code = kDone;
  add_setup(app, parsed, code);
  add_start(app, parsed, code);
  add_block_commands(app, parsed, code);
  add_server_commands(app, parsed, code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kDone : kUsage;
  }
  return code;
}

}  // namespace
}  // namespace memkv::tool

int main(int argc, char** argv) { return memkv::tool::run(argc, argv); }
