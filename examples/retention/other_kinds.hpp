// What does not choose who stays, and so has a knob of its own: pruned channels (ThinK), shared layers (KVSharer), and
// recall of a few tokens, by clusters (ClusterKV) or by codes. The same texts, queries and figures as for the policies.
#pragma once

#include <pqkv/pqkv.hpp>

#include <fmt/format.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "retention/formats.hpp"

namespace retention_report {

/// One setting of one method.
struct OtherKind {
  std::string name, source, knob;
  Figures figures;
};

/// The figures of one head of one text.
using HeadStudy = std::function<Result<Figures>(const Text& text, std::size_t layer, std::size_t head, const Truth& truth)>;

/// A head that has read the prompt.
[[nodiscard]] inline Result<Head> read_rows(const Study& study, const pqkv::AnyKeys& keys, const pqkv::AnyValues& values,
                                            const Text& text, std::size_t layer, std::size_t head_index, std::size_t prompt) {
  Head head(keys, values, pqkv::CacheOptions{.sinks = study.options.sinks, .recent = study.options.window});
  const auto rows = [&](const kv_report::Tensor& tensor) { return tensor.rows(layer, head_index).slice(0, prompt); };
  if (auto status = head.append(rows(text.keys), rows(text.values)); !status) return status.error();
  return head;
}

/// Exact rows, of which sealed keys keep the channels that matter to the prompt's last queries.
[[nodiscard]] inline Result<Figures> prune_channels(const Study& study, std::size_t kept, const Text& text, std::size_t layer,
                                                    std::size_t head_index, const Truth& truth) {
  const std::size_t dim = study.shape().dim, prompt = text.keys.shape.tokens - study.options.new_tokens;
  const auto queries = text.queries_of(layer, head_index);
  std::vector<float> last;
  for (std::size_t t = prompt - study.options.window; t < prompt; ++t) {
    for (std::size_t q = 0; q < queries.group; ++q) last.insert(last.end(), queries.row(t, q), queries.row(t, q) + dim);
  }
  const pqkv::FloatRows keys(text.keys.head(layer, head_index), prompt, dim);
  const auto channels = pqkv::strongest_channels({last.data(), last.size() / dim, dim}, keys, kept);
  auto pruned = pqkv::PrunedKeys<pqkv::ExactKeys>::make(pqkv::ExactKeys(kept), channels, dim);
  if (!pruned) return pruned.error();
  auto head = read_rows(study, std::move(*pruned), pqkv::ExactValues(dim), text, layer, head_index, prompt);
  if (!head) return head.error();
  Workspace workspace;
  return replay(*head, text, layer, head_index, prompt, truth, workspace);
}

/// Attention to the exact windows and the tokens that choose(head, queries, workspace) names, with the exact rows of `store`.
template <class Choose>
[[nodiscard]] Result<Figures> recall_tokens(const Study& study, Head head, Head store, const Text& text, std::size_t layer,
                                            std::size_t head_index, const Truth& truth, const Choose& choose) {
  const std::size_t dim = study.shape().dim, prompt = text.keys.shape.tokens - study.options.new_tokens;
  const auto queries = text.queries_of(layer, head_index);
  const auto keys = text.keys.rows(layer, head_index), values = text.values.rows(layer, head_index);
  Workspace workspace;
  std::vector<float> outs(queries.group * dim);
  Figures figures;
  for (std::size_t t = prompt; t < keys.count; ++t) {
    for (Head* each : {&head, &store}) {
      if (auto status = each->append(keys.slice(t, 1), values.slice(t, 1)); !status) return status.error();
    }
    const pqkv::FloatRows rows(queries.row(t, 0), queries.group, dim, queries.head_stride);
    const std::vector<std::size_t> chosen = choose(head, rows, workspace);
    pqkv::FinerCode<pqkv::AnyKeys, pqkv::AnyValues> rows_of_store{store};
    if (auto status = pqkv::attend_chosen(head, rows, chosen, rows_of_store, outs.data(), dim, workspace); !status) {
      return status.error();
    }
    // The weights: exact ones, of the tokens that were seen.
    std::vector<std::int64_t> seen;
    const std::size_t behind = head.sinks().tokens() + head.sealed_tokens();
    for (std::size_t i = 0; i < head.sinks().tokens(); ++i) seen.push_back(static_cast<std::int64_t>(i));
    for (const std::size_t i : chosen) seen.push_back(static_cast<std::int64_t>(i));
    for (std::size_t i = behind; i < head.tokens(); ++i) seen.push_back(static_cast<std::int64_t>(i));
    for (std::size_t q = 0; q < queries.group; ++q) {
      const Truth::Query& exact = truth.query((t - prompt) * queries.group + q);
      std::vector<double> weights;
      double sum = 0;
      for (const std::int64_t i : seen) sum += weights.emplace_back(exact.weights[static_cast<std::size_t>(i)]);
      for (double& weight : weights) weight /= sum;
      const auto first = outs.begin() + static_cast<std::ptrdiff_t>(q * dim);
      figures.merge(judge(exact, {first, first + static_cast<std::ptrdiff_t>(dim)}, weights, seen));
    }
  }
  return figures;
}

/// Which layers share: the search of KVSharer on the calibration texts. It asks how much the model's last hidden state stays
/// what it was; rows alone cannot say, so that here it is the outputs of attention, over all layers.
[[nodiscard]] inline pqkv::SharedLayers search_sharing(const Study& study, std::size_t wanted) {
  const kv_report::Shape& shape = study.shape();
  std::size_t tokens = shape.tokens;
  for (const Text& text : study.calibration) tokens = std::min(tokens, text.keys.shape.tokens);
  std::vector<std::vector<float>> rows(shape.layers);
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    for (const auto side : {&Text::keys, &Text::values}) {
      for (std::size_t head = 0; head < shape.heads; ++head) {
        for (std::size_t i = 0; i < tokens * shape.dim; ++i) {
          float sum = 0;
          for (const Text& text : study.calibration) sum += (text.*side).head(layer, head)[i];
          rows[layer].push_back(sum / static_cast<float>(study.calibration.size()));
        }
      }
    }
  }
  const auto similarity = [&](const pqkv::SharedLayers& sharing) {
    std::vector<double> cosines(shape.layers * shape.heads);
    study.workers.run(cosines.size(), [&](std::size_t place, std::size_t) {
      const std::size_t layer = place / shape.heads, head = place % shape.heads;
      double sum = 0, count = 0;
      for (const Text& text : study.calibration) {
        const std::size_t prompt = text.keys.shape.tokens - study.options.new_tokens;
        const Truth own(text, layer, head, prompt), shared(text, layer, head, prompt, sharing.source(layer));
        for (std::size_t i = 0; i < own.size(); ++i, ++count) sum += pqkv::cosine(own.query(i).out, shared.query(i).out);
      }
      cosines[place] = sum / count;
    });
    double sum = 0;
    for (const double cosine : cosines) sum += cosine;
    return sum / static_cast<double>(cosines.size());
  };
  return pqkv::find_shared_layers(shape.layers, pqkv::rank_layer_pairs(rows), wanted, 0.5, similarity);
}

