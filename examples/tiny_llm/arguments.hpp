// The command line of tiny_llm: a command, then flags with values.
#pragma once

#include <charconv>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "pqkv/spec.hpp"

namespace tiny_llm {

inline constexpr std::string_view usage =
    R"(tiny_llm: a small CPU decoder whose KV cache and attention are pqkv.

  tiny_llm generate   --model M (--prompt TEXT | --prompt-file F) [--cache SPEC] [-n N] [--temperature T] [--top-p P]
  tiny_llm perplexity --model M --tokens F --cache SPEC [--cache SPEC …] [--context N] [--chunks N] [--from N]
                      [--prompt-tokens N] [--code-waiting 1] [--json F] [--markdown F] [--svg F]
  tiny_llm allocate   --model M --calibration F --bits B[,B…] --cache SPEC --cache SPEC … [--chunks N] [-o F]
  tiny_llm allocate   --model M --rule RULE --bits B[,B…] --cache SPEC --cache SPEC … [--context N] [-o F]
  tiny_llm calibrate  --model M --tokens F --cache SPEC [--cache SPEC …] -o FOLDER [--chunks N]
  tiny_llm dump       --model M --tokens F -o FOLDER [--context N] [--chunks N]
  tiny_llm retrieve   --model M --tokens F --cache SPEC [--cache SPEC …] [--trials N] [--code-waiting 1] [--markdown F]
  tiny_llm speed      --model M --tokens F --cache SPEC [--cache SPEC …] [--fake-history N[,N…]] [-n TOKENS]
                      [--json F] [--markdown F] [--svg F]

  --model M        a GGUF file of architecture llama, or a llama2.c checkpoint (then --tokenizer F for text)
  --cache SPEC     such as k=pq4:m=16,v=int4:g=32,sinks=4,recent=64; one per layer or kv head: SPEC;SPEC;…  (pqkv's README: grammar)
  --codebooks D    the folder that calibrate wrote; or --calibration F: tokens to train codebooks on, there and then
  --tokens F       .npy of token ids
  --chunks N       of the model's context (or --context N) each; default 40, dump and allocate 1, calibrate all
  --bits B[,B…]    bits per element all told, keys and values together, a line of -o for each; every --cache is a choice for both sides of each head
  --rule RULE      measured (default: divergence on the last --chunks of the calibration text, which train nothing here), or
                   without any text norms (Quantize What Counts), asymmetric (AsymKV), boundary (first and last layers finer)
  --from N         score positions from N on; default 0, or the prompt's tokens
  --prompt-tokens N  codebooks for each chunk from its own first N tokens: those of --codebooks or --calibration refined on
                   them, or where neither is given, trained on nothing else
  --code-waiting 1 attend through codes to tokens that wait for their block, too (nothing exact but sinks and recent)
  --fake-history N tokens drawn from the keys and values of --tokens, not run through the model; default
                   4096,16384,65536,262144; speed builds all caches at once: mind the memory
  --json F         the figures; --markdown F: as a table; --svg F: as a plot
  --threads N      default: one per core       --seed N   default 1
)";

/// One spec, or one per layer, or one per kv head.
using LayerSpecs = std::vector<pqkv::CacheSpec>;

[[nodiscard]] inline std::string text_of(const LayerSpecs& specs) {
  std::string text;
  for (const pqkv::CacheSpec& spec : specs) text += (text.empty() ? "" : ";") + spec.text;
  return text;
}

/// The same for tables: of many specs the first.
[[nodiscard]] inline std::string short_text_of(const LayerSpecs& specs) {
  return specs.size() == 1 ? specs[0].text : pqkv::message(specs[0].text, " and ", specs.size() - 1, " more");
}

class Arguments {
 public:
  /// Errors name the flag. `allowed`: flags with a value, separated by spaces.
  [[nodiscard]] static pqkv::Result<Arguments> parse(const std::vector<std::string>& words, std::string_view allowed) {
    Arguments arguments;
    for (std::size_t i = 0; i < words.size(); i += 2) {
      const std::string& flag = words[i];
      bool known = false;
      for (const std::string_view name : pqkv::detail::split(allowed, ' ')) known = known || name == flag;
      if (!known) return bad("unknown argument '", flag, "' here; it takes ", allowed);
      if (i + 1 == words.size()) return bad(flag, " needs a value");
      if (flag != "--cache" && arguments.values_.contains(flag)) return bad(flag, " is given twice");
      arguments.values_.emplace(flag, words[i + 1]);
    }
    return arguments;
  }

  [[nodiscard]] bool has(const std::string& flag) const { return values_.contains(flag); }
  [[nodiscard]] std::string text(const std::string& flag, const std::string& fallback = "") const {
    const auto at = values_.find(flag);
    return at == values_.end() ? fallback : at->second;
  }
  [[nodiscard]] pqkv::Result<std::string> required(const std::string& flag) const {
    if (!has(flag)) return bad(flag, " is missing; see --help");
    return text(flag);
  }
  [[nodiscard]] pqkv::Result<std::size_t> whole(const std::string& flag, std::size_t fallback) const {
    if (!has(flag)) return fallback;
    const auto number = pqkv::parse_number(text(flag), flag);
    if (!number) return number.error();
    return *number;
  }
  [[nodiscard]] pqkv::Result<double> real(const std::string& flag, double fallback) const {
    if (!has(flag)) return fallback;
    return parse_real(flag, text(flag));
  }
  /// Numbers separated by commas.
  [[nodiscard]] pqkv::Result<std::vector<double>> reals(const std::string& flag) const {
    const auto list = required(flag);
    if (!list) return list.error();
    std::vector<double> numbers;
    for (const std::string_view one : pqkv::detail::split(*list, ',')) {
      const auto number = parse_real(flag, one);
      if (!number) return number.error();
      numbers.push_back(*number);
    }
    return numbers;
  }
  /// Every --cache, each one spec, one per layer or one per kv head.
  [[nodiscard]] pqkv::Result<std::vector<LayerSpecs>> caches(const std::string& fallback = "") const {
    std::vector<std::string> texts;
    const auto [first, last] = values_.equal_range("--cache");
    for (auto at = first; at != last; ++at) texts.push_back(at->second);
    if (texts.empty() && !fallback.empty()) texts.push_back(fallback);
    if (texts.empty()) return bad("--cache is missing; see --help");
    std::vector<LayerSpecs> caches;
    for (const std::string& text : texts) {
      auto& layers = caches.emplace_back();
      for (const std::string_view one : pqkv::detail::split(text, ';')) {
        auto spec = pqkv::parse_cache_spec(one);
        if (!spec) return bad("--cache: ", spec.error().message);
        layers.push_back(std::move(*spec));
      }
    }
    return caches;
  }

  template <class... Parts>
  [[nodiscard]] static pqkv::Error bad(const Parts&... parts) {
    return {pqkv::Errc::invalid_parameter, pqkv::message(parts...)};
  }

 private:
  [[nodiscard]] static pqkv::Result<double> parse_real(const std::string& flag, std::string_view value) {
    double number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc{} || end != value.data() + value.size() || !(number >= 0)) {
      return bad(flag, ": '", value, "' is not a number ≥ 0");
    }
    return number;
  }

  std::multimap<std::string, std::string> values_;
};

}  // namespace tiny_llm
