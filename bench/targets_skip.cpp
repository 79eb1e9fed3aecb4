// Skipping on real attention weights. Queries, keys and values of a trained transformer are repeated to a long context, so
// that scores are distributed as in the original: every repetition has the same share of tokens that matter. Rows of dim
// 64 become rows of dim 128 by writing every element twice; queries are halved, which leaves every score as it was.
// From the folder that PQKV_BENCH_KV names, or else from the sample data of the examples.
#include <cstdlib>

#include "peers/peers.hpp"
#include "pqkv/io/npy.hpp"
#include "support/rotation.hpp"
#include "targets.hpp"
#if defined(PQKV_BENCH_TRAIN)
#include "pqkv/train.hpp"
#endif

namespace pqkv::bench {

#if !defined(PQKV_BENCH_TRAIN)

void skip_targets() { print_left_out("skipping on real attention weights", "Eigen not found"); }

#else
namespace {

constexpr std::size_t dim = 128;
constexpr float scale = 0.125f;  // of the transformer: 1/√64

/// [layers, heads, tokens, 64], every element twice.
struct Rows128 {
  std::size_t layers = 0;
  std::size_t heads = 0;
  std::size_t tokens = 0;
  std::vector<float> data;

  [[nodiscard]] const float* head(std::size_t layer, std::size_t head_index) const {
    return data.data() + (layer * heads + head_index) * tokens * dim;
  }
};

/// `name` is "evaluation" or "calibration"; the sample has one text of each, the full data several.
[[nodiscard]] Rows128 load(const std::string& name, const std::string& part, float factor) {
  const char* given = std::getenv("PQKV_BENCH_KV");
  const std::string folder = given != nullptr ? given : PQKV_BENCH_DATA;
  auto array = read_npy(folder + "/" + name + "_" + part + ".npy");
  if (!array) array = read_npy(folder + "/" + name + "_0_" + part + ".npy");
  const NpyArray held = must(std::move(array));
  if (held.shape.size() != 4 || held.shape[3] != dim / 2) {
    fail({Errc::invalid_shape, message(folder, ": ", part, " are not [layers, heads, tokens, 64]")});
  }
  Rows128 rows{held.shape[0], held.shape[1], held.shape[2], std::vector<float>(held.data.size() * 2)};
  for (std::size_t i = 0; i < rows.data.size(); ++i) rows.data[i] = held.data[i / 2] * factor;
  return rows;
}

/// Heads of all layers, tiled, as many copies as fill the cold working set.
class RealHeads {
 public:
  RealHeads(const std::string& keys_text, const std::string& values_text) {
    const FormatSpec spec = must(parse_format_spec(keys_text));
    const AnyValues value_format = values(values_text, dim);
    const Rows128 training = load("calibration", "keys", 1), key_rows = load("evaluation", "keys", 1),
                  value_rows = load("evaluation", "values", 1);
    const auto request = must(key_codebook_request(spec, dim));
    double held = 0;
    const auto filling = static_cast<double>(working_set(Placement::cold));
    while (held < filling) {
      for (std::size_t layer = 0; layer < key_rows.layers; ++layer) {
        for (std::size_t h = 0; h < key_rows.heads; ++h) {
          const std::size_t which = layer * key_rows.heads + h;
          if (formats_.size() <= which) {
            std::shared_ptr<const Codebook> codebook;
            if (request) {
              codebook = must(train_codebook(FloatRows(training.head(layer, h), training.tokens, dim), request->shape)).codebook;
            }
            formats_.push_back(must(make_keys(spec, dim, codebook)));
          }
          auto& head = heads_.emplace_back(formats_[which], value_format, CacheOptions{.sinks = 4, .recent = 32});
          must(head.reserve(long_context));
          while (head.tokens() < long_context) {
            const std::size_t more = std::min(key_rows.tokens, long_context - head.tokens());
            must(head.append(Rows(key_rows.head(layer, h), more, dim), Rows(value_rows.head(layer, h), more, dim)));
          }
          held += static_cast<double>(long_context) * head.bytes_per_token();
        }
      }
    }
  }

  [[nodiscard]] std::size_t size() const { return heads_.size(); }
  [[nodiscard]] const HeadCache<AnyKeys, AnyValues>& head(std::size_t i) const { return heads_[i]; }

