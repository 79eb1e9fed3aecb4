// Plots as inline SVG, without a script: error over bits as numbered points whose labels keep out of each other's way, or
// one line per policy. Axes are logarithmic or start at 0. Colours say which family of formats a point belongs to and
// follow the reader's light or dark.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace common {

inline constexpr std::string_view plot_style = R"(
:root { color-scheme: light dark; --ink: #1c2126; --dim: #5a6570; --paper: #fcfcfa; --line: #d9dde1; --band: #f1f3f4;
        --exact: #6b7580; --integer: #1f6fb4; --pq8: #b4481f; --pq4: #1d8a5b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --dim: #9aa5b0; --paper: #15191d; --line: #343c44; --band: #1e242a;
          --exact: #9aa5b0; --integer: #6cb2ee; --pq8: #f0936a; --pq4: #5fd0a0; } }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .tick, svg .axis { fill: var(--dim); }
.grid { stroke: var(--line); stroke-width: 1; } polyline { fill: none; stroke-width: 2; }
circle { stroke: var(--paper); stroke-width: 1.5; }
.exact circle { fill: var(--exact); } .integer circle { fill: var(--integer); } .pq8 circle { fill: var(--pq8); }
.pq4 circle { fill: var(--pq4); } .exact polyline { stroke: var(--exact); } .integer polyline { stroke: var(--integer); }
.pq8 polyline { stroke: var(--pq8); } .pq4 polyline { stroke: var(--pq4); }
)";

/// The class of a policy, which gives its colour: by its keys, and for exact keys by its values.
[[nodiscard]] inline std::string_view family_of(const std::string& policy) {
  const auto has = [&policy](const char* text) { return policy.find(text) != std::string::npos; };
  return has("k=pq8") ? "pq8" : has("k=pq4") ? "pq4" : has("k=int") || !has("v=exact") ? "integer" : "exact";
}

struct PlotPoint {
  double x = 0;
  double y = 0;
  std::size_t number = 0;   ///< of the table's row
  std::string title;        ///< shown when pointed at; of a line: its name in the key
  std::string_view family;  ///< a class name
};

/// An axis from the least to the most of its points: linear from 0, or logarithmic with whole decades.
class Axis {
 public:
  /// `rounding`: below, a logarithmic axis shows nothing but rounding; it is drawn on the edge.
  Axis(std::string name, bool logarithmic, double rounding = 0)
      : name_(std::move(name)), logarithmic_(logarithmic), rounding_(rounding) {}

  void fit(const std::vector<PlotPoint>& points, double PlotPoint::*coordinate) {
    double least = 1e300, most = 0;
    for (const PlotPoint& point : points) {
      const double value = point.*coordinate;
      most = std::max(most, value);
      if (value > 0 && value >= rounding_) least = std::min(least, value);
    }
    if (!logarithmic_) {
      high_ = std::max(std::ceil(most / 2) * 2, 2.0);
      return;
    }
    if (most == 0 || most < rounding_) least = most = 1;
    low_ = std::floor(std::log10(least) - 0.05);
    high_ = std::max(std::ceil(std::log10(most) + 0.02), low_ + 1);
  }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// 0 at the low edge, 1 at the high one.
  [[nodiscard]] double place(double value) const {
    if (!logarithmic_) return value / high_;
    return value <= 0 || value < rounding_ ? 0 : std::clamp((std::log10(value) - low_) / (high_ - low_), 0.0, 1.0);
  }
  [[nodiscard]] std::vector<double> ticks() const {
    std::vector<double> ticks;
    const double step = logarithmic_ || high_ <= 8 ? 1 : 2;
    for (double at = low_; at <= high_; at += step) ticks.push_back(logarithmic_ ? std::pow(10.0, at) : at);
    return ticks;
  }

 private:
  std::string name_;
  bool logarithmic_;
  double rounding_;
  double low_ = 0;
  double high_ = 1;
};

class Plot {
 public:
  /// With `lines`, points of one number are joined in their order, and a key names them.
  Plot(std::string title, Axis x, Axis y, std::vector<PlotPoint> points, bool lines = false)
      : title_(std::move(title)), x_(std::move(x)), y_(std::move(y)), points_(std::move(points)), lines_(lines) {
    x_.fit(points_, &PlotPoint::x);
    y_.fit(points_, &PlotPoint::y);
  }

