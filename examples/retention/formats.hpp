// The formats of every head that a spec names, with codebooks fitted on the calibration texts.
#pragma once

#include <mutex>
#include <optional>

#include "kv_report/evaluation.hpp"
#include "retention/replay.hpp"

namespace retention_report {

using pqkv::Error;
using pqkv::message;
using pqkv::Result;

/// Keeps the first error that any worker has.
class FirstFailure {
 public:
  void operator()(const Error& error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = error;
  }
  [[nodiscard]] const std::optional<Error>& error() const noexcept { return error_; }

 private:
  std::mutex mutex_;
  std::optional<Error> error_;
};

struct Formats {
  std::vector<std::optional<pqkv::AnyKeys>> keys;      ///< [layers · heads]
  std::vector<std::optional<pqkv::AnyValues>> values;  ///< likewise
};

[[nodiscard]] inline Result<Formats> fit_formats(const Study& study, const pqkv::CacheSpec& spec) {
  const kv_report::Shape& shape = study.shape();
  const auto key_request = pqkv::key_codebook_request(spec.keys, shape.dim);
  if (!key_request) return key_request.error();
  const auto value_request = pqkv::value_codebook_request(spec.values, shape.dim);
  if (!value_request) return value_request.error();
  const std::size_t places = shape.layers * shape.heads;
  Formats formats{std::vector<std::optional<pqkv::AnyKeys>>(places), std::vector<std::optional<pqkv::AnyValues>>(places)};
  FirstFailure fail;
  study.workers.run(places, [&](std::size_t place, std::size_t) {
    const std::size_t layer = place / shape.heads, head = place % shape.heads;
    const kv_report::Training training{study.calibration, {}, 1};
    const auto key_codebook = kv_report::train_side(training, &Text::keys, layer, head, *key_request);
    if (!key_codebook) return fail(key_codebook.error());
    const auto value_codebook = kv_report::train_side(training, &Text::values, layer, head, *value_request);
    if (!value_codebook) return fail(value_codebook.error());
    auto key = pqkv::make_keys(spec.keys, shape.dim, *key_codebook);
    if (!key) return fail(key.error());
    auto value = pqkv::make_values(spec.values, shape.dim, *value_codebook);
    if (!value) return fail(value.error());
    formats.keys[place] = std::move(*key);
    formats.values[place] = std::move(*value);
  });
  if (fail.error()) return *fail.error();
  return formats;
}

}  // namespace retention_report
