// Rows for training: what attention saw while the model read a text; codebooks trained from them; codebooks in files.
#pragma once

#include <pqkv/io/npy.hpp>
#include <pqkv/train.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/workers.hpp"
#include "tiny_llm/engine.hpp"

namespace tiny_llm {

/// Per (layer, kv head): rows of all tokens that were read, one behind the other. Queries are [token][group][dim].
struct HeadRows {
  std::vector<float> queries, keys, values;
};
struct CollectedRows {
  std::size_t kv_heads = 0;
  std::vector<HeadRows> heads;  ///< [layers][kv_heads]
  [[nodiscard]] const HeadRows& head(std::size_t layer, std::size_t head) const { return heads[layer * kv_heads + head]; }
};

/// Cuts tokens into whole chunks of `context`; at most `limit`.
[[nodiscard]] inline std::vector<std::span<const std::uint32_t>> chunks_of(std::span<const std::uint32_t> tokens,
                                                                           std::size_t context, std::size_t limit) {
  std::vector<std::span<const std::uint32_t>> chunks;
  for (std::size_t at = 0; at + context <= tokens.size() && chunks.size() < limit; at += context) {
    chunks.push_back(tokens.subspan(at, context));
  }
  return chunks;
}

/// Reads the chunks with an exact cache and keeps what attention saw.
[[nodiscard]] inline pqkv::Result<CollectedRows> collect_rows(const Model& model,
                                                              const std::vector<std::span<const std::uint32_t>>& chunks,
                                                              const common::Workers& workers) {
  const auto exact = pqkv::parse_cache_spec("k=exact:f32,v=exact:f32");
  std::vector<CollectedRows> parts(chunks.size());
  std::vector<pqkv::Status> failures(chunks.size());
  workers.run(chunks.size(), [&](std::size_t c, std::size_t) {
    parts[c].heads.resize(model.layers_count * model.kv_heads);
    auto sequence = make_sequence(model, {*exact}, {});
    if (!sequence) {
      failures[c] = sequence.error();
      return;
    }
    const auto keep = [&](std::size_t layer, const Matrix& queries, const Matrix& keys, const Matrix& values) {
      for (std::size_t h = 0; h < model.kv_heads; ++h) {
        HeadRows& head = parts[c].heads[layer * model.kv_heads + h];
        const auto append = [&](std::vector<float>& out, const Matrix& rows, std::size_t columns) {
          for (Eigen::Index t = 0; t < rows.rows(); ++t) {
            const float* first = &rows(t, static_cast<Eigen::Index>(h * columns));
            out.insert(out.end(), first, first + columns);
          }
        };
        append(head.queries, queries, model.group() * model.dim);
        append(head.keys, keys, model.dim);
        append(head.values, values, model.dim);
      }
    };
    if (auto logits = forward(model, *sequence, chunks[c], false, {}, keep); !logits) failures[c] = logits.error();
  });
  for (const pqkv::Status& failure : failures) {
    if (!failure) return failure.error();
  }
  CollectedRows all{model.kv_heads, std::vector<HeadRows>(model.layers_count * model.kv_heads)};
  for (const CollectedRows& part : parts) {
    for (std::size_t i = 0; i < all.heads.size(); ++i) {
      all.heads[i].queries.insert(all.heads[i].queries.end(), part.heads[i].queries.begin(), part.heads[i].queries.end());
      all.heads[i].keys.insert(all.heads[i].keys.end(), part.heads[i].keys.begin(), part.heads[i].keys.end());
      all.heads[i].values.insert(all.heads[i].values.end(), part.heads[i].values.begin(), part.heads[i].values.end());
    }
  }
  return all;
}

/// The model's RoPE as pqkv has it.
[[nodiscard]] inline pqkv::Rope rope_of(const Model& model) {
  return pqkv::Rope({model.frequencies.begin(), model.frequencies.end()});
}

/// What the output projection makes of a kv head's values: Σ W_hᵀ·W_h over the query heads of its group.
[[nodiscard]] inline pqkv::RowMatrix value_metric(const Model& model, std::size_t layer, std::size_t head) {
  const auto dim = static_cast<Eigen::Index>(model.dim);
  pqkv::RowMatrix metric = pqkv::RowMatrix::Zero(dim, dim);
  for (std::size_t q = head * model.group(); q < (head + 1) * model.group(); ++q) {
    const auto part = model.layers[layer].output.middleCols(static_cast<Eigen::Index>(q) * dim, dim);
    metric += part.transpose() * part;
  }
  return metric;
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

  /// Trains what the specs (one, or one per layer) need and is not there yet. `rows` come from chunks of `context` tokens.
  [[nodiscard]] pqkv::Status train(const Model& model, const std::vector<pqkv::CacheSpec>& specs, const CollectedRows& rows,
                                   std::size_t context, std::uint64_t seed, const common::Workers& workers,
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
    const std::size_t count = rows.heads.front().keys.size() / model.dim;
    std::vector<std::int64_t> positions(count);
    for (std::size_t r = 0; r < count; ++r) positions[r] = static_cast<std::int64_t>(r % context);
    std::mutex mutex;
    pqkv::Status failure;
    workers.run(tasks.size(), [&](std::size_t i, std::size_t) {
      const auto& [layer, head, side, request] = tasks[i];
      const HeadRows& data = rows.head(layer, head);
      pqkv::FitSamples samples;
      if (side == pqkv::Side::keys) {
        samples.rows = {data.keys.data(), count, model.dim};
        samples.positions = positions;
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

  /// A .npy per codebook, [subspace][width][centroid], named after what it is for, and one per part of its space.
  [[nodiscard]] pqkv::Status save(const std::string& folder) const {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(folder, ": cannot be created")};
    for (const auto& [name, book] : books_) {
      const pqkv::CodebookShape& shape = book->shape();
      const std::size_t sizes[] = {shape.subspaces, shape.width(), shape.centroids};
      const std::string base = folder + "/" + name;
      pqkv::Status status = pqkv::write_npy(base + ".npy", sizes, {book->centroids(0), shape.dim * shape.centroids});
      if (status && book->space() != nullptr) status = save_space(base, book->space()->parts());
      if (!status) return status;
    }
    return {};
  }

  /// Reads every file that save wrote, for this model. Errors: bad_file, invalid_data, invalid_shape, with the file.
  [[nodiscard]] static pqkv::Result<Books> load(const std::string& folder, const Model& model) {
    Books books;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      const std::string name = entry.path().stem().string();
      if (entry.path().extension() != ".npy" || !name.starts_with("layer") || name.find('.') != std::string::npos) continue;
      auto array = pqkv::read_npy(entry.path().string());
      if (!array) return array.error();
      if (array->shape.size() != 3) {
        return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(entry.path().string(), ": is not [subspaces, width, centroids]")};
      }
      const pqkv::CodebookShape shape{array->shape[0] * array->shape[1], array->shape[0], array->shape[2]};
      auto space = load_space(folder + "/" + name, shape.dim, model);
      if (!space) return space.error();
      auto book = pqkv::Codebook::make(shape, std::move(array->data), *space);
      if (!book) return pqkv::Error{book.error().code, pqkv::message(entry.path().string(), ": ", book.error().message)};
      books.books_[name] = std::move(*book);
    }
    if (error) return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(folder, ": cannot be read")};
    if (books.size() == 0) return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(folder, ": holds no codebooks")};
    return books;
  }

