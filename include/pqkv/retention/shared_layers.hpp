// SharedLayers: layers that read another layer's cache instead of one of their own. Layer 6.
// Yang et al.: KVSharer (2024): layers whose keys and values are *unlike* each other are shared, found once by a search over
// a few calibration texts. The cache then has as many layers as are stored, and the engine asks slot() which one a layer
// reads; a layer that is not its own source appends nothing.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "pqkv/base/expects.hpp"

namespace pqkv::inline PQKV_ABI {

/// Which layer's keys and values each layer reads.
class SharedLayers {
 public:
  /// Every layer its own.
  explicit SharedLayers(std::size_t layers) : sources_(layers) {
    for (std::size_t l = 0; l < layers; ++l) sources_[l] = l;
  }

  [[nodiscard]] std::size_t layers() const noexcept { return sources_.size(); }
  [[nodiscard]] std::size_t source(std::size_t layer) const noexcept { return sources_[layer]; }
  [[nodiscard]] bool is_stored(std::size_t layer) const noexcept { return sources_[layer] == layer; }
  /// How many layers the cache needs.
  [[nodiscard]] std::size_t stored() const noexcept {
    std::size_t count = 0;
    for (std::size_t l = 0; l < layers(); ++l) count += is_stored(l) ? 1 : 0;
    return count;
  }
  /// The layer of that cache which `layer` reads (and appends to, if is_stored()).
  [[nodiscard]] std::size_t slot(std::size_t layer) const noexcept {
    std::size_t count = 0;
    for (std::size_t l = 0; l < sources_[layer]; ++l) count += is_stored(l) ? 1 : 0;
    return count;
  }
  /// `layer` reads what an earlier one stores. False, and nothing done, where either takes part in sharing the other way.
  bool share(std::size_t layer, std::size_t earlier) {
    PQKV_EXPECTS(layer < layers() && earlier < layer);
    if (!is_stored(layer) || !is_stored(earlier)) return false;
    if (std::count(sources_.begin(), sources_.end(), layer) > 1) return false;  // others read it
    sources_[layer] = earlier;
    return true;
  }
  void unshare(std::size_t layer) noexcept { sources_[layer] = layer; }

 private:
  std::vector<std::size_t> sources_;
};

struct LayerPair {
  std::size_t earlier;
  std::size_t later;
  double distance;
};

/// All pairs of layers, the most unlike first: by the Euclidean distance of their keys and values, which the caller has
/// averaged over calibration texts and laid out alike, rows[layer][element].
PQKV_WHEN_CALLED [[nodiscard]] std::vector<LayerPair> rank_layer_pairs(std::span<const std::vector<float>> rows) {
  std::vector<LayerPair> pairs;
  for (std::size_t later = 1; later < rows.size(); ++later) {
    for (std::size_t earlier = 0; earlier < later; ++earlier) {
      PQKV_EXPECTS(rows[later].size() == rows[earlier].size());
      double squares = 0;
      for (std::size_t i = 0; i < rows[later].size(); ++i) {
        const double difference = static_cast<double>(rows[later][i]) - static_cast<double>(rows[earlier][i]);
        squares += difference * difference;
      }
      pairs.push_back({earlier, later, std::sqrt(squares)});
    }
  }
  std::stable_sort(pairs.begin(), pairs.end(), [](const LayerPair& a, const LayerPair& b) { return a.distance > b.distance; });
  return pairs;
}

/// Shares pair after pair, most unlike first, until `wanted` layers are shared. similarity(sharing) is the caller's: how
/// much the model's last hidden states stay what they were, as a mean cosine; a pair that takes it below `least` (0.5 in the
/// paper) is undone.
template <class Similarity>
[[nodiscard]] SharedLayers find_shared_layers(std::size_t layers, std::span<const LayerPair> pairs, std::size_t wanted,
                                              double least, const Similarity& similarity) {
  SharedLayers sharing(layers);
  std::size_t shared = 0;
  for (const LayerPair& pair : pairs) {
    if (shared == wanted) break;
    if (!sharing.share(pair.later, pair.earlier)) continue;
    if (similarity(static_cast<const SharedLayers&>(sharing)) >= least) {
      ++shared;
    } else {
      sharing.unshare(pair.later);
    }
  }
  return sharing;
}

}  // namespace pqkv::inline PQKV_ABI
