// Codebooks of a model: trained from collected rows, in files.
#pragma once

#include <pqkv/adapt/zlib.hpp>
#include <pqkv/io/codebook_file.hpp>
#include <pqkv/io/file.hpp>
#include <pqkv/spec/any_cache.hpp>
#include <pqkv/train.hpp>

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/workers.hpp"
#include "tiny_llm/collect.hpp"
#include "tiny_llm/value_metric.hpp"

namespace tiny_llm {

/// The model's RoPE as pqkv has it.
[[nodiscard]] inline pqkv::Rope rope_of(const Model& model) {
  return pqkv::Rope({model.frequencies.begin(), model.frequencies.end()});
}

/// Codebooks by layer, kv head, side and what was asked for.
class Books {
 public:
  [[nodiscard]] std::size_t size() const noexcept { return books_.size(); }
  [[nodiscard]] std::shared_ptr<const pqkv::Codebook> find(std::size_t layer, std::size_t head, pqkv::Side side,
                                                           const pqkv::CodebookRequest& request) const {
    const auto at = books_.find(name_of(layer, head, side, request));
    return at == books_.end() ? nullptr : at->second;
  }
  [[nodiscard]] pqkv::CodebookSource source() const {
    return [this](std::size_t layer, std::size_t head, pqkv::Side side, const pqkv::CodebookRequest& request) {
      return find(layer, head, side, request);
    };
  }

  /// Trains what the specs (one, one per layer or one per head) need and is not there yet; where `start` has it, that is
  /// refined on the rows instead (pqkv::refine_codebook).
  [[nodiscard]] pqkv::Status train(const Model& model, const std::vector<pqkv::CacheSpec>& specs, const CollectedRows& rows,
                                   std::uint64_t seed, const common::Workers& workers, common::ProgressBar* progress,
                                   const Books* start = nullptr) {
    const auto tasks = tasks_of(model, specs);
    if (!tasks) return tasks.error();
    std::mutex mutex;
    pqkv::Status failure;
    workers.run(tasks->size(), [&](std::size_t i, std::size_t) {
      const Task& task = (*tasks)[i];
      {
        const std::lock_guard lock(mutex);
        if (find(task.layer, task.head, task.side, task.request) != nullptr) return;
      }
      const auto begun = start == nullptr ? nullptr : start->find(task.layer, task.head, task.side, task.request);
      const pqkv::FitSamples samples = samples_of(model, rows, task.layer, task.head, task.side);
      pqkv::TrainOptions options;
      options.seed = seed;
      auto book = [&]() -> pqkv::Result<std::shared_ptr<const pqkv::Codebook>> {
        if (begun != nullptr) return pqkv::refine_codebook(*begun, samples);
        auto trained = pqkv::train_fitted(samples, task.request.fit, task.request.shape, options);
        if (!trained) return trained.error();
        return std::move(trained->codebook);
      }();
      const std::lock_guard lock(mutex);
      if (book) {
        books_[name_of(task.layer, task.head, task.side, task.request)] = std::move(*book);
      } else if (failure) {
        failure = pqkv::Error{book.error().code,
                              pqkv::message("layer ", task.layer, " head ", task.head, ": ", book.error().message)};
      }
      if (progress != nullptr) progress->advance(pqkv::message("layer ", task.layer, " head ", task.head));
    });
    return failure;
  }

  /// A file per codebook, named after what it is for. Errors: bad_file.
  [[nodiscard]] pqkv::Status save(const std::string& folder) const {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(folder, ": cannot be created")};
    for (const auto& [name, book] : books_) {
      const pqkv::Status status = pqkv::save_file(folder + "/" + name + extension, [&book = *book](auto& sink) {
        return pqkv::save_codebook(sink, book, pqkv::crc32_checksum());
      });
      if (!status) return status;
    }
    return {};
  }

