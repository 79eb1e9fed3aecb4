// Error over bits as an inline SVG: a logarithmic error axis, numbered points, labels that keep out of each other's way.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace kv_report {

struct PlotPoint {
  double bits = 0;
  double error = 0;
  std::size_t number = 0;     ///< of the table's row
  std::string title;          ///< shown when pointed at
  std::string_view family;    ///< a class name, which gives the colour
};

class Plot {
 public:
  Plot(std::string title, std::string error_name, std::vector<PlotPoint> points)
      : title_(std::move(title)), error_name_(std::move(error_name)), points_(std::move(points)) {
    double least = 1e300, most = 0;
    for (const PlotPoint& point : points_) {
      most_bits_ = std::max(most_bits_, point.bits);
      if (point.error < exact) continue;
      least = std::min(least, point.error);
      most = std::max(most, point.error);
    }
    if (most == 0) least = most = 1;
    low_ = std::floor(std::log10(least) - 0.05);
    high_ = std::max(std::ceil(std::log10(most) + 0.02), low_ + 1);
    most_bits_ = std::ceil(most_bits_ / 2) * 2;
  }

  /// For a page that has the styles.
  [[nodiscard]] std::string figure() const {
    return fmt::format("<figure><figcaption>{}</figcaption>\n<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n{}"
                       "</svg></figure>\n",
                       title_, width, height, title_, drawing());
  }

  /// A file of its own, with a background and the key of the page's colours.
  [[nodiscard]] std::string file(std::string_view style) const {
    return fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n"
                       "<style>{}</style>\n<rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>\n{}</svg>\n",
                       width, height, title_, style, drawing());
  }

 private:
  static constexpr double exact = 1e-5;  // below: rounding, drawn on the lower edge
  static constexpr double width = 560, height = 380, left = 74, right = 30, top = 14, bottom = 46;

  [[nodiscard]] std::string drawing() const {
    std::string text;
    for (double decade = low_; decade <= high_; ++decade) {
      const double y = y_of(std::pow(10.0, decade));
      text += fmt::format("<line class=\"grid\" x1=\"{}\" y1=\"{:.1f}\" x2=\"{}\" y2=\"{:.1f}\"/>"
                          "<text class=\"tick\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n",
                          left, y, width - right, y, left - 8, y + 4, std::pow(10.0, decade));
    }
    const double step = most_bits_ > 8 ? 2 : 1;
    for (double bits = 0; bits <= most_bits_; bits += step) {
      const double x = x_of(bits);
      text += fmt::format("<line class=\"grid\" x1=\"{:.1f}\" y1=\"{}\" x2=\"{:.1f}\" y2=\"{}\"/>"
                          "<text class=\"tick\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:g}</text>\n",
                          x, top, x, height - bottom, x, height - bottom + 18, bits);
    }
    text += fmt::format("<text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">bits per element, K and V</text>\n",
                        (left + width - right) / 2, height - 6);
    text += fmt::format("<text class=\"axis\" transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                        (top + height - bottom) / 2, error_name_);
    return text + dots();
  }

  [[nodiscard]] double x_of(double bits) const { return left + bits / most_bits_ * (width - left - right); }
  [[nodiscard]] double y_of(double error) const {
    const double place = error < exact ? 0 : std::clamp((std::log10(error) - low_) / (high_ - low_), 0.0, 1.0);
    return height - bottom - place * (height - top - bottom);
  }

  [[nodiscard]] std::string dots() const {
    struct Box {
      double x, y;
    };
    std::vector<Box> taken;
    for (const PlotPoint& point : points_) taken.push_back({x_of(point.bits), y_of(point.error)});
    const auto is_free = [&](double x, double y) {
      return std::none_of(taken.begin(), taken.end(),
                          [&](const Box& box) { return std::fabs(box.x - x) < 13 && std::fabs(box.y - y) < 11; });
    };
    std::string text;
    for (const PlotPoint& point : points_) {
      const double x = x_of(point.bits);
      const double y = y_of(point.error);
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
  std::string error_name_;
  std::vector<PlotPoint> points_;
  double most_bits_ = 2;
  double low_ = -1;
  double high_ = 0;
};

}  // namespace kv_report
