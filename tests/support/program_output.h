#pragma once
/// Runs programs such as nm and readelf, and reads what they say of a file.

#include <gtest/gtest.h>

#include <istream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/server_process.h"

namespace memkv::test {

/// What the program writes to stdout. Its exit code must be 0.
inline std::string output_of(const std::vector<std::string>& argv) {
  std::string out, err;
  EXPECT_EQ(run_program(argv, &out, &err), 0) << argv.front() << ": " << err;
  return out;
}

/// The last word of every line that has `marker`.
inline std::vector<std::string> last_words(std::istream& lines, const std::string& marker) {
  std::vector<std::string> words;
  for (std::string line, word; std::getline(lines, line);) {
    if (line.find(marker) == std::string::npos) continue;
    std::istringstream parts(line);
    while (parts >> word) continue;
    words.push_back(word);
  }
  return words;
}
inline std::vector<std::string> last_words(const std::string& text, const std::string& marker) {
  std::istringstream lines(text);
  return last_words(lines, marker);
}

}  // namespace memkv::test