 private:
  /// "layer2-head0-keys-m16-256-run64-centre-metric-opq": what load_space must find beside the codebook is in its name.
  [[nodiscard]] static std::string name_of(std::size_t layer, std::size_t head, pqkv::Side side,
                                           const pqkv::CodebookRequest& request) {
    const pqkv::FitOptions& fit = request.fit;
    return pqkv::message("layer", layer, "-head", head, side == pqkv::Side::keys ? "-keys" : "-values", "-m",
                         request.shape.subspaces, "-", request.shape.centroids,
                         fit.run_tokens == 0 ? "" : pqkv::message("-run", fit.run_tokens), fit.centre ? "-centre" : "",
                         fit.metric ? "-metric" : "",
                         fit.rotation == pqkv::Rotation::dealt     ? "-deal"
                         : fit.rotation == pqkv::Rotation::learned ? "-opq"
                                                                   : "");
  }

  [[nodiscard]] static pqkv::Status save_space(const std::string& base, const pqkv::CodeSpaceParts& parts) {
    const std::size_t dim = parts.dim;
    const std::size_t rank = parts.term_basis.size() / dim;
    const std::size_t square[] = {dim, dim}, rows[] = {parts.run_tokens, rank}, basis[] = {rank, dim};
    pqkv::Status status;
    const auto save = [&](const char* part, std::span<const std::size_t> shape, const std::vector<float>& data) {
      if (status && !data.empty()) status = pqkv::write_npy(base + part, shape, data);
    };
    save(".mean.npy", std::span(square).first(1), parts.mean);
    save(".forward.npy", square, parts.forward);
    save(".inverse.npy", square, parts.inverse);
    save(".term_rows.npy", rows, parts.term_rows);
    save(".term_basis.npy", basis, parts.term_basis);
    return status;
  }

