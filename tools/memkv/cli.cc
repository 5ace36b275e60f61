/// The command line: names, help, examples. Everything that CLI11 touches.

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <sstream>
#include <system_error>

#include "server/options.h"
#include "tools/memkv/options.h"
#include "tools/memkv/session.h"
#include "tools/output.h"
#include "tools/unknown_command.h"

namespace memkv::cli {
namespace {

using Chosen = std::function<int()>;

constexpr const char* kExitCodes =
    "Exit codes:\n"
    "  0  done, or a hit; start: stopped by a signal\n"
    "  1  a miss (for several keys: at least one is missing), or put --if-absent found the key\n"
    "  2  wrong command line or bad input\n"
    "  3  the server cannot be reached, is not ready, or did not answer in time\n"
    "  4  the credential was not accepted\n"
    "  5  any other failure: a drive, a port in use, no memory\n";

constexpr const char* kMainFooter =
    "A first tour, on one host and for one user:\n"
    "  memkv start                                                      a server; commands find it by themselves\n"
    "  memkv put prefix/4f2a block.bin                                  (in another terminal)\n"
    "  memkv get prefix/4f2a -o copy.bin\n"
    "  memkv status\n"
    "A store on drives, for other hosts too:\n"
    "  memkv setup --drive /var/lib/memkv/d0.memkv:8GiB > memkv.yaml    make it; also writes the credential memkv.key\n"
    "  memkv start --config memkv.yaml                                  serve it\n"
    "  export MEMKV_SERVERS=127.0.0.1:9900 MEMKV_AUTH_KEY=@memkv.key\n"
    "\n"
    "Environment: MEMKV_SERVERS, MEMKV_AUTH_KEY, MEMKV_TRANSPORT, MEMKV_SHM_DIR, MEMKV_LOG_LEVEL, MEMKV_CONFIG.\n"
    "An option wins over the environment, the environment over the file.\n"
    "\n";

CLI::App* add_command(CLI::App& app, const char* name, const char* what, const char* examples) {
  CLI::App* command = app.add_subcommand(name, what);
  command->footer(std::string("Examples:\n") + examples + "\n" + kExitCodes);
  return command;
}

/// The option can be repeated with one value each, or given once with a comma list.
CLI::Option* add_list(CLI::App* command, const char* name, std::vector<std::string>& into, const char* type,
                      const char* what) {
  return command->add_option(name, into, what)->delimiter(',')->allow_extra_args(false)->type_name(type);
}

CLI::Option* add_word(CLI::App* command, const char* name, std::string& into, const char* type, const char* what) {
  return command->add_option(name, into, what)->type_name(type);
}

/// Commas are looked at later, since a path may have some.
void add_drives(CLI::App* command, std::vector<std::string>& into, const char* type, const char* what) {
  command->add_option("--drive,--drives", into, what)->allow_extra_args(false)->type_name(type);
}

void add_common(CLI::App* command, Common& common, bool keys) {
  const char* group = "Connection";
  add_list(command, "--servers", common.servers, "LIST",
           "name=host:port,... (MEMKV_SERVERS); none: the server on this host")
      ->group(group);
  add_word(command, "--auth-key", common.auth_key, "KEY", "credential: 64 hex characters or @FILE (MEMKV_AUTH_KEY)")
      ->group(group);
  add_word(command, "--config", common.config, "FILE", "client settings, YAML (MEMKV_CONFIG)")->group(group);
  add_word(command, "--timeout", common.timeout, "TIME",
           "how long to wait, such as 500ms or 30s; default 2s to read, 10s to write")
      ->group(group);
  add_word(command, "--transport", common.transport, "WORD", "auto, shm, rdma or tcp (MEMKV_TRANSPORT)")->group(group);
  add_word(command, "--log-level", common.log_level, "WORD",
           "debug, info, warn, error or off: what the client says on stderr (MEMKV_LOG_LEVEL); default error")
      ->group(group);
  if (keys) command->add_flag("--hex", common.hex, "keys are given, and shown, as hex digits");
}

void add_setup(CLI::App& app, Chosen& chosen) {
  CLI::App* command = add_command(
      app, "setup", "Format drives; print a commented configuration on stdout",
      "  memkv setup --drive /var/lib/memkv/d0.memkv:8GiB > memkv.yaml         a file of 8 GiB as a drive\n"
      "  memkv setup --drive /dev/nvme0n1 --drive /dev/nvme1n1 > memkv.yaml    raw drives (all they hold is lost)\n"
      "  memkv setup > memkv.yaml                                              all unused NVMe drives\n"
      "A credential is made too, readable by you alone: memkv.key beside where you are, or --auth-key-file. Clients "
      "need it.\n"
      "The configuration is out before a drive is touched: where it cannot be written nothing is formatted.\n"
      "A drive or file that holds a store, or any other data, is left alone unless --force is said.\n");
  auto options = std::make_shared<server::SetupOptions>();
  add_drives(command, options->drives, "PATH[:SIZE]", "a drive, or with SIZE a file to be made; may be repeated");
  command
      ->add_option("--shards", options->shards,
                   "slices of the key space, a power of two up to 32; default one per 4 GiB")
      ->type_name("N");
  command->add_flag("--force", options->force, "format drives and files that hold data or another store");
  add_word(command, "-o,--output", options->output, "FILE", "file for the configuration; default stdout");
  add_word(command, "--auth-key-file", options->auth_key_file, "FILE", "where the new credential goes");
  add_word(command, "--address", options->address, "HOST:PORT", "what the server will listen on")
      ->capture_default_str();
  command->callback([options, &chosen] { chosen = [options] { return server::run_setup(*options); }; });
}

/// `memkv start`: its options are those of the configuration file that one wants to change for a single run.
void add_start(CLI::App& app, Chosen& chosen) {
  CLI::App* command = add_command(
      app, "start", "Run a server until SIGTERM or Ctrl-C",
      "  memkv start --config memkv.yaml\n"
      "  memkv start                                         to try: a file in this folder, for this user and host\n"
      "  memkv start --mode memory --memory 4GiB             keep blocks in RAM; nothing survives the end\n"
      "  memkv start --config memkv.yaml --accept-loss 5f0c91ab\n"
      "                                                      start although half of the drives are gone: the message\n"
      "                                                      that refuses to has their names\n"
      "Options here win over the file.\n");
  auto options = std::make_shared<server::StartOptions>();
  add_word(command, "--config", options->config_file, "FILE", "the YAML that `memkv setup` printed");
  add_word(command, "--address", options->address, "HOST:PORT", "host:port to listen on; port 0 takes a free one");
  add_word(command, "--mode", options->storage_mode, "WORD", "direct, file or memory");
  add_word(command, "--memory", options->memory_size, "SIZE",
           "size of memory mode, such as 4GiB; default a quarter of the memory that machine and container allow");
  add_drives(command, options->drives, "PATH", "drives instead of the file's; may be repeated");
  add_list(command, "--accept-loss", options->accept_loss, "NAME",
           "name of a missing drive whose blocks are given up; may be repeated");
  command
      ->add_option("--workers", options->workers,
                   "threads that serve; default half of the CPUs that the container's quota allows")
      ->type_name("N");
  add_word(command, "--io", options->io, "WORD", "auto, uring or epoll");
  add_word(command, "--congestion", options->congestion, "WORD",
           "TCP congestion control, such as cubic, bbr or system; default cubic where it is to be had");
  add_word(command, "--shm-dir", options->shm_dir, "DIR",
           "where the socket of the shm transport goes; default /run/memkv, $XDG_RUNTIME_DIR/memkv or /tmp/memkv-UID");
  add_word(command, "--shm-size", options->shm_size, "SIZE",
           "memory of all shm connections together; default 512MiB, or a quarter of the memory limit");
  add_word(command, "--log-level", options->log_level, "WORD",
           "debug, info, warn, error or off: what goes to stderr; default info");
  command->add_flag("--no-shm", options->no_shm, "no shared memory for clients on this host");
  add_word(command, "--ready-file", options->ready_file, "FILE",
           "written with host:port once the server is ready; one that is there is removed first");
  command->callback([options, &chosen] { chosen = [options] { return server::run_start(*options); }; });
}

void add_put(CLI::App& app, Chosen& chosen) {
  CLI::App* command = add_command(app, "put", "Store a file as a block",
                                  "  memkv put prefix/4f2a block.bin\n"
                                  "  tar c model | memkv put backup -          from stdin\n"
                                  "  memkv put --hex 00ff0a block.bin          a key that is not text\n");
  auto options = std::make_shared<PutOptions>();
  add_word(command, "KEY", options->key, "", "1 to 1024 bytes")->required();
  add_word(command, "FILE", options->file, "", "file to store; - is stdin")->required();
  command->add_flag("--if-absent", options->if_absent, "leave a block that is there (exit code 1)");
  add_common(command, options->common, true);
  command->callback([options, &chosen] { chosen = [options] { return run_put(*options); }; });
}

void add_get(CLI::App& app, Chosen& chosen) {
  CLI::App* command = add_command(app, "get", "Read a block to stdout or a file",
                                  "  memkv get prefix/4f2a -o copy.bin         the file appears whole or not at all\n"
                                  "  memkv get prefix/4f2a | sha256sum\n"
                                  "  memkv get prefix/4f2a --offset 1MiB --length 4096 | xxd\n");
  auto options = std::make_shared<GetOptions>();
  add_word(command, "KEY", options->key, "", "1 to 1024 bytes")->required();
  add_word(command, "-o,--output", options->file, "FILE", "file to write; default stdout");
  add_word(command, "--offset", options->offset, "SIZE", "first byte, such as 4096 or 1MiB");
  add_word(command, "--length", options->length, "SIZE", "bytes at most");
  add_common(command, options->common, true);
  command->callback([options, &chosen] { chosen = [options] { return run_get(*options); }; });
}

void add_exists(CLI::App& app, Chosen& chosen) {
  CLI::App* command = add_command(
      app, "exists", "Say which keys are there",
      "  memkv exists prefix/4f2a && echo there\n"
      "  memkv exists a b c                        one line a key: yes, no, or ? if its server is away; exit code 1\n"
      "                                            unless all are there\n");
  auto options = std::make_shared<KeysOptions>();
  command->add_option("KEY", options->keys, "keys")->required()->type_name("");
  command->add_flag("-q,--quiet", options->quiet, "only the exit code");
  add_common(command, options->common, true);
  command->callback([options, &chosen] { chosen = [options] { return run_exists(*options); }; });
}

void add_remove(CLI::App& app, Chosen& chosen) {
  CLI::App* command = add_command(app, "rm", "Remove blocks",
                                  "  memkv rm prefix/4f2a\n"
                                  "  memkv rm a b c                            exit code 1 if one was not there\n");
  auto options = std::make_shared<KeysOptions>();
  command->add_option("KEY", options->keys, "keys")->required()->type_name("");
  command->add_flag("-q,--quiet", options->quiet, "say nothing of keys that were not there");
  add_common(command, options->common, true);
  command->callback([options, &chosen] { chosen = [options] { return run_remove(*options); }; });
}

void add_stat(CLI::App& app, Chosen& chosen) {
  CLI::App* command = add_command(app, "stat", "Show a block's size, generation and server",
                                  "  memkv stat prefix/4f2a\n"
                                  "  memkv stat prefix/4f2a --json\n");
  auto options = std::make_shared<StatOptions>();
  add_word(command, "KEY", options->key, "", "1 to 1024 bytes")->required();
  command->add_flag("--json", options->json, "key, key_hex, block_bytes, generation, server");
  add_common(command, options->common, true);
  command->callback([options, &chosen] { chosen = [options] { return run_stat(*options); }; });
}

void add_list_blocks(CLI::App& app, Chosen& chosen) {
  CLI::App* command = add_command(app, "ls", "List the blocks of this credential's namespace",
                                  "  memkv ls\n"
                                  "  memkv ls --server 1 --limit 100 --json\n"
                                  "Columns: size, generation, server, key (\\xNN for bytes that are not text).\n");
  auto options = std::make_shared<ListOptions>();
  command->add_option("--server", options->server, "only this one, by its place in --servers, from 0")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N");
  command->add_option("--limit", options->limit, "blocks at most, of each server")->type_name("N");
  command->add_flag("--json", options->json, "a list of key, key_hex, block_bytes, generation, server");
  add_common(command, options->common, true);
  command->callback([options, &chosen] { chosen = [options] { return run_list(*options); }; });
}

void add_flush(CLI::App& app, Chosen& chosen) {
  CLI::App* command = add_command(app, "flush", "Remove every block of this credential's namespace",
                                  "  memkv flush                               asks first\n"
                                  "  memkv flush --yes\n");
  auto options = std::make_shared<FlushOptions>();
  command->add_flag("-y,--yes", options->yes, "do not ask");
  add_common(command, options->common, false);
  command->callback([options, &chosen] { chosen = [options] { return run_flush(*options); }; });
}

void add_status(CLI::App& app, Chosen& chosen) {
  CLI::App* command = add_command(app, "status", "Show how all servers are",
                                  "  memkv status\n"
                                  "  memkv status --json | jq '.servers[].status'\n"
                                  "Exit code 3 if a server does not answer.\n");
  auto options = std::make_shared<StatusOptions>();
  command->add_flag("--json", options->json, "{\"servers\": [{name, reachable, status | error}]}");
  add_common(command, options->common, false);
  command->callback([options, &chosen] { chosen = [options] { return run_status(*options); }; });
}

void add_doctor(CLI::App& app, Chosen& chosen) {
  CLI::App* command = add_command(app, "doctor", "Show what works on this host, and what to do about the rest",
                                  "  memkv doctor\n"
                                  "  memkv doctor --json | jq '.[] | select(.verdict != \"ok\")'\n"
                                  "ok: works; note: MemKV does without it; bad: does not work. Changes nothing.\n"
                                  "Exit code 3 if something is bad.\n");
  auto options = std::make_shared<DoctorOptions>();
  command->add_flag("--json", options->json, "[{what, verdict, found, advice}]");
  add_common(command, options->common, false);
  command->callback([options, &chosen] { chosen = [options] { return run_doctor(*options); }; });
}

void add_settings(CLI::App& app, Chosen& chosen) {
  CLI::App* command =
      add_command(app, "settings", "Print the command line that brings an engine onto this store",
                  "  memkv settings vllm --model meta-llama/Llama-3.1-8B\n"
                  "  memkv settings sglang --servers kv1=10.0.0.10:9900,kv2=10.0.0.11:9900 --auth-key @/etc/memkv.key\n"
                  "  eval \"$(memkv settings nixl)\"\n"
                  "What of servers and credential is not told here, the engine looks for where this command would.\n"
                  "Exit code 0 also if a server cannot be reached now: stderr says so.\n");
  auto options = std::make_shared<SettingsOptions>();
  command->add_option("ENGINE", options->engine, "vllm, lmcache, sglang or nixl")
      ->required()
      ->type_name("")
      ->check(CLI::IsMember({"vllm", "lmcache", "sglang", "nixl"}));
  add_word(command, "--model", options->model, "MODEL", "the model to be served: a folder, or its name");
  add_common(command, options->common, false);
  command->callback([options, &chosen] { chosen = [options] { return run_settings(*options); }; });
}

void add_version(CLI::App& app, Chosen& chosen) {
  CLI::App* command = add_command(app, "version", "Show the version", "  memkv version\n");
  command->callback([&chosen] { chosen = run_version; });
}

/// The first word if it is neither an option nor a command; else empty.
std::string unknown_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2) return {};
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) names.push_back(command->get_name());
  return tools::unknown_command("memkv", argv[1], {names.begin(), names.end()});
}

