// CodebookRequest: what a format needs from its trainer: a codebook's shape, and what to fit in front of it. Layer 2.
#pragma once

#include "pqkv/codec/codebook.hpp"

namespace pqkv::inline PQKV_ABI {

/// Which coordinates share a subspace: as they come; pairs dealt by energy; a learned rotation (OPQ).
enum class Rotation { none, dealt, learned };

/// What to fit in front of a codebook (CodeSpace); all off: rows as they come.
struct FitOptions {
  std::size_t run_tokens = 0;  ///< keys under RoPE: tokens per run; 0: rows as they come
  bool centre = false;         ///< code rows less their mean (under RoPE: before rotation; needs runs)
  bool metric = false;         ///< errors weigh as queries (keys) or the output projection (values) feel them
  Rotation rotation = Rotation::none;

  [[nodiscard]] bool any() const noexcept { return run_tokens != 0 || centre || metric || rotation != Rotation::none; }
  [[nodiscard]] bool operator==(const FitOptions&) const noexcept = default;
};

struct CodebookRequest {
  CodebookShape shape;
  FitOptions fit;

  [[nodiscard]] bool operator==(const CodebookRequest&) const noexcept = default;
};

}  // namespace pqkv::inline PQKV_ABI
