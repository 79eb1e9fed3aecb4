// save and load of one head or one sequence (layers × heads): codes as they are. Beside the pipeline.
//
// A file has the same bytes whatever instruction set made it, and what is loaded attends, on any, to the last bit like the
// sequence that would have been built there, read or mapped. (After edits blocks lie in other pages, over which sums are
// taken in other pieces: equal to rounding. Between instruction sets tables and exponentials, which are floats, round apart.)
//
// Per head four sections: "head" (formats, options, counts), "runs" (runs and erased tokens), "exct" (exact rows, and the
// saliency of the recent ones where a format asks for it), "page" (pages as BlockStore has them, the last one shorter).
// Loading builds a new object, so it is all or nothing.
// From a MappedSource (io/mapped_file.hpp) the pages are used where they lie and nothing is read before it is attended to.
#pragma once

#include <bit>
#include <cstring>
#include <string>
#include <vector>

#include "pqkv/cache/compressed_kv_cache.hpp"
#include "pqkv/io/archive.hpp"
#include "pqkv/io/sequence_sections.hpp"

namespace pqkv::inline PQKV_ABI {

/// What a file does not hold, and how much to trust it.
struct LoadOptions {
  std::shared_ptr<const Rope> rope = nullptr;  ///< as CacheOptions::rope; must be the saved one where tokens were moved
  std::shared_ptr<PageSource> pages = nullptr;  ///< as CacheOptions::pages
  bool verify_blocks =
      true;  ///< mapped files: false leaves the checksums of codes alone, so that they stay on the disk
};

/// Writes one head. Errors: bad_file.
template <ByteSink Sink, KeyPolicy K, ValuePolicy V>
[[nodiscard]] Status save_head(Sink& sink, const HeadCache<K, V>& head, const Checksum& checksum) {
  ArchiveWriter archive(sink, tag("head"), checksum);
  detail::write_head(archive, head);
  return archive.status();
}

/// Reads what save_head wrote, for the same formats over the same codebooks. Errors: bad_file (also another version, kind
/// or checksum, damage, foreign codebooks), out_of_memory, cache_full.
template <ByteSource Source, KeyPolicy K, ValuePolicy V>
[[nodiscard]] Result<HeadCache<K, V>> load_head(Source& source, K keys, V values, const Checksum& checksum,
                                                const LoadOptions& options = {}) {
  ArchiveReader archive(source, tag("head"), checksum);
  return detail::read_head(archive, std::move(keys), std::move(values), options.rope, options.pages,
                           options.verify_blocks);
}

/// Writes all layers and heads of a sequence. Errors: bad_file.
template <ByteSink Sink, KeyPolicy K, ValuePolicy V>
[[nodiscard]] Status save_cache(Sink& sink, const CompressedKVCache<K, V>& cache, const Checksum& checksum) {
  ArchiveWriter archive(sink, tag("seqn"), checksum);
  const CacheShape& shape = cache.shape();
  ByteWriter writer;
  writer.put(std::uint64_t{shape.layers});
  writer.put(std::uint64_t{shape.kv_heads});
  writer.put(std::uint64_t{shape.dim});
  archive.section(tag("shap"), writer.bytes());
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    for (std::size_t head = 0; head < shape.kv_heads; ++head) detail::write_head(archive, cache.head(layer, head));
  }
  return archive.status();
}

/// Reads what save_cache wrote into a cache of the shape and the policies of `like` (its tokens do not matter).
/// Errors: as load_head, and invalid_shape.
template <ByteSource Source, KeyPolicy K, ValuePolicy V>
[[nodiscard]] Result<CompressedKVCache<K, V>> load_cache(Source& source, const CompressedKVCache<K, V>& like,
                                                         const Checksum& checksum, const LoadOptions& options = {}) {
  ArchiveReader archive(source, tag("seqn"), checksum);
  if (!archive.open(tag("shap"))) return archive.error();
  CacheShape shape;
  shape.layers = archive.template get<std::uint64_t>();
  shape.kv_heads = archive.template get<std::uint64_t>();
  shape.dim = archive.template get<std::uint64_t>();
  if (!archive.close()) return archive.error();
  const CacheShape& wanted = like.shape();
  if (shape.layers != wanted.layers || shape.kv_heads != wanted.kv_heads || shape.dim != wanted.dim) {
    return Error{Errc::invalid_shape,
                 message("saved are ", shape.layers, " layers × ", shape.kv_heads, " kv heads × dim ", shape.dim,
                         ", wanted ", wanted.layers, " × ", wanted.kv_heads, " × ", wanted.dim)};
  }
  std::vector<HeadCache<K, V>> heads;
  heads.reserve(shape.layers * shape.kv_heads);
  for (std::size_t i = 0; i < shape.layers * shape.kv_heads; ++i) {
    const HeadCache<K, V>& head = like.head(i / shape.kv_heads, i % shape.kv_heads);
    auto loaded = detail::read_head(archive, K(head.keys()), V(head.values()), options.rope, options.pages,
                                    options.verify_blocks);
    if (!loaded) {
      return Error{loaded.error().code,
                   message("layer ", i / shape.kv_heads, " head ", i % shape.kv_heads, ": ", loaded.error().message)};
    }
    heads.push_back(std::move(loaded).value());
  }
  return CompressedKVCache<K, V>::of_heads(shape, std::move(heads));
}

}  // namespace pqkv::inline PQKV_ABI