/// Prints help as it is, and a mistake as one line.
int explain_parse(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) {
    std::ostringstream help;
    const int code = app.exit(error, help, help);
    return std::fputs(help.str().c_str(), stdout) < 0 ? tools::stdout_failed("memkv", errno) : code;
  }
  std::string command = "memkv";
  for (const CLI::App* chosen : app.get_subcommands()) command += " " + chosen->get_name();
  return fail(kExitUsage, fmt::format("{}; see `{} --help`", error.what(), command));
}

}  // namespace

int run_command_line(int argc, char** argv) {
  CLI::App app("MemKV keeps the KV cache of LLM inference: blocks of bytes under keys, on drives or in memory.",
               "memkv");
  app.footer(std::string(kMainFooter) + kExitCodes);
  app.require_subcommand(1);
  app.set_version_flag("-V,--version", version_text());
  Chosen chosen;
  for (const auto add : {add_setup, add_start, add_put, add_get, add_exists, add_remove, add_stat, add_list_blocks,
                         add_flush, add_status, add_doctor, add_settings, add_version}) {
    add(app, chosen);
  }
  if (const std::string unknown = unknown_command(app, argc, argv); !unknown.empty()) return fail(kExitUsage, unknown);
  try {
    app.parse(argc, argv);
    return chosen ? chosen() : kExitUsage;
  } catch (const CLI::ParseError& error) {
    return explain_parse(app, error);
  } catch (const std::system_error& error) {
    if (std::ferror(stdout) != 0) return tools::stdout_failed("memkv", error.code().value());
    return fail(kExitFailed, error.what());
  } catch (const std::exception& error) {
    return fail(kExitFailed, error.what());
  }
}

}  // namespace memkv::cli
