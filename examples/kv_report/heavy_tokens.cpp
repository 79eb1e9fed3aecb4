// A study: do values pay where heavy tokens are kept finer? (Salient tokens at more bits: He et al., ZipCache, 2024.)
//
//   heavy_tokens --queries Q.npy --keys K.npy --values V.npy …        (files as kv_report's)
//
// Values in turbo2; of each block of 32 tokens the n heaviest have what turbo2 lacks in turbo2 once more. Printed: the error of
// attention outputs with exact keys, beside that of as many bits spread evenly over tokens (between turbo2 and turbo3).
#include <pqkv/spec.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <vector>

#include "common/workers.hpp"
#include "kv_report/inputs.hpp"

namespace {

using pqkv::block_tokens;

/// What tells heavy tokens from others when their block is sealed, 32 tokens after its last.
enum class Saliency { value_norm, key_norm, seen, hindsight };
constexpr std::array<std::pair<Saliency, const char*>, 4> saliencies = {
    {{Saliency::value_norm, "length of the value"},
     {Saliency::key_norm, "length of the key"},
     {Saliency::seen, "weight from the 32 queries behind the block, times the error"},
     {Saliency::hindsight, "weight from all queries to come, times the error"}}};

struct Head {
  std::size_t tokens, dim, group;
  const float* keys;
  const float* values;
  std::vector<float> weights;  // [query head][query][token], causal

  [[nodiscard]] const float* line(std::size_t q, std::size_t t) const { return weights.data() + (q * tokens + t) * tokens; }
};

Head head_of(const kv_report::Text& text, std::size_t layer, std::size_t index) {
  const auto& shape = text.keys.shape;
  Head head{shape.tokens, shape.dim, text.group(), text.keys.head(layer, index), text.values.head(layer, index), {}};
  head.weights.resize(head.group * head.tokens * head.tokens);
  const auto queries = text.queries_of(layer, index);
  const float scale = 1 / std::sqrt(static_cast<float>(head.dim));
  for (std::size_t q = 0; q < head.group; ++q) {
    for (std::size_t t = 0; t < head.tokens; ++t) {
      float* line = head.weights.data() + (q * head.tokens + t) * head.tokens;
      pqkv::isa::best().dot_f32(head.keys, t + 1, head.dim, queries.row(t, q), 1, line, head.tokens);
      for (std::size_t j = 0; j <= t; ++j) line[j] *= scale;
      const float most = *std::max_element(line, line + t + 1);
      float sum = 0;
      for (std::size_t j = 0; j <= t; ++j) sum += line[j] = std::exp(line[j] - most);
      for (std::size_t j = 0; j <= t; ++j) line[j] /= sum;
    }
  }
  return head;
}

double square(const float* a, const float* b, std::size_t dim) {
  double sum = 0;
  for (std::size_t d = 0; d < dim; ++d) {
    const double x = static_cast<double>(a[d]) - (b == nullptr ? 0.0 : static_cast<double>(b[d]));
    sum += x * x;
  }
  return sum;
}

/// All values as the cache would decode them.
std::vector<float> decoded(const Head& head, const pqkv::AnyValues& coarse, const pqkv::AnyValues& fine, std::size_t heavy,
                           Saliency saliency) {
  const std::size_t dim = head.dim;
  std::vector<float> out(head.tokens * dim), rest(dim), back(dim);
  std::vector<std::byte> block(coarse.block_bytes()), fine_block(fine.block_bytes());
  for (std::size_t first = 0; first < head.tokens; first += block_tokens) {
    const std::size_t count = std::min(block_tokens, head.tokens - first), end = first + count;
    coarse.encode({head.values + first * dim, count, dim}, block.data());
    std::vector<double> salience(count);
    for (std::size_t t = 0; t < count; ++t) {
      const std::size_t token = first + t;
      coarse.decode(block.data(), t, out.data() + token * dim);
      const float* value = head.values + token * dim;
      if (saliency == Saliency::value_norm) salience[t] = square(value, nullptr, dim);
      if (saliency == Saliency::key_norm) salience[t] = square(head.keys + token * dim, nullptr, dim);
      if (saliency != Saliency::seen && saliency != Saliency::hindsight) continue;
      const bool all = saliency == Saliency::hindsight;
      double weight = 0;
      for (std::size_t q = 0; q < head.group; ++q) {
        const std::size_t stop = all ? head.tokens : std::min(head.tokens, end + block_tokens);
        for (std::size_t t2 = all ? token : end; t2 < stop; ++t2) weight += static_cast<double>(head.line(q, t2)[token]);
      }
      salience[t] = weight * weight * square(value, out.data() + token * dim, dim);
    }
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return salience[a] > salience[b]; });
    for (std::size_t i = 0; i < std::min(heavy, count); ++i) {
      float* row = out.data() + (first + order[i]) * dim;
      for (std::size_t d = 0; d < dim; ++d) rest[d] = head.values[(first + order[i]) * dim + d] - row[d];
      fine.encode({rest.data(), 1, dim}, fine_block.data());
      fine.decode(fine_block.data(), 0, back.data());
      for (std::size_t d = 0; d < dim; ++d) row[d] += back[d];
    }
  }
  return out;
}

