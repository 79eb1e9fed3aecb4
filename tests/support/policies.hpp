// The policies that the conformance tests run over, and what they are made of. The list itself is policies.cpp, so that it is
// compiled once: a new format is one more line there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "pqkv/pqkv.hpp"
#include "support/data.hpp"
#include "support/spaces.hpp"

namespace pqkv::test {

/// What random_codebook and spaces are drawn from; a test that wants foreign ones changes it for a while.
inline std::uint64_t codebook_seed = 7;

/// A codebook of random centroids: conformance does not depend on training.
std::shared_ptr<const Codebook> random_codebook(std::size_t dim, std::size_t subspaces, std::size_t centroids,
                                                std::size_t stages = 1);

/// The spaces in front of which formats are tried: every part is in one with and in one without each other part. Runs have
/// room for two blocks; `turning`: under RoPE, which values have nothing of.
std::vector<SpaceChoice> space_choices(std::size_t dim, bool turning);

/// Every key format for rows of `dim` (a multiple of 16).
std::vector<AnyKeys> key_policies(std::size_t dim);

/// Scores are sums of 8-bit table entries, not of floats.
bool has_byte_tables(const AnyKeys& policy);

/// Every value format for rows of `dim` (a multiple of 16).
std::vector<AnyValues> value_policies(std::size_t dim);

/// Pairs that have every format at least thrice, each time with another one. The two sides of a cache meet in its blocks and
/// runs only, so that not every product needs trying.
std::vector<std::pair<AnyKeys, AnyValues>> format_pairs(std::size_t dim);

}  // namespace pqkv::test
