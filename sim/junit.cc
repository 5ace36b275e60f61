#include "sim/junit.h"

#include <cstdio>

namespace memkv::sim {
namespace {

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return out;
}

}  // namespace

bool Junit::write() const {
  if (path_.empty()) return true;
  std::string text = "<testsuite name=\"" + suite_ + "\">\n";
  for (const Case& one : cases_) {
    text += "<testcase classname=\"" + suite_ + "\" name=\"" + escape(one.name) + "\"";
    text += one.failure.empty() ? "/>\n" : "><failure message=\"" + escape(one.failure) + "\"/></testcase>\n";
  }
  text += "</testsuite>\n";
  std::FILE* file = std::fopen(path_.c_str(), "w");
  if (file == nullptr) return false;
  const bool whole = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return std::fclose(file) == 0 && whole;
}

}  // namespace memkv::sim
