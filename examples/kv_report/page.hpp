// One self-contained HTML page: what was gained, the plots, a table to sort, and what its columns mean. Follows the reader's
// light or dark.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/plot.hpp"
#include "kv_report/gains.hpp"
#include "kv_report/report.hpp"

namespace kv_report {

inline constexpr std::string_view page_style = R"(
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 1240px;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } p { max-width: 75ch; color: var(--dim); margin: .4rem 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 1rem; margin: 1.2rem 0; }
figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: .3rem; } svg { width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .4rem; text-align: right; border-bottom: 1px solid var(--line); }
th { color: var(--dim); font-weight: 600; cursor: pointer; white-space: nowrap; } th[aria-sort]::after { content: " ▾"; }
th[aria-sort=ascending]::after { content: " ▴"; }
td:nth-child(2), th:nth-child(2) { text-align: left; } td:nth-child(2) { font-family: ui-monospace, monospace; font-size: .75rem; }
td.group { text-align: left; font: 600 .85rem system-ui, sans-serif; padding-top: .9rem; }
tbody tr:hover { background: var(--band); }
)";

/// Sorts by the column whose head is clicked, ascending first; the names of groups hide while their rows are apart.
inline constexpr std::string_view page_script = R"(
document.querySelectorAll('th').forEach((head, column) => head.addEventListener('click', () => {
  const body = document.querySelector('tbody'), down = head.getAttribute('aria-sort') === 'ascending';
  document.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
  body.querySelectorAll('tr.group').forEach(row => row.hidden = true);
  const value = row => row.cells[column].dataset.value, numbers = column !== 1;
  [...body.querySelectorAll('tr:not(.group)')]
    .sort((a, b) => (down ? -1 : 1) * (numbers ? value(a) - value(b) : value(a).localeCompare(value(b))))
    .forEach(row => body.append(row));
}));
)";

inline constexpr std::string_view page_notes =
    "Query t attends to tokens 0 to t as in decoding: sinks and the newest tokens exact, all others through the policy's own "
    "kernels; the reference is exact attention in double. Bits (of K and V together, of K, of V) count codes, scales and the "
    "exact tokens; codebooks are in a column of their own. Worst: the lowest mean of any query head. KL: of the attention weights, in nats. Logit r and "
    "Spearman: correlation of the scores a query sees. Error: distance of outputs relative to the exact output.";

/// Error over bits, one point per policy; `error` picks the figure.
[[nodiscard]] inline common::Plot plot_of(const std::vector<PolicyResult>& results, std::string title, std::string axis,
                                          double pqkv::Quality::*error) {
  std::vector<common::PlotPoint> points;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const PolicyResult& r = results[i];
    points.push_back({bits_of(r), r.mean.*error, i + 1, fmt::format("{}: {:.2f} bits, {:.4g}", r.policy, bits_of(r), r.mean.*error),
                      common::family_of(r.policy), short_name(r.policy)});
  }
  constexpr double rounding = 1e-5;
  return {std::move(title), common::Axis("bits per element, K and V (log)", common::Scale::twofold),
          common::Axis(std::move(axis), common::Scale::tenfold, rounding), std::move(points)};
}

[[nodiscard]] inline common::Plot output_plot(const std::vector<PolicyResult>& results) {
  return plot_of(results, "Error of the attention output", "relative error (log)", &pqkv::Quality::output_error);
}

[[nodiscard]] inline std::string svg_text(const std::vector<PolicyResult>& results) {
  return output_plot(results).file();
}

/// A cell that sorts by a number.
[[nodiscard]] inline std::string cell(const std::string& text, double value) {
  return fmt::format("<td data-value=\"{}\">{}</td>", value, text);
}

/// The rows of the table, under the names of their groups.
[[nodiscard]] inline std::string html_rows(const std::vector<PolicyResult>& results) {
  constexpr int columns = 14;
  std::string text;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const PolicyResult& r = results[i];
    if (!r.group.empty() && (i == 0 || r.group != results[i - 1].group)) {
      text += fmt::format("<tr class=\"group\"><td class=\"group\" colspan=\"{}\">{}</td></tr>\n", columns, r.group);
    }
    std::string policy;  // may be broken behind commas and colons
    for (const char letter : r.policy) {
      policy += letter;
      if (letter == ',' || letter == ':') policy += "<wbr>";
    }
    text += fmt::format("<tr>{}<td data-value=\"{}\">{}</td>", cell(fmt::format("{}", i + 1), static_cast<double>(i)), r.policy,
                        policy);
    for (const double bits : {bits_of(r), r.key_bits, r.value_bits}) text += cell(fmt::format("{:.2f}", bits), bits);
    text += cell(bytes_text(r.codebook_bytes), static_cast<double>(r.codebook_bytes));
    for (const double share : {r.mean.cosine, r.cosine_worst}) text += cell(fmt::format("{:.4f}", share), share);
    text += cell(fmt::format("{:.5f}", r.mean.divergence), r.mean.divergence);
    for (const double share : {r.mean.logit_correlation, r.logit_correlation_worst, r.mean.rank_correlation}) {
      text += cell(fmt::format("{:.4f}", share), share);
    }
    text += cell(fmt::format("{:.3f}", r.mean.top5), r.mean.top5);
    text += cell(fmt::format("{:.5f}", r.mean.output_error), r.mean.output_error) + "</tr>\n";
  }
  return text;
}

[[nodiscard]] inline std::string html_text(const std::vector<PolicyResult>& results, const std::string& subtitle) {
  std::string text = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">"
      "<title>kv_report</title>\n<style>{}{}</style></head>\n<body>\n<h1>Attention on a compressed KV cache</h1>\n<p>{}</p>\n",
      common::plot_style, page_style, subtitle);
  const std::string gains = gains_text(results);
  for (const std::string_view sentence : pqkv::detail::split(gains, '\n')) {
    if (!sentence.empty()) text += fmt::format("<p>{}</p>\n", sentence);
  }
  text += "<div class=\"plots\">\n";
  text += output_plot(results).figure();
  text += plot_of(results, "Divergence of the attention weights", "KL in nats (log)", &pqkv::Quality::divergence).figure();
  text += "</div>\n<p>The line joins the policies that no other one beats in both bits and error; they have their names, the "
          "others the numbers of their rows. Points on the lower edge err by less than 1e-5. A click on a column's head sorts by "
          "it.</p>\n<table><thead><tr>";
  for (const std::string_view head : {"#", "policy", "bits", "K", "V", "codebooks", "cosine", "worst", "KL", "logit r", "worst",
                                      "Spearman", "top-5", "error"}) {
    text += fmt::format("<th>{}</th>", head);
  }
  return text + fmt::format("</tr></thead><tbody>\n{}</tbody></table>\n<p>{}</p>\n<script>{}</script>\n</body></html>\n",
                            html_rows(results), page_notes, page_script);
}

}  // namespace kv_report