struct Errors {
  double bare = 0, kept = 0;  // nothing exact; 4 sinks and 32 recent tokens exact
  std::size_t count = 0;
};

/// Adds ‖error‖/‖output‖ of every eighth query.
void add_errors(const Head& head, const std::vector<float>& values, Errors& errors) {
  constexpr std::size_t step = 8, sinks = 4, recent = 32;
  for (std::size_t q = 0; q < head.group; ++q) {
    for (std::size_t t = step - 1; t < head.tokens; t += step) {
      std::vector<float> out(head.dim), bare(head.dim), kept(head.dim);
      for (std::size_t j = 0; j <= t; ++j) {
        const float weight = head.line(q, t)[j], counts = j < sinks || j + recent > t ? 0.0f : weight;
        for (std::size_t d = 0; d < head.dim; ++d) {
          const float value = head.values[j * head.dim + d], off = value - values[j * head.dim + d];
          out[d] += weight * value;
          bare[d] += weight * off;
          kept[d] += counts * off;
        }
      }
      const double length = std::sqrt(square(out.data(), nullptr, head.dim));
      errors.bare += std::sqrt(square(bare.data(), nullptr, head.dim)) / length;
      errors.kept += std::sqrt(square(kept.data(), nullptr, head.dim)) / length;
      ++errors.count;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = kv_report::parse_options({argv + 1, argv + argc});
  if (!options) return std::fprintf(stderr, "heavy_tokens: %s\n", options.error().message.c_str()), 2;
  const auto texts = kv_report::load_texts(options->evaluation);
  if (!texts) return std::fprintf(stderr, "heavy_tokens: %s\n", texts.error().message.c_str()), 2;
  const auto& shape = texts->front().keys.shape;
  const auto values_of = [&](const char* format) { return pqkv::make_values(*pqkv::parse_format_spec(format), shape.dim); };
  const auto coarse = values_of("turbo2"), finer = values_of("turbo3");
  if (!coarse || !finer) return std::fprintf(stderr, "heavy_tokens: %s\n", coarse.error().message.c_str()), 2;

  const common::Workers workers(options->threads);
  constexpr std::array<std::size_t, 4> counts = {2, 4, 8, 16};
  std::array<Errors, 2> plain;
  std::array<std::array<Errors, saliencies.size()>, counts.size()> heavy;
  for (const kv_report::Text& text : *texts) {
    for (std::size_t place = 0; place < shape.layers * shape.heads; ++place) {
      const Head head = head_of(text, place / shape.heads, place % shape.heads);
      workers.run(2 + counts.size() * saliencies.size(), [&](std::size_t task, std::size_t /*worker*/) {
        if (task < 2) return add_errors(head, decoded(head, task == 0 ? *coarse : *finer, *coarse, 0, {}), plain[task]);
        const std::size_t n = (task - 2) / saliencies.size(), s = (task - 2) % saliencies.size();
        add_errors(head, decoded(head, *coarse, *coarse, counts[n], saliencies[s].first), heavy[n][s]);
      });
    }
  }
  const auto bits_of = [&](const pqkv::AnyValues& values) {
    return 8.0 * static_cast<double>(values.block_bytes()) / static_cast<double>(block_tokens * shape.dim);
  };
  const auto mean = [](double sum, const Errors& errors) { return sum / static_cast<double>(errors.count); };
  const auto print = [&](double bits, double share, const char* what, const Errors& errors) {
    const auto even = [&](double low, double high) { return std::pow(low, 1 - share) * std::pow(high, share); };
    std::printf("%6.2f  %9.4f %9.4f  %9.4f %9.4f  %s\n", bits, mean(errors.bare, errors),
                even(mean(plain[0].bare, plain[0]), mean(plain[1].bare, plain[1])), mean(errors.kept, errors),
                even(mean(plain[0].kept, plain[0]), mean(plain[1].kept, plain[1])), what);
  };
  std::printf("          nothing exact          4 sinks, 32 recent exact\n  bits      error    evenly      error    evenly  heavy by\n");
  const double low = bits_of(*coarse), high = bits_of(*finer);
  print(low, 0, "turbo2", plain[0]);
  for (std::size_t n = 0; n < counts.size(); ++n) {
    // Per heavy token: 2 bits per element, an f16 length and a byte for its place.
    const double row = 2.0 * static_cast<double>(shape.dim) + 16 + 8;
    const double bits = low + static_cast<double>(counts[n]) * row / static_cast<double>(block_tokens * shape.dim);
    for (std::size_t s = 0; s < saliencies.size(); ++s) {
      print(bits, (bits - low) / (high - low), pqkv::message(counts[n], " by ", saliencies[s].second).c_str(), heavy[n][s]);
    }
  }
  print(high, 1, "turbo3", plain[1]);
  return 0;
}
