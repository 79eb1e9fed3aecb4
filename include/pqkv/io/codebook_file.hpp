// save and load of a Codebook with its CodeSpace. Beside the pipeline.
#pragma once

#include <string>

#include "pqkv/codec/codebook.hpp"
#include "pqkv/io/archive.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

inline constexpr std::uint32_t codebook_kind = tag("cbok");

[[nodiscard]] inline bool all_finite(const std::vector<float>& numbers) noexcept {
  for (const float number : numbers) {
    if ((std::bit_cast<std::uint32_t>(number) & 0x7f800000u) == 0x7f800000u) return false;
  }
  return true;
}

}  // namespace detail

/// Writes a codebook, and the space of its centroids where it has one. Errors: bad_file.
template <ByteSink Sink>
[[nodiscard]] Status save_codebook(Sink& sink, const Codebook& codebook, const Checksum& checksum) {
  ArchiveWriter archive(sink, detail::codebook_kind, checksum);
  const CodebookShape& shape = codebook.shape();
  ByteWriter head;
  head.put(std::uint64_t{shape.dim});
  head.put(std::uint64_t{shape.subspaces});
  head.put(std::uint64_t{shape.centroids});
  head.put(std::uint64_t{shape.stages});
  head.put(codebook.id());
  head.put(std::uint64_t{codebook.space() != nullptr ? 1u : 0u});
  head.put(std::uint64_t{codebook.gains(0) != nullptr ? 1u : 0u});
  archive.section(tag("shap"), head.bytes());
  archive.section(tag("cent"), std::as_bytes(std::span(codebook.centroids(0), shape.floats())));
  if (codebook.space() != nullptr) {
    const CodeSpaceParts& parts = codebook.space()->parts();
    ByteWriter space;
    space.put(codebook.space()->id());
    space.put(std::uint64_t{parts.run_tokens});
    const bool half_split = parts.rope.pairing() == RopePairing::half_split;
    space.put(std::uint64_t{(half_split ? 1u : 0u) | (parts.unit_length ? 2u : 0u)});
    space.put(std::uint64_t{parts.rope.frequencies().size()});
    space.put_all(std::span(parts.rope.frequencies()));
    for (const auto* part : {&parts.mean, &parts.forward, &parts.inverse, &parts.term_rows, &parts.term_basis}) {
      space.put(std::uint64_t{part->size()});
      space.put_all(std::span(*part));
    }
    archive.section(tag("spac"), space.bytes());
  }
  if (codebook.gains(0) != nullptr) {
    archive.section(tag("gain"), std::as_bytes(std::span(codebook.gains(0), shape.codes() * shape.centroids)));
  }
  return archive.status();
}

/// Reads what save_codebook wrote. Errors: bad_file (also for another version, another checksum, damage), invalid_shape,
/// invalid_data.
template <ByteSource Source>
[[nodiscard]] Result<std::shared_ptr<const Codebook>> load_codebook(Source& source, const Checksum& checksum) {
  ArchiveReader archive(source, detail::codebook_kind, checksum);
  if (!archive.open(tag("shap"))) return archive.error();
  CodebookShape shape;
  shape.dim = archive.template get<std::uint64_t>();
  shape.subspaces = archive.template get<std::uint64_t>();
  shape.centroids = archive.template get<std::uint64_t>();
  shape.stages = archive.template get<std::uint64_t>();
  const auto id = archive.template get<std::uint64_t>();
  const auto spaces = archive.template get<std::uint64_t>();
  const auto gained = archive.template get<std::uint64_t>();
  if (!archive.close()) return archive.error();
  if (Status status = check(shape); !status) return status.error();
  if (!archive.open(tag("cent"))) return archive.error();
  auto centroids = archive.template get_all<float>(shape.floats());
  if (!archive.close()) return archive.error();

  std::shared_ptr<const CodeSpace> space;
  if (spaces != 0) {
    if (!archive.open(tag("spac"))) return archive.error();
    CodeSpaceParts parts;
    parts.dim = shape.dim;
    const auto space_id = archive.template get<std::uint64_t>();
    parts.run_tokens = archive.template get<std::uint64_t>();
    const auto flags = archive.template get<std::uint64_t>();
    parts.unit_length = (flags & 2u) != 0;
    const auto pairing = (flags & 1u) != 0 ? RopePairing::half_split : RopePairing::adjacent;
    parts.rope = Rope(archive.template get_all<double>(archive.template get<std::uint64_t>()), pairing);
    for (auto* part : {&parts.mean, &parts.forward, &parts.inverse, &parts.term_rows, &parts.term_basis}) {
      *part = archive.template get_all<float>(archive.template get<std::uint64_t>());
      if (!detail::all_finite(*part)) return Error{Errc::invalid_data, "a part of the code space is not finite"};
    }
    if (!archive.close()) return archive.error();
    auto made = CodeSpace::make(std::move(parts));
    if (!made) return made.error();
    space = std::move(made).value();
    if (space->id() != space_id)
      return Error{Errc::bad_file, "the code space is not the one that was saved (another id)"};
  }
  std::vector<float> gains;
  if (gained != 0) {
    if (!archive.open(tag("gain"))) return archive.error();
    gains = archive.template get_all<float>(shape.codes() * shape.centroids);
    if (!archive.close()) return archive.error();
  }
  auto codebook = Codebook::make(shape, std::move(centroids), std::move(space), std::move(gains));
  if (codebook && (*codebook)->id() != id) {
    return Error{Errc::bad_file, message("the codebook has id ", (*codebook)->id(), ", saved was ", id)};
  }
  return codebook;
}

}  // namespace pqkv::inline PQKV_ABI