  /// Reads every file that save wrote. Errors: bad_file, invalid_data, invalid_shape, with the file.
  [[nodiscard]] static pqkv::Result<Books> load(const std::string& folder) {
    Books books;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      if (entry.path().extension() != extension) continue;
      auto source = pqkv::FileSource::open(entry.path().string());
      if (!source) return source.error();
      auto book = pqkv::load_codebook(*source, pqkv::crc32_checksum());
      if (!book) return pqkv::Error{book.error().code, pqkv::message(entry.path().string(), ": ", book.error().message)};
      books.books_[entry.path().stem().string()] = std::move(*book);
    }
    if (error) return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(folder, ": cannot be read")};
    if (books.size() == 0) return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(folder, ": holds no codebooks")};
    return books;
  }

 private:
  static constexpr const char* extension = ".pqkv";

  struct Task {
    std::size_t layer, head;
    pqkv::Side side;
    pqkv::CodebookRequest request;
    [[nodiscard]] bool operator==(const Task&) const noexcept = default;
  };
  /// What the specs ask for, each codebook once.
  [[nodiscard]] static pqkv::Result<std::vector<Task>> tasks_of(const Model& model, const std::vector<pqkv::CacheSpec>& specs) {
    const pqkv::CacheShape shape = cache_shape(model);
    if (pqkv::Status counts = pqkv::check_spec_count(specs.size(), shape); !counts) return counts.error();
    std::vector<Task> tasks;
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      for (std::size_t head = 0; head < shape.kv_heads; ++head) {
        const pqkv::CacheSpec& spec = specs[pqkv::spec_index(specs.size(), shape, layer, head)];
        const auto keys = pqkv::key_codebook_request(spec.keys, model.dim);
        if (!keys) return keys.error();
        const auto values = pqkv::value_codebook_request(spec.values, model.dim);
        if (!values) return values.error();
        if (*keys) tasks.push_back({layer, head, pqkv::Side::keys, **keys});
        if (*values) tasks.push_back({layer, head, pqkv::Side::values, **values});
      }
    }
    return tasks;
  }
  /// `rows` must outlive what is returned.
  [[nodiscard]] static pqkv::FitSamples samples_of(const Model& model, const CollectedRows& rows, std::size_t layer,
                                                   std::size_t head, pqkv::Side side) {
    const std::size_t count = rows.positions.size();
    const HeadRows& data = rows.head(layer, head);
    pqkv::FitSamples samples;
    samples.importance = data.importance;
    if (side == pqkv::Side::keys) {
      samples.rows = {data.keys.data(), count, model.dim};
      samples.positions = rows.positions;
      samples.queries = {data.queries.data(), count * model.group(), model.dim};
      samples.group = model.group();
      samples.rope = rope_of(model);
    } else {
      samples.rows = {data.values.data(), count, model.dim};
      samples.value_metric = value_metric(model, layer, head);
    }
    return samples;
  }

  [[nodiscard]] static const char* rotation_suffix(pqkv::Rotation rotation) {
    switch (rotation) {
      case pqkv::Rotation::dealt: return "-deal";
      case pqkv::Rotation::hadamard: return "-hadamard";
      case pqkv::Rotation::balanced: return "-balance";
      case pqkv::Rotation::learned: return "-opq";
      case pqkv::Rotation::automatic: return "-auto";
      case pqkv::Rotation::none: break;
    }
    return "";
  }
  /// "layer2-head0-keys-m16-256-run64-centre-metric-opq"
  [[nodiscard]] static std::string name_of(std::size_t layer, std::size_t head, pqkv::Side side,
                                           const pqkv::CodebookRequest& request) {
    const pqkv::FitOptions& fit = request.fit;
    return pqkv::message("layer", layer, "-head", head, side == pqkv::Side::keys ? "-keys" : "-values", "-m",
                         request.shape.subspaces, "-", request.shape.centroids,
                         request.shape.stages == 1 ? "" : pqkv::message("x", request.shape.stages),
                         fit.run_tokens == 0 ? "" : pqkv::message("-run", fit.run_tokens), fit.centre ? "-centre" : "",
                         fit.metric ? "-metric" : "", rotation_suffix(fit.rotation), fit.importance ? "-importance" : "",
                         fit.mass ? "-mass" : "", fit.gain ? "-gain" : "");
  }

  std::map<std::string, std::shared_ptr<const pqkv::Codebook>> books_;
};

}  // namespace tiny_llm
