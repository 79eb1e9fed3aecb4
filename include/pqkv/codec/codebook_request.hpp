// CodebookRequest: what a format needs from its trainer: a codebook's shape, and what to fit in front of it. Layer 2.
#pragma once

#include "pqkv/codec/codebook.hpp"

namespace pqkv::inline PQKV_ABI {

/// What turns rows so that coordinates suit their subspaces.
enum class Rotation {
  none,
  dealt,      ///< pairs of coordinates dealt by variance; only a permutation
  hadamard,   ///< a Hadamard matrix with the best of some random sign patterns
  balanced,   ///< principal axes, dealt by variance (eigenvalue allocation)
  learned,    ///< OPQ
  automatic,  ///< whichever of these errs least on rows held back
};

/// What to fit in front of a codebook (CodeSpace); all off: rows as they come.
struct FitOptions {
  std::size_t run_tokens = 0;  ///< keys under RoPE: tokens per run; 0: rows as they come
  bool centre = false;         ///< code rows less their mean (under RoPE: before rotation; needs runs)
  bool metric = false;         ///< errors weigh as queries (keys) or the output projection (values) feel them
  Rotation rotation = Rotation::none;
  bool importance = false;     ///< errors count by the attention that rows received in calibration
  bool mass = false;           ///< keys: tables add what a cloud of keys gains in softmax over its centroid
  bool gain = false;           ///< rows are coded at unit length, each one's length apart (codec/gain.hpp)

  [[nodiscard]] bool any() const noexcept {
    return run_tokens != 0 || centre || metric || rotation != Rotation::none || importance || mass || gain;
  }
  [[nodiscard]] bool operator==(const FitOptions&) const noexcept = default;
};

struct CodebookRequest {
  CodebookShape shape;
  FitOptions fit;

  [[nodiscard]] bool operator==(const CodebookRequest&) const noexcept = default;
};

}  // namespace pqkv::inline PQKV_ABI
