#pragma once
/// Line charts as inline SVG.

#include <string>
#include <utility>
#include <vector>

namespace memkv::bench {

struct Series {
  std::string name;
  std::string color;
  bool dashed = false;
  std::vector<std::pair<double, double>> points;  ///< x = bytes of a block, y
};

struct Chart {
  std::string title, unit;
  bool log_y = false;
  std::vector<Series> series;
};

/// x runs over powers of two; y from 0, or by powers of ten.
std::string svg_of(const Chart& chart);

/// For text between tags and in attributes.
std::string escape_html(const std::string& text);

}  // namespace memkv::bench