/// All rows of the table.
[[nodiscard]] inline Result<std::vector<OtherKind>> study_other_kinds(const Study& study) {
  const kv_report::Shape& shape = study.shape();
  const auto codes = fit_formats(study, *pqkv::parse_cache_spec("k=pq4,v=exact"));
  if (!codes) return codes.error();
  const pqkv::AnyKeys exact_keys = pqkv::ExactKeys(shape.dim);
  const pqkv::AnyValues exact_values = pqkv::ExactValues(shape.dim);
  const auto prompt_of = [&](const Text& text) { return text.keys.shape.tokens - study.options.new_tokens; };

  std::vector<std::pair<OtherKind, HeadStudy>> kinds;
  for (const std::size_t percent : {80, 60, 50, 40}) {
    const std::size_t kept = std::max<std::size_t>(1, shape.dim * percent / 100);
    kinds.push_back({{"pruned channels of keys", "ThinK", message(kept, " of ", shape.dim, " channels"), {}},
                     [&, kept](const Text& text, std::size_t layer, std::size_t head, const Truth& truth) {
                       return prune_channels(study, kept, text, layer, head, truth);
                     }});
  }
  for (std::size_t wanted = 1; wanted <= shape.layers / 3; ++wanted) {
    const pqkv::SharedLayers sharing = search_sharing(study, wanted);
    std::string which;
    for (std::size_t l = 0; l < shape.layers; ++l) {
      if (!sharing.is_stored(l)) which += message(which.empty() ? "layer " : ", ", l, " reads ", sharing.source(l));
    }
    kinds.push_back({{"shared layers", "KVSharer", which.empty() ? "none found" : which, {}},
                     [&, sharing](const Text& text, std::size_t layer, std::size_t head, const Truth& truth) -> Result<Figures> {
                       const Truth shared(text, layer, head, prompt_of(text), sharing.source(layer));
                       Figures figures;
                       for (std::size_t i = 0; i < shared.size(); ++i) {
                         std::vector<std::int64_t> positions(shared.query(i).weights.size());
                         for (std::size_t p = 0; p < positions.size(); ++p) positions[p] = static_cast<std::int64_t>(p);
                         figures.merge(judge(truth.query(i), shared.query(i).out, shared.query(i).weights, positions));
                       }
                       return figures;
                     }});
  }
  const auto recall = [&](bool clusters, std::size_t count) -> HeadStudy {
    return [&, clusters, count](const Text& text, std::size_t layer, std::size_t h, const Truth& truth) -> Result<Figures> {
      const std::size_t prompt = prompt_of(text), place = layer * shape.heads + h;
      auto store = read_rows(study, exact_keys, exact_values, text, layer, h, prompt);
      if (!store) return store.error();
      auto head = clusters ? store->fork() : read_rows(study, *codes->keys[place], *codes->values[place], text, layer, h, prompt);
      if (!head) return head.error();
      pqkv::ClusterIndex index(shape.dim);
      return recall_tokens(study, std::move(*head), std::move(*store), text, layer, h, truth,
                           [&](const Head& mine, pqkv::FloatRows queries, Workspace& workspace) {
                             if (!clusters) return pqkv::best_tokens(mine, queries, count, workspace);
                             index.add(mine);  // the prompt's, then each block of 32 as it is sealed
                             return index.recall(queries, count);
                           });
    };
  };
  for (const bool clusters : {true, false}) {
    for (const std::size_t count : {32, 64, 128, 256}) {
      const std::string name = clusters ? "recalled clusters" : "recalled tokens, best by pq4 codes";
      kinds.push_back({{name, clusters ? "ClusterKV" : "PQCache", message(count, " tokens"), {}}, recall(clusters, count)});
    }
  }

  const std::size_t places = shape.layers * shape.heads;
  for (const Text& text : study.texts) {
    // Each worker writes its own, so that the sums do not depend on their order.
    std::vector<std::vector<Figures>> figures(places, std::vector<Figures>(kinds.size()));
    FirstFailure fail;
    study.workers.run(places, [&](std::size_t place, std::size_t) {
      const std::size_t layer = place / shape.heads, head = place % shape.heads;
      const Truth truth(text, layer, head, prompt_of(text));
      for (std::size_t k = 0; k < kinds.size(); ++k) {
        const auto judged = kinds[k].second(text, layer, head, truth);
        if (!judged) return fail({judged.error().code, message(kinds[k].first.name, ": ", judged.error().message)});
        figures[place][k] = *judged;
      }
    });
    if (fail.error()) return *fail.error();
    for (const std::vector<Figures>& one : figures) {
      for (std::size_t k = 0; k < kinds.size(); ++k) kinds[k].first.figures.merge(one[k]);
    }
  }
  std::vector<OtherKind> rows;
  for (auto& [row, judge_head] : kinds) rows.push_back(std::move(row));
  return rows;
}

[[nodiscard]] inline std::string table_of(const std::vector<OtherKind>& rows) {
  std::string text = "### Of another kind\n\n| | from | knob | output error | KL | recall of the top 32 |\n";
  text += "|---|---|---|---|---|---|\n";
  for (const OtherKind& row : rows) {
    text += fmt::format("| {} | {} | {} | {:.3f} | {:.3f} | {:.3f} |\n", row.name, row.source, row.knob, row.figures.error,
                        row.figures.divergence, row.figures.recall);
  }
  return text;
}

}  // namespace retention_report
