// Plots as inline SVG, without a script: error over bits as points, the best of them joined and named and the others numbered
// by labels that keep out of each other's way, or one line per policy. Axes are logarithmic or start at 0. Colours say which family of formats a point belongs to, as the
// key below the plot has it, and follow the reader's light or dark.
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
        --exact: #6b7580; --scalar: #1f6fb4; --pq8: #b4481f; --pq4: #1d8a5b; --fitted: #7a3fb0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --dim: #9aa5b0; --paper: #15191d; --line: #343c44; --band: #1e242a;
          --exact: #9aa5b0; --scalar: #6cb2ee; --pq8: #f0936a; --pq4: #5fd0a0; --fitted: #c69af0; } }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .tick, svg .axis { fill: var(--dim); }
svg .key { font-size: 10.5px; }
.grid { stroke: var(--line); stroke-width: 1; } .front { stroke: var(--dim); stroke-width: 1; stroke-dasharray: 4 3; } polyline { fill: none; stroke-width: 2; }
circle { stroke: var(--paper); stroke-width: 1.5; }
.exact circle { fill: var(--exact); } .scalar circle { fill: var(--scalar); } .pq8 circle { fill: var(--pq8); }
.pq4 circle { fill: var(--pq4); } .fitted circle { fill: var(--fitted); } .fitted polyline { stroke: var(--fitted); }
.exact polyline { stroke: var(--exact); } .scalar polyline { stroke: var(--scalar); }
.pq8 polyline { stroke: var(--pq8); } .pq4 polyline { stroke: var(--pq4); }
)";

/// The class of a policy, which gives its colour: by its keys, and for exact keys by its values. Fitted: codes in a space of
/// their own.
[[nodiscard]] inline std::string_view family_of(const std::string& policy) {
  const auto has = [&policy](const char* text) { return policy.find(text) != std::string::npos; };
  const bool fitted = has(":fit=") || has(":run=") || has(":centre=1") || has(":metric=1") || has(":rotate=");
  if (fitted && (has("k=pq") || has("v=pq"))) return "fitted";
  return has("k=pq8") ? "pq8" : has("k=pq4") ? "pq4" : has("k=int") || !has("v=exact") ? "scalar" : "exact";
}

struct PlotPoint {
  double x = 0;
  double y = 0;
  std::size_t number = 0;   ///< of the table's row
  std::string title;        ///< shown when pointed at; of a line: its name in the key
  std::string_view family;  ///< a class name
  std::string name{};       ///< shown beside the point if it is on the front; the front is drawn where points have names
};

enum class Scale { linear, tenfold, twofold, fourfold };

/// An axis from the least to the most of its points: linear from 0, or logarithmic with a tick per factor.
class Axis {
 public:
  /// `rounding`: below, a logarithmic axis shows nothing but rounding; it is drawn on the edge.
  Axis(std::string name, Scale scale, double rounding = 0)
      : name_(std::move(name)),
        logarithmic_(scale != Scale::linear),
        factor_(scale == Scale::twofold ? 2 : scale == Scale::fourfold ? 4 : 10),
        rounding_(rounding) {}

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
    low_ = std::floor(steps(least) - 0.05);
    high_ = std::max(std::ceil(steps(most) + 0.02), low_ + 1);
  }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// 0 at the low edge, 1 at the high one.
  [[nodiscard]] double place(double value) const {
    if (!logarithmic_) return value / high_;
    return value <= 0 || value < rounding_ ? 0 : std::clamp((steps(value) - low_) / (high_ - low_), 0.0, 1.0);
  }
  [[nodiscard]] std::vector<double> ticks() const {
    std::vector<double> ticks;
    const double step = logarithmic_ || high_ <= 8 ? 1 : 2;
    for (double at = low_; at <= high_; at += step) ticks.push_back(logarithmic_ ? std::pow(factor_, at) : at);
    return ticks;
  }
  /// "4k" for 4096 where ticks are powers of two.
  [[nodiscard]] std::string label(double tick) const {
    const bool thousands = logarithmic_ && factor_ != 10 && tick >= 1024;
    return thousands ? fmt::format("{:g}k", tick / 1024) : fmt::format("{:g}", tick);
  }

 private:
  [[nodiscard]] double steps(double value) const { return std::log2(value) / std::log2(factor_); }

  std::string name_;
  bool logarithmic_;
  double factor_;
  double rounding_;
  double low_ = 0;
  double high_ = 1;
};

