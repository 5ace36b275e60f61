#include "tools/bench/chart.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/units.h"

namespace memkv::bench {
namespace {

constexpr double kWidth = 860, kHeight = 360, kLeft = 64, kRight = 16, kTop = 16, kBottom = 44;

struct Axes {
  double x_low, x_high;  // log2
  double y_low, y_high;  // as drawn: log10 if log_y is set
  bool log_y;
  double x(double bytes) const {
    const double span = std::max(1e-9, x_high - x_low);
    return kLeft + (std::log2(bytes) - x_low) / span * (kWidth - kLeft - kRight);
  }
  double y(double value) const {
    const double v = log_y ? std::log10(std::max(value, 1e-9)) : value;
    return kHeight - kBottom - (v - y_low) / (y_high - y_low) * (kHeight - kTop - kBottom);
  }
};

/// The step between lines: 1, 2 or 5 times a power of ten, so that about five lines fit below `high`.
double nice_step(double high) {
  const double rough = high / 5, power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough) return factor * power;
  }
  return 10 * power;
}

Axes axes_of(const Chart& chart) {
  Axes axes{1e9, -1e9, 0, 1e-9, chart.log_y};
  double low = 1e300, high = 0;
  for (const Series& series : chart.series) {
    for (const auto& [x, y] : series.points) {
      axes.x_low = std::min(axes.x_low, std::log2(x)), axes.x_high = std::max(axes.x_high, std::log2(x));
      if (y > 0) low = std::min(low, y);
      high = std::max(high, y);
    }
  }
  if (high <= 0) high = 1;
  if (chart.log_y) {
    axes.y_low = std::floor(std::log10(std::min(low, high)));
    axes.y_high = std::max(axes.y_low + 1, std::ceil(std::log10(high)));
  } else {
    const double step = nice_step(high);
    axes.y_high = std::ceil(high / step) * step;
  }
  return axes;
}

std::string grid(const Chart& chart, const Axes& axes) {
  std::string out;
  const auto line = [&](double value) {
    const double y = axes.y(value);
    out += fmt::format(R"(<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>)", kLeft, kWidth - kRight, y, y);
    out +=
        fmt::format(R"(<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{:g}</text>)", kLeft - 8, y + 4, value);
  };
  if (chart.log_y) {
    for (double e = axes.y_low; e <= axes.y_high; e++) line(std::pow(10, e));
  } else {
    const double step = nice_step(axes.y_high);
    for (double v = 0; v <= axes.y_high * 1.0001; v += step) line(v);
  }
  std::set<double> xs;
  for (const Series& series : chart.series) {
    for (const auto& point : series.points) xs.insert(point.first);
  }
  for (const double bytes : xs) {
    out += fmt::format(R"(<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>)", axes.x(bytes),
                       kHeight - kBottom + 20, base::format_bytes(static_cast<uint64_t>(bytes)));
  }
  return out;
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string svg_of(const Chart& chart) {
  const Axes axes = axes_of(chart);
  std::string out = fmt::format("<figure><figcaption>{} <span class=\"unit\">{}</span></figcaption>\n",
                                escape_html(chart.title), escape_html(chart.unit));
  out += "<div class=\"legend\">";
  for (const Series& series : chart.series) {
    out += fmt::format(
        R"(<span><svg width="26" height="8"><line x1="0" x2="26" y1="4" y2="4" stroke="{}" stroke-width="2.5"{}/></svg>{}</span>)",
        series.color, series.dashed ? R"( stroke-dasharray="5 4")" : "", escape_html(series.name));
  }
  out += fmt::format("</div>\n<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", kWidth, kHeight,
                     escape_html(chart.title));
  out += grid(chart, axes);
  for (const Series& series : chart.series) {
    std::string path;
    for (const auto& [x, y] : series.points)
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", axes.x(x), axes.y(y));
    out += fmt::format(R"(<path d="{}" fill="none" stroke="{}" stroke-width="2.5"{}/>)", path, series.color,
                       series.dashed ? R"( stroke-dasharray="5 4" opacity=".7")" : "");
    for (const auto& [x, y] : series.points) {
      if (series.dashed) continue;
      out += fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="4" fill="{}"><title>{} {}: {:.4g} {}</title></circle>)",
                         axes.x(x), axes.y(y), series.color, escape_html(series.name),
                         base::format_bytes(static_cast<uint64_t>(x)), y, escape_html(chart.unit));
    }
  }
  return out + "</svg></figure>\n";
}

}  // namespace memkv::bench
