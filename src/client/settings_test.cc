/// Where settings come from, and what bad ones are told.

#include "client/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "wire/local_credential.h"

namespace memkv::client {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kKey = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// An environment without our variables, and a file for MEMKV_CONFIG.
class SettingsTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"MEMKV_SERVERS", "MEMKV_AUTH_KEY", "MEMKV_TRANSPORT", "MEMKV_LOG_LEVEL", "MEMKV_CONFIG"}) {
      unsetenv(name);
    }
    base::set_log_level(base::LogLevel::kInfo);
    path_ = testing::TempDir() + "/memkv-client-" + std::to_string(getpid()) + ".yaml";
  }
  void TearDown() override {
    SetUp();
    unlink(path_.c_str());
  }
  std::string file(const std::string& yaml) {
    std::ofstream(path_) << yaml;
    return path_;
  }
  static std::string complaint(const ClientOptions& options) {
    const auto settings = resolve_settings(options);
    return settings ? "" : settings.error().text;
  }
  std::string path_;
};

TEST_F(SettingsTest, TheFieldBeatsTheEnvironmentBeatsTheFile) {
  ClientOptions options;
  options.config_file = file("servers: [c=127.0.0.1:3]\nget_timeout: 3s\n");
  EXPECT_EQ(resolve_settings(options)->servers[0].name, "c");
  EXPECT_EQ(resolve_settings(options)->get_timeout_ns, 3'000'000'000u);
  setenv("MEMKV_SERVERS", "b=127.0.0.1:2, d=127.0.0.1", 1);
  EXPECT_EQ(resolve_settings(options)->servers[0].name, "b");
  EXPECT_EQ(resolve_settings(options)->servers[1].port, kPortDefault);
  options.servers = {"a=127.0.0.1:1"};
  options.get_timeout = std::chrono::milliseconds(5);
  EXPECT_EQ(resolve_settings(options)->servers[0].name, "a");
  EXPECT_EQ(resolve_settings(options)->get_timeout_ns, 5'000'000u);
  options.config_file.clear();
  setenv("MEMKV_CONFIG", path_.c_str(), 1);
  options.servers.clear();
  unsetenv("MEMKV_SERVERS");
  EXPECT_EQ(resolve_settings(options)->servers[0].name, "c");
}

TEST_F(SettingsTest, TheLogsLevelIsTheProcesss) {
  const auto least = [](const ClientOptions& options) {
    base::set_log_level(base::LogLevel::kInfo);
    EXPECT_TRUE(resolve_settings(options).ok());
    int level = 0;
    while (level < 4 && !base::log_enabled(static_cast<base::LogLevel>(level))) level++;
    return static_cast<base::LogLevel>(level);
  };
  ClientOptions options;
  options.servers = {"127.0.0.1"};
  EXPECT_EQ(least(options), base::LogLevel::kInfo) << "nobody said one: as it is";
  options.config_file = file("log_level: debug\n");
  EXPECT_EQ(least(options), base::LogLevel::kDebug);
  setenv("MEMKV_LOG_LEVEL", "warn", 1);
  EXPECT_EQ(least(options), base::LogLevel::kWarn);
  options.log_level = "off";
  EXPECT_EQ(least(options), base::LogLevel::kOff);

  options.log_level = "quiet";
  EXPECT_EQ(complaint(options), "log_level: unknown log level 'quiet'; known are debug, info, warn, error and off");
  options.log_level.clear();
  setenv("MEMKV_LOG_LEVEL", "WARN", 1);
  EXPECT_THAT(complaint(options), HasSubstr("MEMKV_LOG_LEVEL: unknown log level 'WARN'; known are debug, info"));
  unsetenv("MEMKV_LOG_LEVEL");
  options.config_file = file("servers: [a=h]\nlog_level: loud\n");
  EXPECT_THAT(complaint(options), AllOf(HasSubstr(":2: log_level: unknown log level 'loud'"), HasSubstr(path_)));
}

TEST_F(SettingsTest, AddressesAsPeopleWriteThem) {
  const auto check = [](std::string_view text, const char* name, const char* host, int port) {
    const auto server = parse_server(text);
    ASSERT_TRUE(server.ok()) << text << ": " << server.error().text;
    EXPECT_EQ(server->name, name) << text;
    EXPECT_EQ(server->host, host) << text;
    EXPECT_EQ(server->port, port) << text;
  };
  check("kv1=10.0.0.10:9900", "kv1", "10.0.0.10", 9900);
  check("10.0.0.10:1", "10.0.0.10:1", "10.0.0.10", 1);
  check(" host ", "host:9900", "host", 9900);
  check("[::1]:9901", "[::1]:9901", "::1", 9901);
  check("a=[fe80::1]", "a", "fe80::1", 9900);
  check("tcp://host:77/", "host:77", "host", 77);
}

TEST_F(SettingsTest, BadAddressesAreExplained) {
  for (const char* text :
       {"", "=host", "host:", "host:0", "host:65536", "host:x", "::1", "[::1", "[::1]x", "a=", ":80"}) {
    const auto server = parse_server(text);
    ASSERT_FALSE(server.ok()) << text;
    EXPECT_THAT(server.error().text, HasSubstr("as in kv1=10.0.0.10:9900")) << text;
  }
}

TEST_F(SettingsTest, BadSettingsAreExplained) {
  EXPECT_THAT(complaint({.servers = {"a=h:1", "a=h:2"}}), AllOf(HasSubstr("'a'"), HasSubstr("twice")));
  EXPECT_THAT(complaint({.servers = {"10.0.0.1"}}), AllOf(HasSubstr("10.0.0.1"), HasSubstr("MEMKV_AUTH_KEY")));
  EXPECT_EQ(complaint({.servers = {"10.0.0.1"}, .namespace_key = kKey}), "");
  EXPECT_EQ(complaint({.servers = {"127.0.0.1"}}), "");
  EXPECT_THAT(complaint({.servers = {"127.0.0.1"}, .namespace_key = "12"}), HasSubstr("64 hex"));
  EXPECT_THAT(complaint({.servers = {"127.0.0.1"}, .namespace_key = "@/nowhere/key"}), HasSubstr("/nowhere/key"));
  EXPECT_THAT(complaint({.servers = {"127.0.0.1"}, .io_contexts = 1000}), HasSubstr("io_contexts"));
  EXPECT_THAT(complaint({.servers = {"127.0.0.1"}, .congestion = "nonesuch"}), HasSubstr("nonesuch"));
  EXPECT_EQ(complaint({.servers = {"127.0.0.1"}, .congestion = "system"}), "");
  setenv("MEMKV_TRANSPORT", "carrier-pigeon", 1);
  EXPECT_THAT(complaint({.servers = {"127.0.0.1"}}), AllOf(HasSubstr("MEMKV_TRANSPORT"), HasSubstr("carrier-pigeon")));
}

TEST_F(SettingsTest, WithoutAnyServerItIsTheOneOnThisHost) {
  const std::string dir = testing::TempDir() + "memkv-test-settings-" + std::to_string(getpid());
  std::filesystem::create_directory(dir);
  const ClientOptions nothing{.shm_dir = dir};
  EXPECT_EQ(resolve_settings(nothing)->secret, wire::Secret{});
  EXPECT_EQ(resolve_settings(nothing)->servers.at(0).name, "127.0.0.1:9900");
  const auto secret = wire::keep_local_credential(dir);
  ASSERT_TRUE(secret.ok()) << secret.error().text;
  EXPECT_EQ(resolve_settings(nothing)->secret, *secret);
  const auto secret_for = [&](std::vector<std::string> servers) {
    return resolve_settings({.servers = std::move(servers), .shm_dir = dir})->secret;
  };
  EXPECT_EQ(secret_for({"127.0.0.1:9900"}), *secret);
  EXPECT_EQ(secret_for({"a=127.0.0.1"}), *secret);
  EXPECT_EQ(secret_for({"127.0.0.1:9901"}), wire::Secret{}) << "another server";
  EXPECT_EQ(secret_for({"a=127.0.0.1", "b=127.0.0.1:9901"}), wire::Secret{}) << "one credential is for the whole list";
  EXPECT_EQ(resolve_settings({.namespace_key = kKey, .shm_dir = dir})->secret, *wire::parse_secret(kKey));
  std::filesystem::remove_all(dir);
}

TEST_F(SettingsTest, case_c17_no_key_of_the_file_is_dropped) {
  ClientOptions options;
  options.config_file = file(
      "servers: [a=h]\nauth_key: " + std::string(kKey) +
      "\ntransport: shm\nrdma_devices: [m]\nshm_dir: /d\nio_contexts: 3\nconnections_per_worker: 4\nget_timeout: 5s\n"
      "put_timeout: 6s\nput_checksum: server\nverify: false\ncongestion: system\nclient_name: n\nlog_level: error\n");
  const auto got = resolve_settings(options);
  ASSERT_TRUE(got.ok()) << got.error().text;
  EXPECT_EQ(got->servers.at(0).name, "a");
  EXPECT_NE(got->secret, wire::Secret{});
  EXPECT_EQ(got->transport, Transport::kShm);
  EXPECT_EQ(got->rdma_devices, std::vector<std::string>{"m"});
  EXPECT_EQ(got->shm_dirs, std::vector<std::string>{"/d"});
  EXPECT_EQ(got->io_contexts, 3u);
  EXPECT_EQ(got->connections_per_worker, 4u);
  EXPECT_EQ(got->get_timeout_ns, 5'000'000'000u);
  EXPECT_EQ(got->put_timeout_ns, 6'000'000'000u);
  EXPECT_EQ(got->put_checksum, PutChecksum::kServer);
  EXPECT_FALSE(got->verify);
  EXPECT_EQ(got->congestion, "");
  EXPECT_EQ(got->client_name, "n");
  EXPECT_FALSE(base::log_enabled(base::LogLevel::kWarn));
}

TEST_F(SettingsTest, BadFilesAreExplainedWithTheirLine) {
  const auto says = [&](const std::string& yaml) {
    ClientOptions options;
    options.servers = {"127.0.0.1"};
    options.config_file = file(yaml);
    return complaint(options);
  };
  EXPECT_THAT(says("servers: [a=h]\nget_timeot: 3s\n"),
              AllOf(HasSubstr(":2"), HasSubstr("get_timeot"), HasSubstr("get_timeout")));
  EXPECT_THAT(says("put_timeout: 3\n"), AllOf(HasSubstr(":1"), HasSubstr("put_timeout")));
  EXPECT_THAT(says("io_contexts: many\n"), AllOf(HasSubstr("io_contexts"), HasSubstr("whole number")));
  EXPECT_THAT(says("a: [\n"), HasSubstr(path_));
  EXPECT_THAT(complaint({.servers = {"127.0.0.1"}, .config_file = "/nowhere/memkv.yaml"}),
              HasSubstr("/nowhere/memkv.yaml"));
}

}  // namespace
}  // namespace memkv::client