  /// For a page that has the styles.
  [[nodiscard]] std::string figure() const {
    return fmt::format("<figure><figcaption>{}</figcaption>\n"
                       "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}</svg></figure>\n",
                       title_, width, height, title_, drawing());
  }

  /// A file of its own, with a background.
  [[nodiscard]] std::string file() const {
    return fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n"
                       "<style>{}</style>\n<rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>\n{}</svg>\n",
                       width, height, title_, plot_style, drawing());
  }

 private:
  static constexpr double width = 560, height = 380, left = 74, right = 30, top = 14, bottom = 46;

  [[nodiscard]] double x_of(double x) const { return left + x_.place(x) * (width - left - right); }
  [[nodiscard]] double y_of(double y) const { return height - bottom - y_.place(y) * (height - top - bottom); }

  [[nodiscard]] std::string drawing() const {
    std::string text;
    for (const double tick : y_.ticks()) {
      const double y = y_of(tick);
      text += fmt::format("<line class=\"grid\" x1=\"{}\" y1=\"{:.1f}\" x2=\"{}\" y2=\"{:.1f}\"/>"
                          "<text class=\"tick\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n",
                          left, y, width - right, y, left - 8, y + 4, tick);
    }
    for (const double tick : x_.ticks()) {
      const double x = x_of(tick);
      text += fmt::format("<line class=\"grid\" x1=\"{:.1f}\" y1=\"{}\" x2=\"{:.1f}\" y2=\"{}\"/>"
                          "<text class=\"tick\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:g}</text>\n",
                          x, top, x, height - bottom, x, height - bottom + 18, tick);
    }
    text += fmt::format("<text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                        (left + width - right) / 2, height - 6, x_.name());
    text += fmt::format("<text class=\"axis\" transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                        (top + height - bottom) / 2, y_.name());
    return text + (lines_ ? lines() : "") + dots();
  }

  /// The lines, and their key in the lower left corner (what is drawn as lines falls to the right).
  [[nodiscard]] std::string lines() const {
    std::string text, key;
    double key_y = height - bottom - 12;
    for (std::size_t first = 0; first < points_.size(); ++first) {
      const auto same = [&](const PlotPoint& point) { return point.number == points_[first].number; };
      if (std::any_of(points_.begin(), points_.begin() + static_cast<std::ptrdiff_t>(first), same)) continue;
      std::string places;
      for (const PlotPoint& point : points_) {
        if (same(point)) places += fmt::format("{:.1f},{:.1f} ", x_of(point.x), y_of(point.y));
      }
      const PlotPoint& point = points_[first];
      text += fmt::format("<g class=\"{}\"><polyline points=\"{}\"/></g>\n", point.family, places);
      key += fmt::format("<g class=\"{}\"><circle cx=\"{}\" cy=\"{:.1f}\" r=\"5\"/><text x=\"{}\" y=\"{:.1f}\">{} {}</text></g>\n",
                         point.family, left + 14, key_y - 4, left + 26, key_y, point.number, point.title);
      key_y -= 17;
    }
    return text + key;
  }

  [[nodiscard]] std::string dots() const {
    struct Box {
      double x, y;
    };
    std::vector<Box> taken;
    for (const PlotPoint& point : points_) taken.push_back({x_of(point.x), y_of(point.y)});
    const auto is_free = [&](double x, double y) {
      return std::none_of(taken.begin(), taken.end(),
                          [&](const Box& box) { return std::fabs(box.x - x) < 13 && std::fabs(box.y - y) < 11; });
    };
    std::string text;
    for (const PlotPoint& point : points_) {
      const double x = x_of(point.x);
      const double y = y_of(point.y);
      double label_x = x + 13, label_y = y;
      for (const auto& [dx, dy] : {Box{13, 0}, Box{-13, 0}, Box{0, -13}, Box{0, 14}, Box{12, -11}, Box{12, 12},
                                   Box{-12, -11}, Box{-12, 12}, Box{24, 0}, Box{0, -25}, Box{0, 26}, Box{-24, 0}}) {
        if (!is_free(x + dx, y + dy)) continue;
        label_x = x + dx;
        label_y = y + dy;
        break;
      }
      taken.push_back({label_x, label_y});
      text += fmt::format("<g class=\"{}\"><title>{}</title><circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\"/>"
                          "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text></g>\n",
                          point.family, point.title, x, y, label_x, label_y + 4, point.number);
    }
    return text;
  }

  std::string title_;
  Axis x_;
  Axis y_;
  std::vector<PlotPoint> points_;
  bool lines_;
};

}  // namespace common