 private:
  std::vector<AnyKeys> formats_;
  std::vector<HeadCache<AnyKeys, AnyValues>> heads_;
};

}  // namespace

void skip_targets() {
  const Rows128 queries = load("evaluation", "queries", 0.5f), value_rows = load("evaluation", "values", 1);
  const std::size_t kinds = value_rows.layers * value_rows.heads, group = queries.heads / value_rows.heads;
  const auto query = [&](std::size_t kind, std::size_t back) {  // the first query head of a kv head, near the text's end
    return queries.head(kind / value_rows.heads, kind % value_rows.heads * group) + (queries.tokens - 1 - back % 64) * dim;
  };
  const RealHeads coded("pq4:m=16", "int4:g=32"), narrow("pq4:m=16", "int4:g=row"), half("exact:f16", "exact:f16");
  double largest_value = 0;
  for (std::size_t i = 0; i < value_rows.data.size(); i += dim) {
    double square = 0;
    for (std::size_t d = 0; d < dim; ++d) square += std::pow(static_cast<double>(value_rows.data[i + d]), 2);
    largest_value = std::max(largest_value, std::sqrt(square));
  }
  const std::size_t pairs = working_set(Placement::cold) / (2 * long_context * dim * sizeof(float)) + 1;  // keys and values
  std::vector<float> rows(pairs * 2 * long_context * dim);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = value_rows.data[i % value_rows.data.size()];
  std::vector<float> scores(long_context), out(dim), all(dim);
  Workspace<AnyKeys, AnyValues> workspace;
  workspace.reserve(coded.head(0), 1);
  std::size_t row_turn = 0;
  const AttendRows blas = openblas_attend();

  for (std::size_t layer = 0; layer <= value_rows.layers; ++layer) {  // each, and then all
    const bool every = layer == value_rows.layers;
    const std::size_t per_layer = value_rows.heads;
    // The heads of that layer, in turns.
    const auto pick = [&](const RealHeads& heads, std::size_t turn) {
      if (every) return turn % heads.size();
      const std::size_t copies = heads.size() / kinds;
      return turn / per_layer % copies * kinds + layer * per_layer + turn % per_layer;
    };
    const std::size_t batch = every ? kinds : per_layer;  // heads per measurement
    Contest contest;
    const auto enter = [&](const RealHeads& heads, float skip_below, std::size_t& turn) {
      return contest.add(static_cast<double>(long_context * batch), [&, skip_below] {
        for (std::size_t i = 0; i < batch; ++i, ++turn) {
          const std::size_t which = pick(heads, turn);
          attend(heads.head(which), FloatRows(query(which % kinds, turn), 1, dim), out.data(), dim, workspace,
                 {.scale = scale, .skip_below = skip_below});
        }
      });
    };
    // A quarter of the heads apart, so that nobody reads what another contender has just brought into the last-level cache.
    const std::size_t apart = (coded.size() / kinds / 4 + 1) * batch;
    std::size_t turns[5] = {0, apart, 0, 2 * apart, 0};
    const std::size_t skipping = enter(coded, 1e-4f, turns[0]), plain = enter(coded, 0, turns[1]),
                      exact = enter(half, 0, turns[2]), strict = enter(coded, 1e-5f, turns[3]),
                      skipping_narrow = enter(narrow, 1e-4f, turns[4]);
    std::size_t peer = 0;
    if (blas != nullptr) {
      peer = contest.add(static_cast<double>(long_context * batch), [&] {
        for (std::size_t i = 0; i < batch; ++i) {
          row_turn = row_turn + 1 < pairs ? row_turn + 1 : 0;
          const float* keys = rows.data() + row_turn * 2 * long_context * dim;
          blas(rows.data(), 1, keys, keys + long_context * dim, long_context, dim, scores.data(), out.data());
        }
      });
    }
    contest.hold(every ? 7 : 15);

    double worst = 0, most_skipped = 0;
    for (std::size_t turn = 0; turn < 8 * batch; ++turn) {
      const std::size_t which = pick(coded, turn);
      const FloatRows one(query(which % kinds, turn), 1, dim);
      attend(coded.head(which), one, all.data(), dim, workspace, {.scale = scale});
      const double skipped = static_cast<double>(
          attend(coded.head(which), one, out.data(), dim, workspace, {.scale = scale, .skip_below = 1e-4f}).skipped_mass);
      double square = 0;
      for (std::size_t d = 0; d < dim; ++d) square += std::pow(static_cast<double>(all[d] - out[d]), 2);
      most_skipped = std::max(most_skipped, skipped);
      if (skipped > 0) worst = std::max(worst, std::sqrt(square) / (2 * skipped * largest_value));
    }
    const std::string name =
        "skip 1e-4, pq4 m=16 + int4, dim 128, " + (every ? std::string("all layers") : fmt::format("layer {}", layer));
    print_figure(name, contest.time(skipping), "ns/tok");
    print_figure(name + ", × without skipping", contest.faster(skipping, plain), "×");
    print_figure(name + ", largest bound of skipped mass", {most_skipped, most_skipped, most_skipped}, "");
    print_target(name + ", error / stated bound", {worst, worst, worst}, 1, true);
    print_target(name + ", × own exact f16", contest.faster(skipping, exact), 12);
    if (every) print_target(name + ", g=row, × own exact f16", contest.faster(skipping_narrow, exact), 12);
    if (every) print_figure(name + ", at 1e-5, × own exact f16", contest.faster(strict, exact), "×");
    if (blas != nullptr) print_target(name + ", × OpenBLAS f32", contest.faster(skipping, peer), 25);
    if (every && blas != nullptr) print_target(name + ", g=row, × OpenBLAS f32", contest.faster(skipping_narrow, peer), 25);
  }
}

#endif

}  // namespace pqkv::bench
