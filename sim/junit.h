#pragma once
/// Writes results as a JUnit <testsuite>, for programs that count tests.

#include <string>
#include <vector>

namespace memkv::sim {

class Junit {
 public:
  /// With an empty path nothing is written.
  Junit(std::string suite, std::string path) : suite_(std::move(suite)), path_(std::move(path)) {}
  /// An empty `failure`: the test passed.
  void add(std::string name, std::string failure) { cases_.push_back({std::move(name), std::move(failure)}); }
  [[nodiscard]] bool write() const;

 private:
  struct Case {
    std::string name, failure;
  };
  const std::string suite_, path_;
  std::vector<Case> cases_;
};

}  // namespace memkv::sim
