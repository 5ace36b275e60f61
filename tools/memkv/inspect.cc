/// stat, ls, status: show what is there, as text or JSON.

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "tools/memkv/session.h"

namespace memkv::cli {
namespace {

using Json = nlohmann::ordered_json;

void print_json(const Json& json) { fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace)); }

Json block_json(std::string_view key, uint64_t bytes, Generation generation, const std::string& server) {
  return Json{{"key", show_key(key)},
              {"key_hex", key_hex(key)},
              {"block_bytes", bytes},
              {"generation", generation},
              {"server", server}};
}

/// The servers that `ls` was asked for.
std::vector<size_t> chosen_servers(const ListOptions& options, const Client& client) {
  std::vector<size_t> servers;
  for (size_t i = 0; i < client.server_count(); ++i) {
    if (options.server < 0 || static_cast<size_t>(options.server) == i) servers.push_back(i);
  }
  return servers;
}

void print_blocks(const std::vector<ListedBlock>& blocks, const std::string& server, bool hex) {
  for (const ListedBlock& block : blocks) {
    fmt::print("{:>10}  {:>14}  {}  {}\n", base::format_bytes(block.block_bytes), block.generation, server,
               hex ? key_hex(block.key) : show_key(block.key));
  }
}

std::string scalar(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_number_float() ? fmt::format("{:.3f}", value.get<double>()) : value.dump();
}

bool is_nothing(const Json& value) {
  return value.is_structured() ? value.empty() : value.is_string() && value.get_ref<const std::string&>().empty();
}

bool is_size(std::string_view name) {
  return name == "bytes" || name.ends_with("_bytes") || name.find("bytes_") != name.npos;
}

std::string shown(const std::string& name, const Json& value) {
  if (is_size(name) && value.is_number_unsigned()) return base::format_bytes(value.get<uint64_t>());
  return scalar(value);
}

bool is_flat(const Json& value) {
  return std::none_of(value.begin(), value.end(),
                      [](const Json& inner) { return inner.is_structured() && !inner.empty(); });
}

/// An object of plain values as "name value  name value".
std::string one_line(const Json& object) {
  std::string line;
  for (const auto& [name, value] : object.items()) {
    if (!line.empty()) line += "  ";
    line += object.is_array() ? scalar(value) : fmt::format("{} {}", name, shown(name, value));
  }
  return line;
}

/// Prints any JSON as indented lines: names at the left, flat objects in one line each.
void print_tree(const std::string& name, const Json& value, int depth) {
  const std::string indent(static_cast<size_t>(depth) * 2, ' ');
  if (depth > 0 && is_nothing(value)) return;
  const std::string head = fmt::format("{}{:<{}}", indent, name, std::max(1, 26 - depth * 2));
  if (!value.is_structured()) {
    fmt::print("{} {}\n", head, shown(name, value));
  } else if (depth > 0 && is_flat(value) && one_line(value).size() < 120) {
    fmt::print("{} {}\n", head, one_line(value));
  } else {
    if (!name.empty()) fmt::print("{}{}\n", indent, name);
    size_t number = 0;
    for (const auto& [inner_name, inner] : value.items()) {
      print_tree(value.is_array() ? fmt::format("[{}]", number++) : inner_name, inner, depth + 1);
    }
  }
}

/// One server's answer: its status, or why there is none.
struct Answer {
  std::string server;
  Json status;
  Error error;
  std::string why;  ///< a line with the server's name
  bool reachable = false;
};

std::vector<Answer> ask_all(Connected& connected) {
  std::vector<Answer> answers;
  for (size_t i = 0; i < connected.client.server_count(); ++i) {
    Answer answer{.server = connected.client.server_name(i)};
    auto text = connected.client.server_status(i, connected.timeout);
    answer.reachable = text.ok();
    if (text) {
      answer.status = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
      if (answer.status.is_discarded()) answer.status = Json(*text);
    } else {
      answer.error = text.error();
      answer.why = told_of(connected, i, answer.error);
    }
    answers.push_back(std::move(answer));
  }
  return answers;
}

Json answers_json(const std::vector<Answer>& answers) {
  Json servers = Json::array();
  for (const Answer& answer : answers) {
    Json one{{"name", answer.server}, {"reachable", answer.reachable}};
    if (answer.reachable) {
      one["status"] = answer.status;
    } else {
      one["error"] = std::string(to_string(answer.error.status));
      one["error_text"] = answer.why;
    }
    servers.push_back(std::move(one));
  }
  return Json{{"servers", servers}};
}

void print_answers(const std::vector<Answer>& answers) {
  for (const Answer& answer : answers) {
    if (answer.reachable) {
      fmt::print("up    {}\n", answer.server);
      print_tree("", answer.status, 0);
    } else {
      fmt::print("DOWN  {}\n", answer.why);
    }
  }
}

}  // namespace

int run_stat(const StatOptions& options) {
  auto key = parse_key(options.key, options.common.hex);
  if (!key) return fail(key.error());
  auto connected = connect(options.common);
  if (!connected) return fail(connected.error());
  const Outcome outcome = connected->client.stat(*key, connected->timeout);
  if (!outcome.hit()) return explain(*connected, "stat", *key, outcome.status);
  const std::string server = connected->client.server_name(connected->client.server_of(*key));
  if (options.json) {
    print_json(block_json(*key, outcome.block_bytes, outcome.generation, server));
  } else {
    fmt::print("key         {}\nbytes       {} ({})\ngeneration  {}\nserver      {}\n", show_key(*key),
               outcome.block_bytes, base::format_bytes(outcome.block_bytes), outcome.generation, server);
  }
  return kExitDone;
}

/// `memkv list`: the blocks of each chosen server. A server that does not answer is reported, and the others go on. The
/// exit status is that of the worst answer.
int run_list(const ListOptions& options) {
  auto connected = connect(options.common);
  if (!connected) return fail(connected.error());
  const auto servers = chosen_servers(options, connected->client);
  if (servers.empty()) {
    return fail(kExitUsage, fmt::format("--server {}: there are servers 0 to {}", options.server,
                                        connected->client.server_count() - 1));
  }
  Json listed = Json::array();
  int worst = kExitDone;
  for (const size_t server : servers) {
    const std::string name = connected->client.server_name(server);
    auto blocks = connected->client.list(server, options.limit, connected->timeout);
    if (!blocks) {
      worst = std::max<int>(
          worst, fail(exit_code(blocks.error().status), describe_trouble(*connected, server, blocks.error())));
      continue;
    }
    if (!options.json) print_blocks(*blocks, name, options.common.hex);
    for (const ListedBlock& block : *blocks) {
      if (options.json) listed.push_back(block_json(block.key, block.block_bytes, block.generation, name));
    }
  }
  if (options.json) print_json(listed);
  return worst;
}

int run_status(const StatusOptions& options) {
  auto connected = connect(options.common);
  if (!connected) return fail(connected.error());
  const auto answers = ask_all(*connected);
  if (options.json) {
    print_json(answers_json(answers));
  } else {
    print_answers(answers);
  }
  int worst = kExitDone;
  for (const Answer& answer : answers) {
    if (!answer.reachable) worst = std::max<int>(worst, exit_code(answer.error.status));
  }
  return worst;
}

}  // namespace memkv::cli
