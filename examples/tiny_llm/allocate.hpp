// Which format each side of each head gets within a budget of bits: by the divergence that a format causes there alone, or
// by the rules published before.
#pragma once

#include <fmt/format.h>
#include <pqkv/measure/allocate.hpp>

#include <string>
#include <vector>

#include "tiny_llm/perplexity.hpp"

namespace tiny_llm {

/// Slot 2·(layer·kv_heads + head) is the keys of a head, the next one its values; choice i is what ladder[i] has there.
using Slots = std::vector<std::vector<pqkv::FormatChoice>>;

/// A codebook of the shape that a format asks for, all zeros: its bits are those of a trained one.
[[nodiscard]] inline pqkv::CodebookSource untrained_codebooks(const Model& model) {
  return [&model](std::size_t, std::size_t, pqkv::Side, const pqkv::CodebookRequest& request) {
    std::shared_ptr<const pqkv::CodeSpace> space;
    if (request.fit.any()) {
      pqkv::CodeSpaceParts parts;
      parts.dim = request.shape.dim;
      if (request.fit.run_tokens != 0) {
        parts.rope = rope_of(model);
        parts.run_tokens = request.fit.run_tokens;
        parts.term_rows.resize(request.fit.run_tokens);
        parts.term_basis.resize(parts.dim);
      }
      if (request.fit.centre) parts.mean.resize(parts.dim);
      parts.unit_length = request.fit.gain;
      if (auto made = pqkv::CodeSpace::make(std::move(parts))) space = std::move(*made);
    }
    auto book = pqkv::Codebook::make(request.shape, std::vector<float>(request.shape.floats()), std::move(space));
    return book ? std::move(*book) : nullptr;
  };
}

/// Bits of every choice, errors 0. Every ladder entry is one spec for all heads. Errors: as make_sequence.
[[nodiscard]] inline pqkv::Result<Slots> slots_of(const Model& model, const std::vector<LayerSpecs>& ladder,
                                                  const pqkv::CodebookSource& books, std::size_t context) {
  Slots slots(2 * model.layers_count * model.kv_heads);
  for (const LayerSpecs& specs : ladder) {
    const auto sequence = make_sequence(model, specs, books, 1, 1);
    if (!sequence) return sequence.error();
    for (std::size_t h = 0; h < slots.size() / 2; ++h) {
      const auto& head = sequence->cache.head(h / model.kv_heads, h % model.kv_heads);
      const auto bits = [&](std::size_t block_bytes, std::size_t run) {
        return pqkv::bits_per_element(context, model.dim, specs[0].options, block_bytes, run);
      };
      slots[2 * h].push_back({bits(head.keys().block_bytes(), head.keys().run_tokens()), 0});
      slots[2 * h + 1].push_back({bits(head.values().block_bytes(), head.keys().run_tokens()), 0});
    }
  }
  return slots;
}

/// Fills in the errors: the mean divergence from the exact cache with one slot compressed and all else exact, from a
/// quarter of each chunk on.
[[nodiscard]] inline pqkv::Status measure_slots(const Model& model, const std::vector<std::span<const std::uint32_t>>& chunks,
                                                const std::vector<LayerSpecs>& ladder, const Books& books,
                                                const pqkv::AttendOptions& options, const common::Workers& workers,
                                                common::ProgressBar* progress, Slots& slots) {
  const LayerSpecs exact{*pqkv::parse_cache_spec("k=exact:f32,v=exact:f32")};
  for (const auto& chunk : chunks) {
    auto reference = make_sequence(model, exact, {}, workers.workers());
    if (!reference) return reference.error();
    const auto exact_logits = forward(model, *reference, chunk, true, {}, {}, workers);
    if (!exact_logits) return exact_logits.error();
    std::vector<pqkv::Status> failures(slots.size() * ladder.size());
    workers.run(failures.size(), [&](std::size_t task, std::size_t) {
      const std::size_t slot = task / ladder.size(), choice = task % ladder.size();
      LayerSpecs specs(slots.size() / 2, exact[0]);
      for (pqkv::CacheSpec& spec : specs) spec.options = ladder[choice][0].options;
      pqkv::CacheSpec& mine = specs[slot / 2];
      (slot % 2 == 0 ? mine.keys : mine.values) = slot % 2 == 0 ? ladder[choice][0].keys : ladder[choice][0].values;
      auto sequence = make_sequence(model, specs, books.source());
      if (!sequence) return void(failures[task] = sequence.error());
      const auto scores = detail::score_chunk(model, *sequence, chunk, *exact_logits, chunk.size() / 4, options);
      if (!scores) return void(failures[task] = scores.error());
      double sum = 0;
      for (const double divergence : scores->divergence) sum += divergence;
      slots[slot][choice].error += sum / static_cast<double>(scores->divergence.size() * chunks.size());
      if (progress != nullptr) progress->advance(pqkv::message("head ", slot / 2, slot % 2 == 0 ? " keys" : " values"));
    });
    for (const pqkv::Status& failure : failures) {
      if (!failure) return failure;
    }
  }
  return {};
}

/// The choice of each slot by one of the published rules. Errors: invalid_parameter.
[[nodiscard]] inline pqkv::Result<std::vector<std::size_t>> allocate_by_rule(const Model& model, const Slots& slots,
                                                                             const std::string& rule, double bits) {
  std::vector<std::size_t> chosen(slots.size());
  if (rule == "norms") {
    std::vector<double> norms;
    for (std::size_t s = 0; s < slots.size(); ++s) {
      const Layer& layer = model.layers[s / 2 / model.kv_heads];
      norms.push_back(static_cast<double>((s % 2 == 0 ? layer.key : layer.value).squaredNorm()));
    }
    return pqkv::allocate_by_norms(norms, slots, bits);
  }
  if (rule != "asymmetric" && rule != "boundary") {
    return Arguments::bad("--rule ", rule, ": choose measured, norms, asymmetric or boundary");
  }
  if (slots[0].size() != 2) return Arguments::bad("--rule ", rule, " chooses between two --cache, a coarse one and a fine one");
  const auto order = rule == "asymmetric" ? pqkv::asymmetric_order(model.layers_count) : pqkv::boundary_order(model.layers_count);
  std::vector<double> coarse, fine;  // of a layer's keys and values: the ladder is the same for all heads
  for (std::size_t layer = 0; layer < model.layers_count; ++layer) {
    for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
      coarse.push_back(slots[side][0].bits);
      fine.push_back(slots[side][1].bits);
    }
  }
  const auto finer = pqkv::allocate_in_turn(order, coarse, fine, bits);
  if (!finer) return finer.error();
  for (std::size_t s = 0; s < slots.size(); ++s) chosen[s] = (*finer)[s / 2 / model.kv_heads * 2 + s % 2] ? 1 : 0;
  return chosen;
}

