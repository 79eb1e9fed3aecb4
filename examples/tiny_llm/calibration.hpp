// Codebooks of a model: trained from collected rows, in files.
#pragma once

#include <pqkv/adapt/zlib.hpp>
#include <pqkv/io/codebook_file.hpp>
#include <pqkv/io/file.hpp>
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

  /// Trains what the specs (one, or one per layer) need and is not there yet.
  [[nodiscard]] pqkv::Status train(const Model& model, const std::vector<pqkv::CacheSpec>& specs, const CollectedRows& rows,
                                   std::uint64_t seed, const common::Workers& workers,
                                   common::ProgressBar* progress) {
    struct Task {
      std::size_t layer, head;
      pqkv::Side side;
      pqkv::CodebookRequest request;
    };
    std::vector<Task> tasks;
    for (std::size_t layer = 0; layer < model.layers_count; ++layer) {
      const pqkv::CacheSpec& spec = specs[specs.size() == 1 ? 0 : layer];
      const auto keys = pqkv::key_codebook_request(spec.keys, model.dim);
      if (!keys) return keys.error();
      const auto values = pqkv::value_codebook_request(spec.values, model.dim);
      if (!values) return values.error();
      for (std::size_t head = 0; head < model.kv_heads; ++head) {
        for (const auto& [side, request] : {std::pair{pqkv::Side::keys, *keys}, {pqkv::Side::values, *values}}) {
          if (request && find(layer, head, side, *request) == nullptr) tasks.push_back({layer, head, side, *request});
        }
      }
    }
    const std::size_t count = rows.positions.size();
    std::mutex mutex;
    pqkv::Status failure;
    workers.run(tasks.size(), [&](std::size_t i, std::size_t) {
      const auto& [layer, head, side, request] = tasks[i];
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
      pqkv::TrainOptions options;
      options.seed = seed;
      auto trained = pqkv::train_fitted(samples, request.fit, request.shape, options);
      const std::lock_guard lock(mutex);
      if (trained) {
        books_[name_of(layer, head, side, request)] = trained->codebook;
      } else if (failure) {
        failure = pqkv::Error{trained.error().code,
                              pqkv::message("layer ", layer, " head ", head, ": ", trained.error().message)};
      }
      if (progress != nullptr) progress->advance(pqkv::message("layer ", layer, " head ", head));
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
                         fit.run_tokens == 0 ? "" : pqkv::message("-run", fit.run_tokens), fit.centre ? "-centre" : "",
                         fit.metric ? "-metric" : "", rotation_suffix(fit.rotation), fit.importance ? "-importance" : "",
                         fit.mass ? "-mass" : "");
  }

  std::map<std::string, std::shared_ptr<const pqkv::Codebook>> books_;
};

}  // namespace tiny_llm
