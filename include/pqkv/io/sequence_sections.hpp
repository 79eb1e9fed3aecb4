// The sections of one head in an archive (io/sequence_file.hpp), written and read. Beside the pipeline.
// A file may be damaged or hostile: whatever it says is checked before it is used or allocated for.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "pqkv/cache/compact.hpp"
#include "pqkv/codec/fingerprint.hpp"
#include "pqkv/io/archive.hpp"

namespace pqkv::inline PQKV_ABI::detail {

/// Calls use(first block, blocks, bytes) for each page of a file of `blocks` blocks. They are as many blocks long as those of
/// a growing sequence, so that what was only appended to lies in like pages and attends to the last bit alike.
template <class Use>
void each_file_page(std::size_t blocks, const BlockBytes& bytes, const Use& use) {
  std::size_t done = 0;
  for (std::size_t page = 0; done < blocks; ++page) {
    const std::size_t count = std::min(BlockStore::page_blocks(page), blocks - done);
    use(done, count, (bytes.page(count) + archive_alignment - 1) / archive_alignment * archive_alignment);
    done += count;
  }
}

/// What codes of a format mean depends on this; 0 for formats without codebooks.
template <class Format>
[[nodiscard]] std::uint64_t codebook_id_of(const Format& format) noexcept {
  if constexpr (requires { format.codebook_id(); }) {
    return format.codebook_id();
  } else {
    return 0;
  }
}

[[nodiscard]] inline std::uint64_t rope_id(const Rope* rope) noexcept {
  if (rope == nullptr) return 0;
  Fingerprint fingerprint;
  fingerprint.add(rope->pairing() == RopePairing::half_split ? 1u : 0u);
  for (const double frequency : rope->frequencies()) fingerprint.add(std::bit_cast<std::uint64_t>(frequency));
  return fingerprint.value();
}

/// The numbers of section "head", in their order.
struct HeadNumbers {
  std::uint64_t dim, key_block_bytes, value_block_bytes, key_codebook, value_codebook, rope;
  std::uint64_t sinks, recent, window, max_tokens;
  std::int64_t next_position;
  std::uint64_t runs, blocks, kept_tokens, recent_tokens;
};
static_assert(sizeof(HeadNumbers) == 15 * 8);

/// A run in section "runs"; its blocks follow those of the run before. A compacted run has no offset but this, and the
/// places of its slots stand behind all blocks' dead words, in the order of runs.
inline constexpr std::uint64_t saved_compacted = ~std::uint64_t{0};
struct SavedRun {
  std::uint64_t tokens, live, offset;
  std::int64_t origin, shift;
};
static_assert(sizeof(SavedRun) == 5 * 8);

inline void put_window(ByteWriter& writer, const ExactWindow& window) {
  for (std::size_t i = 0; i < window.tokens(); ++i) {
    writer.put(window.position(i));
    writer.put(window.shift_of(i));
    writer.put(window.weight(i));
  }
  writer.put_all(std::span(window.keys(), window.tokens() * window.rows().row_bytes()));
  writer.put_all(std::span(window.values(), window.tokens() * window.rows().row_bytes()));
}

template <class Archive, KeyPolicy K, ValuePolicy V>
void write_head(Archive& archive, const HeadCache<K, V>& head) {
  const CacheOptions& options = head.options();
  std::size_t blocks = 0;
  for (const Run& run : head.runs()) blocks += run.blocks();
  const HeadNumbers numbers{head.dim(),
                            head.keys().block_bytes(),
                            head.values().block_bytes(),
                            codebook_id_of(head.keys()),
                            codebook_id_of(head.values()),
                            rope_id(options.rope.get()),
                            options.sinks,
                            options.recent,
                            static_cast<std::uint64_t>(options.window),
                            options.max_tokens,
                            head.next_position(),
                            head.runs().size(),
                            blocks,
                            head.sinks().tokens(),
                            head.recent().tokens()};
  ByteWriter first;
  first.put_all(std::as_bytes(std::span(&numbers, 1)));
  first.put_text(head.keys().describe());
  first.put_text(head.values().describe());
  archive.section(tag("head"), first.bytes());

  ByteWriter runs;
  for (const Run& run : head.runs()) {
    const SavedRun saved{run.tokens, run.live, run.is_compacted() ? saved_compacted : run.offset, run.origin, run.shift};
    runs.put_all(std::as_bytes(std::span(&saved, 1)));
  }
  for (const Run& run : head.runs()) {
    for (std::size_t b = 0; b < run.blocks(); ++b) runs.put(head.store().dead(run.first_block + b));
  }
  for (const Run& run : head.runs()) {
    if (!run.is_compacted()) continue;
    const SlotPositions position = head.sequence().sealed.positions_of(run);
    for (std::size_t s = 0; s < run.tokens; ++s) runs.put(position(s) - run.shift - run.origin);
  }
  archive.section(tag("runs"), runs.bytes());

  ByteWriter exact;
  put_window(exact, head.sinks());
  put_window(exact, head.recent());
  if (head.wants_saliency()) {
    for (std::size_t i = 0; i < head.recent().tokens(); ++i) exact.put(head.recent().saliency(i));
  }
  archive.section(tag("exct"), exact.bytes());

  // Pages as BlockStore has them: key blocks, padding, value blocks, padding.
  std::vector<std::size_t> numbers_of;
  for (const Run& run : head.runs()) {
    for (std::size_t b = 0; b < run.blocks(); ++b) numbers_of.push_back(run.first_block + b);
  }
  const BlockBytes& bytes = head.store().block_bytes();
  static constexpr std::byte zeros[archive_alignment] = {};
  std::vector<std::span<const std::byte>> pieces;
  each_file_page(blocks, bytes, [&](std::size_t done, std::size_t count, std::size_t size) {
    for (std::size_t b = 0; b < count; ++b) pieces.emplace_back(head.store().key_block(numbers_of[done + b]), bytes.key);
    pieces.emplace_back(zeros, bytes.values_offset(count) - count * bytes.key);
    for (std::size_t b = 0; b < count; ++b) pieces.emplace_back(head.store().value_block(numbers_of[done + b]), bytes.value);
    pieces.emplace_back(zeros, size - bytes.page(count));
  });
  archive.section(tag("page"), pieces);
}

template <class Archive>
bool get_window(Archive& archive, ExactWindow& window, std::uint64_t tokens, bool& moved) {
  const std::size_t row = window.rows().row_bytes();
  if (tokens > archive.left() / (2 * row)) return archive.fail(tokens, " exact rows are more than the file holds");
  const auto count = static_cast<std::size_t>(tokens);
  std::vector<std::int64_t> positions(count), shifts(count);
  std::vector<float> weights(count);
  for (std::size_t i = 0; i < count; ++i) {
    positions[i] = archive.template get<std::int64_t>();
    shifts[i] = archive.template get<std::int64_t>();
    weights[i] = archive.template get<float>();
    moved = moved || shifts[i] != 0;
  }
  const auto keys = archive.template get_all<unsigned char>(count * row);
  const auto values = archive.template get_all<unsigned char>(count * row);
  if (!archive.ok()) return false;
  return window.restore(count, keys.data(), values.data(), positions.data(), shifts.data(), weights.data()) ||
         archive.fail("no memory for ", tokens, " exact rows");
}

/// What the tokens of a window have seen: behind it, where the value format wants to know.
template <class Archive>
bool get_saliency(Archive& archive, ExactWindow& window) {
  for (std::size_t i = 0; i < window.tokens(); ++i) {
    const auto saliency = archive.template get<float>();
    if (!archive.ok()) return false;
    if (!std::isfinite(saliency) || saliency < 0) return archive.fail("token ", i, " of a window has a saliency of ", saliency);
    window.add_saliency(i, saliency);
  }
  return true;
}

/// Why the numbers cannot be those of a head with these formats; empty if they can.
template <KeyPolicy K, ValuePolicy V>
[[nodiscard]] std::string mismatch(const HeadNumbers& numbers, const std::string& key_text,
                                   const std::string& value_text, const K& keys, const V& values) {
  if (numbers.dim != keys.dim() || numbers.key_block_bytes != keys.block_bytes() ||
      numbers.value_block_bytes != values.block_bytes() || key_text != keys.describe() ||
      value_text != values.describe()) {
    return message("saved as ", key_text, " / ", value_text, " of dim ", numbers.dim, ", not ", keys.describe(), " / ",
                   values.describe(), " of dim ", keys.dim());
  }
  if (numbers.key_codebook != codebook_id_of(keys) || numbers.value_codebook != codebook_id_of(values)) {
    return message("coded with other codebooks: keys ", numbers.key_codebook, " (here ", codebook_id_of(keys),
                   "), values ", numbers.value_codebook, " (here ", codebook_id_of(values), ")");
  }
  constexpr std::uint64_t most = std::uint64_t{1} << 32;
  if (numbers.sinks > most || numbers.recent > most || numbers.window > 2 ||
      numbers.recent_tokens >= numbers.recent + block_tokens) {
    return message("windows of ", numbers.sinks, " and ", numbers.recent, " tokens that hold ", numbers.kept_tokens,
                   " and ", numbers.recent_tokens);
  }
  return {};
}

/// Why a run cannot be; empty if it can. `dead` are its blocks' words, `places` those of a compacted run's slots.
[[nodiscard]] inline std::string fault_of(const SavedRun& run, std::span<const std::uint32_t> dead,
                                          std::span<const std::int64_t> places, std::size_t run_tokens) {
  std::size_t live = 0;
  bool empty_block = false;
  for (std::size_t b = 0; b < dead.size(); ++b) {
    const std::size_t slots = std::min<std::size_t>(block_tokens, run.tokens - b * block_tokens);
    const std::uint32_t left = ~dead[b] & (~0u >> (block_tokens - slots));
    empty_block = empty_block || left == 0 || (b + 1 == dead.size() && (left >> (slots - 1)) == 0);
    live += static_cast<std::size_t>(std::popcount(left));
  }
  constexpr std::int64_t far = std::int64_t{1} << 60;
  bool misplaced = false;
  if (run.offset == saved_compacted) {
    const std::int64_t least = run_tokens == unlimited_tokens ? -far : 0;
    const std::int64_t most = run_tokens == unlimited_tokens ? far : static_cast<std::int64_t>(run_tokens) - 1;
    for (const std::int64_t place : places) misplaced = misplaced || place > most || place < least;
  } else {
    misplaced = run.offset % block_tokens != 0 || run.offset > run_tokens || run.tokens > run_tokens - run.offset;
  }
  if (empty_block || live != run.live || misplaced || run.origin > far || run.origin < -far || run.shift > far ||
      run.shift < -far) {
    return message("a run of ", run.tokens, " slots at offset ", run.offset, " with ", run.live, " tokens cannot be");
  }
  return {};
}

/// The pages of section "page" into the store.
template <class Archive>
bool get_blocks(Archive& archive, SealedTokens& sealed, std::size_t blocks, bool verify, const auto& source) {
  const BlockBytes bytes = sealed.store().block_bytes();
  using Source = std::remove_cvref_t<decltype(source)>;
  if constexpr (MappedSource<Source>) {
    if (!archive.open(tag("page"))) return false;
    std::size_t total = 0;
    each_file_page(blocks, bytes, [&](std::size_t, std::size_t, std::size_t size) { total += size; });
    if (archive.left() != total) return archive.fail(archive.left(), " bytes for ", blocks, " blocks");
    const std::byte* data = archive.take_rest(verify);
    bool room = true;
    each_file_page(blocks, bytes, [&](std::size_t, std::size_t count, std::size_t size) {
      PageRef page = PageRef::over(data, count, bytes.page(count), source.keeper());
      room = room && page && sealed.add_filled(std::move(page), count);
      data += size;
    });
    if (!room) return archive.fail("no memory for ", blocks, " blocks");
    return archive.close();
  } else {
    if (!archive.open(tag("page"))) return false;
    if (blocks > archive.left() / (bytes.key + bytes.value))
      return archive.fail(archive.left(), " bytes for ", blocks, " blocks");
    if (!sealed.reserve(blocks, 0)) return archive.fail("no memory or no page for ", blocks, " blocks");
    std::byte padding[archive_alignment];
    each_file_page(blocks, bytes, [&](std::size_t, std::size_t count, std::size_t size) {
      std::array<SealedTokens::NewBlock, BlockStore::full_page> made{};
      for (std::size_t b = 0; b < count; ++b) made[b] = sealed.add_block();
      for (std::size_t b = 0; b < count; ++b) archive.read(made[b].keys, bytes.key);
      archive.read(padding, bytes.values_offset(count) - count * bytes.key);
      for (std::size_t b = 0; b < count; ++b) archive.read(made[b].values, bytes.value);
      archive.read(padding, size - bytes.page(count));
    });
    return archive.close();
  }
}

template <class Archive, KeyPolicy K, ValuePolicy V>
[[nodiscard]] Result<HeadCache<K, V>> read_head(Archive& archive, K keys, V values,
                                                const std::shared_ptr<const Rope>& rope,
                                                const std::shared_ptr<PageSource>& pages, bool verify_blocks) {
  if (!archive.open(tag("head"))) return archive.error();
  HeadNumbers numbers{};
  archive.read(&numbers, sizeof numbers);
  const std::string key_text = archive.get_text();
  const std::string value_text = archive.get_text();
  if (!archive.close()) return archive.error();
  if (const std::string why = mismatch(numbers, key_text, value_text, keys, values); !why.empty()) {
    return Error{Errc::bad_file, why};
  }
  const std::size_t run_tokens = keys.run_tokens();
  const bool can_move = can_compact(keys, values);
  HeadCache<K, V> head(std::move(keys), std::move(values),
                       {.sinks = numbers.sinks,
                        .recent = numbers.recent,
                        .window = static_cast<ScalarType>(numbers.window),
                        .max_tokens = numbers.max_tokens,
                        .rope = rope,
                        .pages = pages});
  TokenSequence& sequence = head.sequence();

  if (!archive.open(tag("runs"))) return archive.error();
  if (numbers.runs > archive.left() / sizeof(SavedRun)) {
    return Error{Errc::bad_file, message(numbers.runs, " runs are more than the file holds")};
  }
  std::vector<SavedRun> runs(static_cast<std::size_t>(numbers.runs));
  archive.read(runs.data(), runs.size() * sizeof(SavedRun));
  const auto dead = archive.template get_all<std::uint32_t>(numbers.blocks);
  std::uint64_t listed = 0;
  for (const SavedRun& run : runs) {
    if (run.offset != saved_compacted) continue;
    if (!can_move) return Error{Errc::bad_file, "a compacted run, of formats whose codes cannot move"};
    listed += std::min<std::uint64_t>(run.tokens, numbers.blocks * block_tokens);
  }
  const auto places = archive.template get_all<std::int64_t>(listed);
  if (!archive.close()) return archive.error();

  bool moved = false;
  if (!archive.open(tag("exct")) || !get_window(archive, sequence.kept, numbers.kept_tokens, moved) ||
      !get_window(archive, sequence.recent, numbers.recent_tokens, moved) ||
      (head.wants_saliency() && !get_saliency(archive, sequence.recent)) || !archive.close()) {
    return archive.error();
  }

  const auto blocks = static_cast<std::size_t>(numbers.blocks);
  if (!get_blocks(archive, sequence.sealed, blocks, verify_blocks, archive.source())) return archive.error();
  std::size_t block = 0, place = 0;
  for (const SavedRun& run : runs) {
    if (run.tokens == 0 || run.tokens > (dead.size() - block) * block_tokens) {
      return Error{Errc::bad_file,
                   message("a run of ", run.tokens, " slots, where ", dead.size() - block, " blocks are left")};
    }
    const bool compacted = run.offset == saved_compacted;
    const Run made{block, run.tokens, run.origin, compacted ? 0 : run.offset, run.live, run.shift};
    const auto words = std::span(dead).subspan(block, made.blocks());
    if (compacted && run.tokens > places.size() - place) {
      return Error{Errc::bad_file, message("a run of ", run.tokens, " slots, of which ", places.size() - place, " have places")};
    }
    const auto slots = std::span(places).subspan(place, compacted ? run.tokens : 0);
    place += slots.size();
    if (const std::string why = fault_of(run, words, slots, run_tokens); !why.empty()) return Error{Errc::bad_file, why};
    if (!sequence.sealed.add_run(made, words, slots))
      return Error{Errc::out_of_memory, message("no memory for ", runs.size(), " runs")};
    moved = moved || run.shift != 0;
    block += made.blocks();
  }
  if (block != dead.size()) return Error{Errc::bad_file, message(dead.size() - block, " blocks belong to no run")};
  if (moved && (rope == nullptr || numbers.rope != rope_id(rope.get()))) {
    return Error{Errc::bad_file, "tokens were moved with another Rope than LoadOptions::rope"};
  }
  sequence.next_position = numbers.next_position;
  return head;
}

}  // namespace pqkv::inline PQKV_ABI::detail
