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
  std::vector<std::pair<double, double>> points;  ///< x is the size of a block in bytes
};

struct Chart {
  std::string title, unit;
  bool log_y = false;
  std::vector<Series> series;
};

/// Draws the chart. x runs over powers of two; y starts at 0, or runs over powers of ten.
std::string svg_of(const Chart& chart);

/// Escapes text for HTML, between tags and in attributes.
std::string escape_html(const std::string& text);

}  // namespace memkv::bench
