// One self-contained HTML page: the plots, the table, and what the columns mean. Follows the reader's light or dark.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/plot.hpp"
#include "kv_report/report.hpp"

namespace kv_report {

inline constexpr std::string_view page_style = R"(
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 1400px;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } p { max-width: 75ch; color: var(--dim); margin: .4rem 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 1rem; margin: 1.2rem 0; }
figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: .3rem; } svg { width: 100%; height: auto; }
.key span { display: inline-block; margin-right: 1.2rem; } .key i { display: inline-block; width: .75rem; height: .75rem;
      border-radius: 50%; margin-right: .35rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 600; } td:nth-child(2), th:nth-child(2) { text-align: left; }
td:nth-child(2) { font-family: ui-monospace, monospace; font-size: .85rem; } tbody tr:nth-child(even) { background: var(--band); }
)";

inline constexpr std::string_view page_notes =
    "Query t attends to tokens 0 to t as in decoding: sinks and the newest tokens exact, all others through the policy's own "
    "kernels; the reference is exact attention in double. Bits count codes, scales and the exact tokens; codebooks are in a "
    "column of their own. Worst: the lowest mean of any query head. KL: of the attention weights, in nats. Logit r and "
    "Spearman: correlation of the scores a query sees. Error: distance of outputs relative to the exact output.";

/// Error over bits, one point per policy; `error` picks the figure.
[[nodiscard]] inline common::Plot plot_of(const std::vector<PolicyResult>& results, std::string title, std::string axis,
                                          double pqkv::Quality::*error) {
  std::vector<common::PlotPoint> points;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const PolicyResult& r = results[i];
    const double bits = (r.key_bits + r.value_bits) / 2;
    points.push_back({bits, r.mean.*error, i + 1, fmt::format("{}: {:.2f} bits, {:.4g}", r.policy, bits, r.mean.*error),
                      common::family_of(r.policy)});
  }
  constexpr double rounding = 1e-5;
  return {std::move(title), common::Axis("bits per element, K and V", common::Scale::linear),
          common::Axis(std::move(axis), common::Scale::tenfold, rounding), std::move(points)};
}

[[nodiscard]] inline common::Plot output_plot(const std::vector<PolicyResult>& results) {
  return plot_of(results, "Error of the attention output", "relative error (log)", &pqkv::Quality::output_error);
}

[[nodiscard]] inline std::string svg_text(const std::vector<PolicyResult>& results) {
  return output_plot(results).file();
}

[[nodiscard]] inline std::string html_text(const std::vector<PolicyResult>& results, const std::string& subtitle) {
  std::string text = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">"
      "<title>kv_report</title>\n<style>{}{}</style></head>\n<body>\n<h1>Attention on a compressed KV cache</h1>\n<p>{}</p>\n",
      common::plot_style, page_style, subtitle);
  text += "<div class=\"plots\">\n";
  text += output_plot(results).figure();
  text += plot_of(results, "Divergence of the attention weights", "KL in nats (log)", &pqkv::Quality::divergence).figure();
  text += "</div>\n<p class=\"key\"><span><i style=\"background:var(--exact)\"></i>exact keys and values</span>"
          "<span><i style=\"background:var(--integer)\"></i>exact keys</span><span><i style=\"background:var(--pq8)\"></i>"
          "pq8 keys</span><span><i style=\"background:var(--pq4)\"></i>pq4 keys</span> Numbers are the table's rows; points on "
          "the lower edge err by less than 1e-5.</p>\n";
  text += "<div class=\"scroll\"><table><thead><tr><th>#</th><th>policy</th><th>K bits</th><th>V bits</th><th>codebooks</th>"
          "<th>cosine</th><th>worst</th><th>KL</th><th>logit r</th><th>worst</th><th>Spearman</th><th>top-5</th><th>error</th>"
          "</tr></thead><tbody>\n";
  for (std::size_t i = 0; i < results.size(); ++i) {
    const PolicyResult& r = results[i];
    text += fmt::format("<tr><td>{}</td><td>{}</td><td>{:.2f}</td><td>{:.2f}</td><td>{}</td><td>{:.4f}</td><td>{:.4f}</td>"
                        "<td>{:.5f}</td><td>{:.4f}</td><td>{:.4f}</td><td>{:.4f}</td><td>{:.3f}</td><td>{:.5f}</td></tr>\n",
                        i + 1, r.policy, r.key_bits, r.value_bits, bytes_text(r.codebook_bytes), r.mean.cosine, r.cosine_worst,
                        r.mean.divergence, r.mean.logit_correlation, r.logit_correlation_worst, r.mean.rank_correlation,
                        r.mean.top5, r.mean.output_error);
  }
  return text + fmt::format("</tbody></table></div>\n<p>{}</p>\n</body></html>\n", page_notes);
}

}  // namespace kv_report
