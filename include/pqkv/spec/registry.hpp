// The formats that can be named in a spec: one entry each, with its parameters and how it is made.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "pqkv/codec/codebook_request.hpp"
#include "pqkv/spec/any_keys.hpp"
#include "pqkv/spec/any_values.hpp"
#include "pqkv/spec/cache_spec.hpp"

namespace pqkv::inline PQKV_ABI {

/// One entry. `Any` is AnyKeys or AnyValues.
template <class Any>
struct Format {
  std::string_view name;
  std::string_view parameters;  ///< for a person: "m=N (subspaces; dim/8)"
  std::string_view summary;
  std::string_view keys;        ///< the parameter keys it takes, separated by spaces; "" is written "type"
  /// The codebook it needs for rows of that dim, or none.
  Result<std::optional<CodebookRequest>> (*codebook)(const FormatSpec& spec, std::size_t dim);
  /// Expects the codebook of that shape where one is needed.
  Result<Any> (*make)(const FormatSpec& spec, std::size_t dim, std::shared_ptr<const Codebook> codebook);
};

/// Every format: key_formats_bodies.hpp, value_formats_bodies.hpp.
PQKV_COMPILED_ONCE [[nodiscard]] std::span<const Format<AnyKeys>> key_formats();
PQKV_COMPILED_ONCE [[nodiscard]] std::span<const Format<AnyValues>> value_formats();

/// The codebook that a key format needs for rows of that dim; none for formats without one.
PQKV_COMPILED_ONCE [[nodiscard]] Result<std::optional<CodebookRequest>> key_codebook_request(const FormatSpec& spec,
                                                                                             std::size_t dim);
PQKV_COMPILED_ONCE [[nodiscard]] Result<std::optional<CodebookRequest>> value_codebook_request(const FormatSpec& spec,
                                                                                               std::size_t dim);

/// A key policy from its spec. `codebook` where key_codebook_request asks for one, else nullptr.
PQKV_COMPILED_ONCE [[nodiscard]] Result<AnyKeys> make_keys(const FormatSpec& spec, std::size_t dim,
                                                           std::shared_ptr<const Codebook> codebook = nullptr);
PQKV_COMPILED_ONCE [[nodiscard]] Result<AnyValues> make_values(const FormatSpec& spec, std::size_t dim,
                                                               std::shared_ptr<const Codebook> codebook = nullptr);

/// Every format with its parameters, a line each.
PQKV_COMPILED_ONCE [[nodiscard]] std::string list_formats();

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/spec/key_formats_bodies.hpp"
#include "pqkv/spec/registry_bodies.hpp"
#include "pqkv/spec/value_formats_bodies.hpp"
#endif
