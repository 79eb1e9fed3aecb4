// Rows for training: what attention saw while the model read a text; codebooks trained from them; codebooks in files.
#pragma once

#include <pqkv/io/npy.hpp>
#include <pqkv/train.hpp>

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
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

/// Codebooks by layer, kv head, side and shape.
class Books {
 public:
  [[nodiscard]] std::size_t size() const noexcept { return books_.size(); }
  [[nodiscard]] std::shared_ptr<const pqkv::Codebook> find(std::size_t layer, std::size_t head, pqkv::Side side,
                                                           const pqkv::CodebookShape& shape) const {
    const auto at = books_.find(key_of(layer, head, side, shape));
    return at == books_.end() ? nullptr : at->second;
  }
  [[nodiscard]] pqkv::CodebookSource source() const {
    return [this](std::size_t layer, std::size_t head, pqkv::Side side, pqkv::CodebookShape shape) {
      return find(layer, head, side, shape);
    };
  }

  /// Trains what the specs (one, or one per layer) need and is not there yet.
  [[nodiscard]] pqkv::Status train(const Model& model, const std::vector<pqkv::CacheSpec>& specs, const CollectedRows& rows,
                                   std::uint64_t seed, const common::Workers& workers, common::ProgressBar* progress) {
    struct Task {
      std::size_t layer, head;
      pqkv::Side side;
      pqkv::CodebookShape shape;
    };
    std::vector<Task> tasks;
    for (std::size_t layer = 0; layer < model.layers_count; ++layer) {
      const pqkv::CacheSpec& spec = specs[specs.size() == 1 ? 0 : layer];
      const auto keys = pqkv::key_codebook_shape(spec.keys, model.dim);
      if (!keys) return keys.error();
      const auto values = pqkv::value_codebook_shape(spec.values, model.dim);
      if (!values) return values.error();
      for (std::size_t head = 0; head < model.kv_heads; ++head) {
        for (const auto& [side, shape] : {std::pair{pqkv::Side::keys, *keys}, {pqkv::Side::values, *values}}) {
          if (shape && find(layer, head, side, *shape) == nullptr) tasks.push_back({layer, head, side, *shape});
        }
      }
    }
    std::mutex mutex;
    pqkv::Status failure;
    workers.run(tasks.size(), [&](std::size_t i, std::size_t) {
      const auto& [layer, head, side, shape] = tasks[i];
      const std::vector<float>& data = side == pqkv::Side::keys ? rows.head(layer, head).keys : rows.head(layer, head).values;
      pqkv::TrainOptions options;
      options.seed = seed;
      auto trained = pqkv::train_codebook({data.data(), data.size() / shape.dim, shape.dim}, shape, options);
      const std::lock_guard lock(mutex);
      if (trained) {
        books_[key_of(layer, head, side, shape)] = trained->codebook;
      } else if (failure) {
        failure = pqkv::Error{trained.error().code,
                              pqkv::message("layer ", layer, " head ", head, ": ", trained.error().message)};
      }
      if (progress != nullptr) progress->advance(pqkv::message("layer ", layer, " head ", head));
    });
    return failure;
  }

  /// One .npy per codebook, [subspace][width][centroid], named after what it is for.
  [[nodiscard]] pqkv::Status save(const std::string& folder) const {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(folder, ": cannot be created")};
    for (const auto& [key, book] : books_) {
      const pqkv::CodebookShape& shape = book->shape();
      const std::size_t sizes[] = {shape.subspaces, shape.width(), shape.centroids};
      if (pqkv::Status status = pqkv::write_npy(folder + "/" + name_of(key), sizes,
                                                {book->centroids(0), shape.dim * shape.centroids});
          !status) {
        return status;
      }
    }
    return {};
  }

  /// Reads every file that save wrote. Errors: bad_file, invalid_data.
  [[nodiscard]] static pqkv::Result<Books> load(const std::string& folder) {
    Books books;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      if (entry.path().extension() != ".npy") continue;
      const std::string name = entry.path().filename().string();
      std::size_t layer = 0, head = 0;
      char side[8] = {};
      if (std::sscanf(name.c_str(), "layer%zu-head%zu-%7[a-z]-", &layer, &head, side) != 3) continue;
      auto array = pqkv::read_npy(entry.path().string());
      if (!array) return array.error();
      if (array->shape.size() != 3) {
        return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(entry.path().string(), ": is not [subspaces, width, centroids]")};
      }
      const pqkv::CodebookShape shape{array->shape[0] * array->shape[1], array->shape[0], array->shape[2]};
      auto book = pqkv::Codebook::make(shape, std::move(array->data));
      if (!book) return pqkv::Error{book.error().code, pqkv::message(entry.path().string(), ": ", book.error().message)};
      const bool is_keys = std::string_view(side) == "keys";
      books.books_[key_of(layer, head, is_keys ? pqkv::Side::keys : pqkv::Side::values, shape)] = std::move(*book);
    }
    if (error) return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(folder, ": cannot be read")};
    if (books.size() == 0) return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(folder, ": holds no codebooks")};
    return books;
  }

 private:
  using Key = std::tuple<std::size_t, std::size_t, bool, std::size_t, std::size_t>;
  [[nodiscard]] static Key key_of(std::size_t layer, std::size_t head, pqkv::Side side, const pqkv::CodebookShape& shape) {
    return {layer, head, side == pqkv::Side::keys, shape.subspaces, shape.centroids};
  }
  [[nodiscard]] static std::string name_of(const Key& key) {
    const auto& [layer, head, keys, subspaces, centroids] = key;
    return pqkv::message("layer", layer, "-head", head, keys ? "-keys" : "-values", "-m", subspaces, "-", centroids, ".npy");
  }
  std::map<Key, std::shared_ptr<const pqkv::Codebook>> books_;
};

}  // namespace tiny_llm