  static constexpr std::size_t any_size = 0;

  /// A part of a space: finite, and of that shape.
  [[nodiscard]] static pqkv::Result<pqkv::NpyArray> load_part(const std::string& path, std::initializer_list<std::size_t> shape) {
    auto array = pqkv::read_npy(path);
    if (!array) return array.error();
    const auto fits = [](std::size_t wanted, std::size_t held) { return wanted == any_size ? held != 0 : wanted == held; };
    if (!std::equal(shape.begin(), shape.end(), array->shape.begin(), array->shape.end(), fits)) {
      const auto text_of = [](const auto& sizes) {
        std::string text;
        for (const std::size_t size : sizes) {
          text += (text.empty() ? "" : " × ") + (size == any_size ? "n" : std::to_string(size));
        }
        return text;
      };
      return pqkv::Error{pqkv::Errc::invalid_shape, pqkv::message(path, ": holds ", text_of(array->shape), " numbers where ",
                                                                  text_of(shape), " are needed")};
    }
    for (std::size_t i = 0; i < array->data.size(); ++i) {
      if (!std::isfinite(array->data[i])) {
        return pqkv::Error{pqkv::Errc::invalid_data, pqkv::message(path, ": element ", i, " is not finite")};
      }
    }
    return array;
  }

  /// The space that a codebook's name asks for, every part of it; nullptr where it asks for none.
  [[nodiscard]] static pqkv::Result<std::shared_ptr<const pqkv::CodeSpace>> load_space(const std::string& base, std::size_t dim,
                                                                                       const Model& model) {
    const std::string name = base.substr(base.rfind('/') + 1);
    const auto asks_for = [&name](const char* option) { return name.find(option) != std::string::npos; };
    const bool centred = asks_for("-centre");
    const bool mapped = asks_for("-metric") || asks_for("-deal") || asks_for("-opq");
    pqkv::CodeSpaceParts parts;
    parts.dim = dim;
    const std::size_t run = name.find("-run");
    const bool turned = run != std::string::npos;
    if (turned) {
      parts.rope = rope_of(model);
      parts.run_tokens = static_cast<std::size_t>(std::strtoul(name.c_str() + run + 4, nullptr, 10));
    }
    if (!turned && !centred && !mapped) return std::shared_ptr<const pqkv::CodeSpace>();
    pqkv::Status status;
    const auto load = [&](const char* part, std::initializer_list<std::size_t> shape, std::vector<float>& data) {
      if (!status) return;
      auto array = load_part(base + part, shape);
      if (!array) return void(status = array.error());
      data = std::move(array->data);
    };
    if (centred) load(".mean.npy", {dim}, parts.mean);
    if (mapped) load(".forward.npy", {dim, dim}, parts.forward);
    if (mapped) load(".inverse.npy", {dim, dim}, parts.inverse);
    if (centred && turned) load(".term_basis.npy", {any_size, dim}, parts.term_basis);
    if (centred && turned) load(".term_rows.npy", {parts.run_tokens, parts.term_basis.size() / dim}, parts.term_rows);
    if (!status) return status.error();
    auto space = pqkv::CodeSpace::make(std::move(parts));
    if (!space) return pqkv::Error{space.error().code, pqkv::message(base, ": ", space.error().message)};
    return space;
  }

  std::map<std::string, std::shared_ptr<const pqkv::Codebook>> books_;
};

}  // namespace tiny_llm
