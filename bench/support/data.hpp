// Random rows and codebooks, and formats made from text. The speed of the library depends on neither training nor real
// data, so everything here is uniform noise. Errors end the program: they are mistakes in a benchmark.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "pqkv/base/random.hpp"
#include "pqkv/pqkv.hpp"

namespace pqkv::bench {

[[noreturn]] inline void fail(const Error& error) {
  fmt::print(stderr, "{}\n", error.message);
  std::exit(EXIT_FAILURE);
}

/// The value of a result that must have one.
template <class T>
[[nodiscard]] T must(Result<T> result) {
  if (!result) fail(result.error());
  return std::move(result).value();
}
inline void must(const Status& status) {
  if (!status) fail(status.error());
}

/// Uniform in [-1, 1).
[[nodiscard]] inline std::vector<float> random_floats(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> floats(count);
  for (float& x : floats) x = static_cast<float>(random.uniform() * 2 - 1);
  return floats;
}

[[nodiscard]] inline std::shared_ptr<const Codebook> random_codebook(const CodebookShape& shape,
                                                                     std::uint64_t seed = 7) {
  return must(Codebook::make(shape, random_floats(shape.floats(), seed)));
}

/// What a format asks for; in front of its centroids nothing but what a gain needs.
[[nodiscard]] inline std::shared_ptr<const Codebook> codebook_for(const CodebookRequest& request, std::uint64_t seed = 7) {
  std::shared_ptr<const CodeSpace> space;
  if (request.fit.gain) {
    CodeSpaceParts parts;
    parts.dim = request.shape.dim;
    parts.unit_length = true;
    space = must(CodeSpace::make(std::move(parts)));
  }
  return must(Codebook::make(request.shape, random_floats(request.shape.floats(), seed), std::move(space)));
}

/// A format with random centroids where it needs some: keys("pq4:m=dim/4", 128).
[[nodiscard]] inline AnyKeys keys(const FormatSpec& spec, std::size_t dim, std::uint64_t seed = 7) {
  const auto request = must(key_codebook_request(spec, dim));
  return must(make_keys(spec, dim, request ? codebook_for(*request, seed) : nullptr));
}
[[nodiscard]] inline AnyKeys keys(std::string_view text, std::size_t dim, std::uint64_t seed = 7) {
  return keys(must(parse_format_spec(text)), dim, seed);
}
[[nodiscard]] inline AnyValues values(const FormatSpec& spec, std::size_t dim) {
  const auto request = must(value_codebook_request(spec, dim));
  return must(make_values(spec, dim, request ? codebook_for(*request) : nullptr));
}
[[nodiscard]] inline AnyValues values(std::string_view text, std::size_t dim) {
  return values(must(parse_format_spec(text)), dim);
}

}  // namespace pqkv::bench