class Plot {
 public:
  /// With `lines`, points of one number are joined in their order, and the key names them; else it names the families.
  Plot(std::string title, Axis x, Axis y, std::vector<PlotPoint> points, bool lines = false)
      : title_(std::move(title)), x_(std::move(x)), y_(std::move(y)), points_(std::move(points)), lines_(lines) {
    x_.fit(points_, &PlotPoint::x);
    y_.fit(points_, &PlotPoint::y);
  }

  /// For a page that has the styles.
  [[nodiscard]] std::string figure() const {
    return fmt::format("<figure><figcaption>{}</figcaption>\n"
                       "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}</svg></figure>\n",
                       title_, width, height + key_height(), title_, drawing());
  }

  /// A file of its own, with a background.
  [[nodiscard]] std::string file() const {
    return fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n"
                       "<style>{}</style>\n<rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>\n{}</svg>\n",
                       width, height + key_height(), title_, plot_style, drawing());
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
                          "<text class=\"tick\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n",
                          left, y, width - right, y, left - 8, y + 4, y_.label(tick));
    }
    for (const double tick : x_.ticks()) {
      const double x = x_of(tick);
      text += fmt::format("<line class=\"grid\" x1=\"{:.1f}\" y1=\"{}\" x2=\"{:.1f}\" y2=\"{}\"/>"
                          "<text class=\"tick\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                          x, top, x, height - bottom, x, height - bottom + 18, x_.label(tick));
    }
    text += fmt::format("<text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                        (left + width - right) / 2, height - 6, x_.name());
    text += fmt::format("<text class=\"axis\" transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                        (top + height - bottom) / 2, y_.name());
    return text + (lines_ ? lines() : front_line()) + dots() + key();
  }

  [[nodiscard]] std::string lines() const {
    std::string text;
    for (std::size_t first = 0; first < points_.size(); ++first) {
      const auto same = [&](const PlotPoint& point) { return point.number == points_[first].number; };
      if (std::any_of(points_.begin(), points_.begin() + static_cast<std::ptrdiff_t>(first), same)) continue;
      std::string places;
      for (const PlotPoint& point : points_) {
        if (same(point)) places += fmt::format("{:.1f},{:.1f} ", x_of(point.x), y_of(point.y));
      }
      text += fmt::format("<g class=\"{}\"><polyline points=\"{}\"/></g>\n", points_[first].family, places);
    }
    return text;
  }

  /// What the key has an entry for: a line, or a family.
  [[nodiscard]] std::vector<const PlotPoint*> entries() const {
    std::vector<const PlotPoint*> entries;
    for (const PlotPoint& point : points_) {
      const auto same = [&](const PlotPoint* other) {
        return lines_ ? other->number == point.number : other->family == point.family;
      };
      if (std::none_of(entries.begin(), entries.end(), same)) entries.push_back(&point);
    }
    return entries;
  }
  [[nodiscard]] double key_height() const { return lines_ ? 17.0 * static_cast<double>(entries().size()) + 8 : 24; }

  /// Below the plot: a line's name each, or the families side by side.
  [[nodiscard]] std::string key() const {
    std::string text;
    double x = lines_ ? 16 : left, y = height + 12;
    for (const PlotPoint* point : entries()) {
      const std::string name = lines_ ? fmt::format("{} {}", point->number, point->title) : std::string(point->family);
      text += fmt::format("<g class=\"{}\"><circle cx=\"{}\" cy=\"{}\" r=\"5\"/>"
                          "<text class=\"key\" x=\"{}\" y=\"{}\">{}</text></g>\n",
                          point->family, x, y - 4, x + 11, y, name);
      (lines_ ? y : x) += lines_ ? 17 : 84;
    }
    return text;
  }

  /// The points that no other beats in both x and y (less is better), by x; none where points have no names.
  [[nodiscard]] std::vector<const PlotPoint*> front() const {
    std::vector<const PlotPoint*> order;
    for (const PlotPoint& point : points_) {
      if (!point.name.empty()) order.push_back(&point);
    }
    std::sort(order.begin(), order.end(), [](const PlotPoint* a, const PlotPoint* b) {
      return a->x != b->x ? a->x < b->x : a->y < b->y;
    });
    std::vector<const PlotPoint*> front;
    for (const PlotPoint* point : order) {
      if (front.empty() || point->y < front.back()->y) front.push_back(point);
    }
    return front;
  }

  [[nodiscard]] std::string front_line() const {
    std::string places;
    for (const PlotPoint* point : front()) places += fmt::format("{:.1f},{:.1f} ", x_of(point->x), y_of(point->y));
    return places.empty() ? "" : fmt::format("<polyline class=\"front\" points=\"{}\"/>\n", places);
  }

  /// What a label covers.
  struct Box {
    double left, top, right, bottom;
    [[nodiscard]] bool meets(const Box& other) const noexcept {
      return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
    }
  };

  /// Dots, and beside each its name or number where neither meets what was drawn before.
  [[nodiscard]] std::string dots() const {
    constexpr double letter = 6.4, line = 11, dot = 5;
    std::vector<Box> taken;
    for (const PlotPoint& point : points_) {
      taken.push_back({x_of(point.x) - dot, y_of(point.y) - dot, x_of(point.x) + dot, y_of(point.y) + dot});
    }
    const std::vector<const PlotPoint*> named = front();
    std::string text, labels;
    const auto label = [&](const PlotPoint& point, const std::string& name) {
      const double x = x_of(point.x), y = y_of(point.y);
      std::size_t letters = 0;  // of UTF-8
      for (const char byte : name) letters += (static_cast<unsigned char>(byte) & 0xc0u) != 0x80u ? 1 : 0;
      const double half = letter * static_cast<double>(letters) / 2;
      Box box{};
      for (const double far : {0.0, 12.0, 24.0, 36.0}) {
        bool placed = false;
        for (const auto& [side, level] : {std::pair{1, 0}, {-1, 0}, {0, -1}, {0, 1}, {1, -1}, {1, 1}, {-1, -1}, {-1, 1}}) {
          const double middle_x = x + side * (dot + 3 + half + (level == 0 ? far : 0));
          const double middle_y = y + level * (dot + 3 + line / 2 + far);
          box = {middle_x - half, middle_y - line / 2, middle_x + half, middle_y + line / 2};
          placed = box.left >= left && box.right <= width && box.top >= 0 && box.bottom <= height - bottom + line &&
                   std::none_of(taken.begin(), taken.end(), [&](const Box& other) { return box.meets(other); });
          if (placed) break;
        }
        if (placed) break;
      }
      taken.push_back(box);
      labels += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n", (box.left + box.right) / 2,
                            box.bottom - 1.5, name);
    };
    // Names first: they need more room.
    for (const PlotPoint* point : named) label(*point, point->name);
    for (std::size_t i = 0; i < points_.size(); ++i) {
      const PlotPoint& point = points_[i];
      const auto same = [&](const PlotPoint& other) { return other.number == point.number; };
      // Only the last of a line has its number.
      const bool numbered = !lines_ || std::none_of(points_.begin() + static_cast<std::ptrdiff_t>(i) + 1, points_.end(), same);
      const bool is_named = std::find(named.begin(), named.end(), &point) != named.end();
      if (numbered && !is_named) label(point, fmt::format("{}", point.number));
      text += fmt::format("<g class=\"{}\"><title>{}</title><circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\"/></g>\n", point.family,
                          point.title, x_of(point.x), y_of(point.y), numbered ? dot : dot - 1);
    }
    return text + labels;
  }

  std::string title_;
  Axis x_;
  Axis y_;
  std::vector<PlotPoint> points_;
  bool lines_;
};

}  // namespace common