/// One spec per head, as --cache takes them.
[[nodiscard]] inline std::string allocated_text(const std::vector<LayerSpecs>& ladder, const std::vector<std::size_t>& chosen) {
  // "k=…" or "v=…" of a spec, and what follows the formats (windows).
  const auto item = [&](std::size_t choice, std::string_view key) {
    std::string found, rest;
    for (const std::string_view piece : pqkv::detail::split(ladder[choice][0].text, ',')) {
      const bool format = piece.starts_with("k=") || piece.starts_with("v=");
      if (piece.starts_with(key)) found = piece;
      if (format) continue;
      rest += ',';
      rest += piece;
    }
    return key.empty() ? rest : found;
  };
  std::string text;
  for (std::size_t h = 0; h < chosen.size() / 2; ++h) {
    text += pqkv::message(h == 0 ? "" : ";", item(chosen[2 * h], "k="), ",", item(chosen[2 * h + 1], "v="), item(0, ""));
  }
  return text;
}

/// Per slot the errors of its choices, the chosen one marked.
[[nodiscard]] inline std::string table_text(const Model& model, const Slots& slots, const std::vector<std::size_t>& chosen) {
  std::string text = "layer head side   bits: divergence with this alone compressed (*: chosen)\n";
  double bits = 0, error = 0;
  for (std::size_t s = 0; s < slots.size(); ++s) {
    text += fmt::format("{:>5} {:>4} {:<6}", s / 2 / model.kv_heads, s / 2 % model.kv_heads, s % 2 == 0 ? "keys" : "values");
    for (std::size_t i = 0; i < slots[s].size(); ++i) {
      text += fmt::format("  {:.2f}: {:.5f}{}", slots[s][i].bits, slots[s][i].error, i == chosen[s] ? "*" : " ");
    }
    text += "\n";
    bits += slots[s][chosen[s]].bits / static_cast<double>(slots.size());
    error += slots[s][chosen[s]].error;
  }
  return text + fmt::format("{:.3f} bits per element, divergences sum up to {:.5f}\n", bits, error);
}

}  // namespace tiny_llm
