/// Compares the bytes of every message with tests/golden/wire. After a wanted change of the protocol, run this from the
/// repository's root (it also writes the seeds of the fuzzers):
///   wire_test --gtest_also_run_disabled_tests --gtest_filter='*DISABLED_Regenerate'

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include "wire/samples_testing.h"

namespace memkv::wire {
namespace {

/// Lines of 16 bytes, "offset: hex".
std::string dump(std::span<const std::byte> bytes) {
  std::string text;
  char digits[32];
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i % 16 == 0) {
      std::snprintf(digits, sizeof digits, "%s%04zx:", i == 0 ? "" : "\n", i);
      text += digits;
    }
    std::snprintf(digits, sizeof digits, "%s%02x", i % 8 == 0 ? " " : "", static_cast<unsigned>(bytes[i]));
    text += digits;
  }
  return text + "\n";
}

/// The proofs, then the session keys as k0 and k1 in hex, for people who write a client in another language.
std::string dump(const Agreement& agreement) {
  std::string text = "server proof\n" + dump(std::as_bytes(std::span(agreement.server_proof)));
  text += "client proof\n" + dump(std::as_bytes(std::span(agreement.client_proof)));
  for (const auto& [name, key] : {std::pair("client to server", agreement.keys.client_to_server),
                                  std::pair("server to client", agreement.keys.server_to_client)}) {
    char line[96];
    std::snprintf(line, sizeof line, "%s %016lx %016lx\n", name, key.k0, key.k1);
    text += line;
  }
  return text;
}

std::vector<std::pair<std::string, std::string>> goldens() {
  std::vector<std::pair<std::string, std::string>> all;
  for (const Sample& sample : samples()) all.emplace_back(sample.name, dump(sample.frame));
  all.emplace_back("agreement", dump(sample_agreement()));
  return all;
}

std::string path_of(const std::string& name) { return "tests/golden/wire/" + name + ".hex"; }

TEST(WireGolden, BytesAreAsEver) {
  for (const auto& [name, text] : goldens()) {
    std::ifstream file(path_of(name));
    ASSERT_TRUE(file.is_open()) << path_of(name) << ": run from the repository's root";
    std::stringstream expected;
    expected << file.rdbuf();
    EXPECT_EQ(text, expected.str()) << path_of(name);
  }
}

TEST(WireGolden, EveryOpcodeButTheReservedHasASample) {
  std::array<bool, 256> seen{};
  for (const Sample& sample : samples()) seen[static_cast<size_t>(sample.frame[5])] = true;
  for (unsigned code = 0; code < 256; ++code) {
    std::array<std::byte, kHeaderBytes> bytes{};
    encode(FrameHeader{.opcode = static_cast<Opcode>(code)}, bytes);
    const auto opcode = static_cast<Opcode>(code);
    const bool reserved = opcode == Opcode::kRegionAdd || opcode == Opcode::kRegionDrop;
    EXPECT_EQ(decode_header(bytes).ok(), seen[code] || reserved) << code;
  }
}

void write(const std::string& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary);
  ASSERT_TRUE(file.is_open()) << path;
  file << content;
}

TEST(WireGolden, DISABLED_Regenerate) {
  for (const auto& [name, text] : goldens()) write(path_of(name), text);
  for (const Sample& sample : samples()) {
    const std::string_view bytes(reinterpret_cast<const char*>(sample.frame.data()), sample.frame.size());
    write("tests/fuzz/corpus/messages_fuzz/" + sample.name, bytes);
    const size_t side = sample.name == "hello" ? 0 : sample.name == "proof" ? 1 : 2;  // as in handshake_fuzz.cc
    if (sample.frame[4] == std::byte{0})
      write("tests/fuzz/corpus/handshake_fuzz/" + sample.name,
            std::string(1, static_cast<char>(side)) + std::string(bytes));
  }
}

}  // namespace
}  // namespace memkv::wire
