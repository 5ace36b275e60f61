#include "options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

namespace memkv::nixl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::map<std::string, std::string>& fake_environment() {
  static std::map<std::string, std::string> values;
  return values;
}
std::string fake_lookup(const char* name) {
  const auto found = fake_environment().find(name);
  return found == fake_environment().end() ? "" : found->second;
}

class OptionsTest : public testing::Test {
 protected:
  OptionsTest() { fake_environment().clear(); }
  static Result<Options, Message> read(abi::Params params, const std::string& type = "MEMKV") {
    const bool elsewhere = fake_environment().contains("MEMKV_SERVERS") || fake_environment().contains("MEMKV_CONFIG");
    if (!elsewhere && !params.contains("endpoint_override")) params.emplace("servers", "a:1");
    return read_options(type, params, fake_lookup);
  }
  static Options good(const abi::Params& params, const std::string& type = "MEMKV") {
    auto options = read(params, type);
    EXPECT_TRUE(options.ok()) << options.error().text;
    return std::move(options).value();
  }
  static std::string error(const abi::Params& params, const std::string& type = "MEMKV") {
    const auto options = read(params, type);
    return options.ok() ? "no error" : options.error().text;
  }
};

const std::string kHexKey(64, 'a');

TEST_F(OptionsTest, defaults) {
  const Options options = good({});
  EXPECT_TRUE(options.coalesce);
  EXPECT_EQ(options.write_mode, WriteMode::kAuto);
  EXPECT_EQ(options.staging_mb, 256u);
  EXPECT_EQ(options.timeout_ns(abi::Operation::kRead), 2'000'000'000u);
  EXPECT_EQ(options.timeout_ns(abi::Operation::kWrite), 10'000'000'000u);
  EXPECT_EQ(options.key_prefix(), "");
}

TEST_F(OptionsTest, parameters) {
  const Options options = good({{"servers", "a:1,b:2"},
                                {"auth_key", kHexKey},
                                {"prefix", "p/"},
                                {"transport", "tcp"},
                                {"rdma_devices", "mlx5_0,mlx5_1"},
                                {"congestion", "reno"},
                                {"log_level", "warn"},
                                {"timeout_ms", "250"},
                                {"io_threads", "3"},
                                {"coalesce", "off"},
                                {"write_mode", "if_absent"},
                                {"staging_mb", "64"},
                                {"metrics_file", "/x"}});
  EXPECT_THAT(options.client.servers, ElementsAre("a:1", "b:2"));
  EXPECT_EQ(options.client.namespace_key, kHexKey);
  EXPECT_EQ(options.key_prefix(), "p/");
  EXPECT_THAT(options.client.rdma_devices, ElementsAre("mlx5_0", "mlx5_1"));
  EXPECT_EQ(options.client.congestion, "reno");
  EXPECT_EQ(options.client.log_level, "warn");
  EXPECT_EQ(options.timeout_ns(abi::Operation::kWrite), 250'000'000u);
  EXPECT_EQ(options.io_threads, 3u);
  EXPECT_FALSE(options.coalesce);
  EXPECT_EQ(options.write_mode, WriteMode::kIfAbsent);
  EXPECT_EQ(options.staging_mb, 64u);
  EXPECT_EQ(options.metrics_file, "/x");
}

TEST_F(OptionsTest, an_empty_parameter_is_unset_and_the_environment_counts) {
  fake_environment() = {{"MEMKV_SERVERS", "e:1"}, {"MEMKV_TIMEOUT_MS", "7"}, {"MEMKV_PREFIX", "e/"}};
  const Options options = good({{"servers", ""}, {"prefix", "p/"}, {"unknown", ""}});
  EXPECT_THAT(options.client.servers, ElementsAre("e:1"));
  EXPECT_EQ(options.timeout_ms, 7u);
  EXPECT_EQ(options.prefix, "p/");
}

TEST_F(OptionsTest, the_file_comes_last) {
  const std::string path = testing::TempDir() + "memkv_nixl_options.yaml";
  std::ofstream(path) << "servers: [f1:1, f2:2]\nnixl:\n  prefix: f/\n  timeout_ms: 5\n";
  fake_environment() = {{"MEMKV_CONFIG", path}, {"MEMKV_TIMEOUT_MS", "6"}};
  const Options options = good({});
  EXPECT_THAT(options.client.servers, ElementsAre("f1:1", "f2:2"));
  EXPECT_EQ(options.prefix, "f/");
  EXPECT_EQ(options.timeout_ms, 6u);
  std::ofstream(path) << "nixl:\n  prefx: f/\n";
  EXPECT_THAT(error({}), HasSubstr("did you mean 'prefix'"));
  std::ofstream(path) << "nixl: [";
  EXPECT_THAT(error({}), HasSubstr(path));
  std::remove(path.c_str());
  EXPECT_THAT(error({}), HasSubstr(path));
}

TEST_F(OptionsTest, an_unknown_parameter_names_the_nearest) {
  EXPECT_THAT(error({{"server", "a:1"}}), HasSubstr("unknown parameter 'server'; did you mean 'servers'?"));
  EXPECT_THAT(error({{"bucket", "b"}}), HasSubstr("unknown parameter 'bucket'"));
}

TEST_F(OptionsTest, bad_values_say_what_is_expected) {
  EXPECT_THAT(error({{"timeout_ms", "2s"}}), HasSubstr("timeout_ms=2s: expected a whole number from 1 to"));
  EXPECT_THAT(error({{"timeout_ms", "0"}}), HasSubstr("timeout_ms=0"));
  EXPECT_THAT(error({{"io_threads", "65"}}), HasSubstr("from 1 to 64"));
  EXPECT_THAT(error({{"coalesce", "maybe"}}), HasSubstr("expected on or off"));
  EXPECT_THAT(error({{"write_mode", "x"}}), HasSubstr("auto, replace or if_absent"));
  EXPECT_THAT(error({{"transport", "pigeon"}}), HasSubstr("shm, rdma or tcp"));
}

TEST_F(OptionsTest, under_the_name_of_object_storage) {
  fake_environment() = {{"AWS_ACCESS_KEY_ID", "id"}, {"AWS_SECRET_ACCESS_KEY", kHexKey}};
  const Options options = good({{"bucket", "b"},
                                {"endpoint_override", "http://h1:9900/,h2:9901"},
                                {"secret_key", kHexKey},
                                {"access_key", "id"},
                                {"region", "x"},
                                {"prefix", "p/"}},
                               "OBJ");
  EXPECT_EQ(options.key_prefix(), "p/b/");
  EXPECT_THAT(options.client.servers, ElementsAre("http://h1:9900/", "h2:9901"));
  EXPECT_EQ(options.client.namespace_key, kHexKey);
  EXPECT_EQ(options.write_mode, WriteMode::kReplace);
  EXPECT_THAT(options.ignored, HasSubstr("access_key"));
  EXPECT_THAT(options.ignored, HasSubstr("region"));
}

TEST_F(OptionsTest, keys_of_s3_in_the_environment_are_not_used) {
  fake_environment() = {{"AWS_SECRET_ACCESS_KEY", kHexKey}, {"AWS_DEFAULT_BUCKET", "e"}};
  const Options options = good({}, "OBJ");
  EXPECT_EQ(options.client.namespace_key, "");
  EXPECT_EQ(options.bucket, "e");
}

using CaseC17 = OptionsTest;

TEST_F(CaseC17, a_secret_key_that_is_no_credential_is_an_error) {
  for (const std::string& secret : {std::string("wJalrXUtnFEMI/K7MDENG"), std::string(63, 'a'), std::string(64, 'x')}) {
    const std::string text = error({{"secret_key", secret}}, "OBJ");
    EXPECT_THAT(text, HasSubstr("secret_key is no credential of MemKV: it has to be 64 hex digits"));
    EXPECT_THAT(text, testing::Not(HasSubstr(secret)));
  }
  EXPECT_EQ(good({{"secret_key", "@/some/file"}}, "OBJ").client.namespace_key, "@/some/file");
}

TEST_F(CaseC17, a_secret_key_beside_an_auth_key_is_s3s_own) {
  const Options options = good({{"secret_key", "wJalrXUtnFEMI/K7MDENG"}, {"auth_key", kHexKey}}, "OBJ");
  EXPECT_EQ(options.client.namespace_key, kHexKey);
  EXPECT_EQ(options.ignored, "secret_key");
}

TEST_F(CaseC17, a_slip_of_the_pen_is_an_error_under_obj_too) {
  EXPECT_THAT(error({{"secrete_key", kHexKey}}, "OBJ"), HasSubstr("'secrete_key'; did you mean 'secret_key'?"));
  EXPECT_THAT(error({{"timeout_m", "5"}}, "OBJ"), HasSubstr("'timeout_m'; did you mean 'timeout_ms'?"));
  const abi::Params others = {{"access_key", "x"},   {"session_token", "x"},
                              {"scheme", "http"},    {"region", "x"},
                              {"req_checksum", "x"}, {"resp_checksum", "x"},
                              {"ca_bundle", "x"},    {"num_threads", "4"},
                              {"crtMinLimit", "1"},  {"accelerated", "x"},
                              {"type", "x"},         {"active", "True"},
                              {"unset", ""},         {"use_virtual_addressing", "false"}};
  const std::string ignored = good(others, "OBJ").ignored;
  for (const auto& [name, value] : others) EXPECT_EQ(ignored.find(name) != std::string::npos, !value.empty()) << name;
}

TEST_F(CaseC17, no_servers_is_said_with_the_names_of_parameters) {
  fake_environment() = {{"MEMKV_SERVERS", ""}};
  for (const std::string type : {"MEMKV", "OBJ"}) {
    const std::string text = error({}, type);
    EXPECT_THAT(text, HasSubstr("servers or MEMKV_SERVERS"));
    EXPECT_EQ(text.find("::"), std::string::npos) << text;
    EXPECT_EQ(text.find("endpoint_override") != std::string::npos, type == "OBJ") << text;
  }
}

TEST_F(OptionsTest, effective_values_show_no_secret) {
  const abi::Params shown = effective(good({{"servers", "a:1"}, {"auth_key", kHexKey}}));
  EXPECT_EQ(shown.at("servers"), "a:1");
  EXPECT_EQ(shown.at("auth_key"), "(set)");
  EXPECT_EQ(shown.at("write_mode"), "auto");
  for (const auto& [name, value] : shown) EXPECT_EQ(value.find(kHexKey), std::string::npos) << name;
}

TEST_F(OptionsTest, every_known_name_is_advertised_as_unset) {
  for (const auto& [name, value] : known_options()) EXPECT_EQ(value, "") << name;
  EXPECT_EQ(known_options().size(), effective(Options()).size());
}

}  // namespace
}  // namespace memkv::nixl
