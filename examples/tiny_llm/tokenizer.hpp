// Text to tokens and back, from the vocabulary that a GGUF file carries: byte-level BPE as in GPT-2, and
// SentencePiece-style BPE as in Llama 2. Both merge the best adjacent pair again and again; they differ in what they
// start from (bytes of one piece of a split text; characters of the whole text) and in what "best" means (the order
// of the merges; the score of the token that comes out). Not here: normalisation of Unicode, other splitting rules,
// and control tokens written out in a text, which are encoded as the ordinary characters they are made of.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pqkv/base/result.hpp"

namespace tiny_llm {

/// As read from a GGUF file's metadata.
struct Vocabulary {
  std::string model;                // tokenizer.ggml.model: "gpt2" (byte-level BPE) or "llama" (SentencePiece-style)
  std::vector<std::string> tokens;
  std::vector<float> scores;        // llama: per token; not looked at for gpt2
  std::vector<std::int32_t> types;  // may be empty; 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::vector<std::string> merges;  // gpt2: "left right" in order of priority
  std::int64_t bos = -1, eos = -1, unknown = -1;
  bool add_bos = false, add_space_prefix = true;
};

namespace bpe {

inline constexpr std::string_view lower_block = "\xe2\x96\x81";  // U+2581, SentencePiece's visible space

// ASCII classes by hand: those of <cctype> depend on the locale. Every byte from 0x80 up is "other".
inline bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
inline bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
inline bool is_other(char c) { return !is_space(c) && !is_letter(c) && !is_digit(c); }

/// How many bytes the first piece of `text` has (0 for an empty text), by the regular expression
/// `'(?:s|t|re|ve|m|ll|d)\b| ?[A-Za-z]+| ?[0-9]{1,3}| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+`.
/// It never looks behind, so cutting pieces off the front one by one splits a whole text.
inline std::size_t piece_length(std::string_view text) {
  if (text.empty()) return 0;
  if (text[0] == '\'') {
    for (const std::string_view ending : {"s", "t", "re", "ve", "m", "ll", "d"}) {
      const std::size_t end = 1 + ending.size();
      if (text.substr(1, ending.size()) != ending) continue;
      if (end == text.size() || is_space(text[end]) || (is_other(text[end]) && text[end] != '_')) return end;
    }
  }
  const auto run_end = [&](std::size_t begin, auto&& in_class, std::size_t limit = std::string_view::npos) {
    std::size_t end = begin;
    while (end < text.size() && end - begin < limit && in_class(text[end])) ++end;
    return end;
  };
  // A lone space before a run belongs to it. Without the run the optional space cannot help: it is in no class.
  const std::size_t first = text[0] == ' ' ? 1 : 0;
  if (const std::size_t end = run_end(first, is_letter); end > first) return end;
  if (const std::size_t end = run_end(first, is_digit, 3); end > first) return end;
  if (const std::size_t end = run_end(first, is_other); end > first) return end;
  // `\s+(?!\S)` gives its last whitespace back to the piece that follows; of a single one `\s+` takes it after all.
  const std::size_t end = run_end(0, is_space);
  return end < text.size() && end > 1 ? end - 1 : end;
}

/// GPT-2 writes every byte as one visible character: printable bytes as themselves, the others as U+0100 onwards.
/// As UTF-8 that is one or two bytes each.
inline std::array<std::string, 256> byte_characters() {
  std::array<std::string, 256> characters;
  unsigned next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    const unsigned code_point = visible ? byte : next++;
    if (code_point >= 0x80) characters[byte] += static_cast<char>(0xc0 | (code_point >> 6));
    characters[byte] += static_cast<char>(code_point < 0x80 ? code_point : 0x80 | (code_point & 0x3f));
  }
  return characters;
}

/// The byte NN of a token "<0xNN>", or -1.
inline int byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  constexpr std::string_view digits = "0123456789ABCDEF";
  const std::size_t high = digits.find(token[3]), low = digits.find(token[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) return -1;
  return static_cast<int>(high * 16 + low);
}

/// Bytes of the UTF-8 character at the front of a text that is not empty. Of broken UTF-8 it takes a shorter one,
/// never the bytes of a character that follows.
inline std::size_t character_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t wanted = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  std::size_t length = 1;
  while (length < wanted && length < text.size() && (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80) ++length;
  return length;
}

inline constexpr std::uint32_t no_token = 0xffffffff;

/// A stretch of the text that is one token so far, linked to its neighbours; length 0: merged into the one before.
struct Symbol {
  std::size_t begin, length;
  std::uint32_t token;
  std::size_t previous = 0, next = 0;
};

/// What a pair of neighbours would become; token == no_token: nothing. The highest priority is merged first.
struct Merge {
  double priority = 0;
  std::uint32_t token = no_token;
};

/// Merges the best pair of neighbours, the leftmost among equals, until none can be merged. `find(left, right)` is
/// the Merge of two Symbols. A heap keeps it at n log n: a piece can be megabytes long (no ASCII letter, no space).
template <class Find>
void merge_pairs(std::vector<Symbol>& symbols, const Find& find) {
  struct Candidate {
    Merge merge;
    std::size_t left, length;
    bool operator<(const Candidate& other) const {
      return merge.priority != other.merge.priority ? merge.priority < other.merge.priority : left > other.left;
    }
  };
  std::priority_queue<Candidate> candidates;
  const std::size_t none = symbols.size();
  const auto consider = [&](std::size_t index) {
    if (index == none || symbols[index].next == none) return;
    const Symbol &left = symbols[index], &right = symbols[left.next];
    const Merge merge = find(left, right);
    if (merge.token != no_token) candidates.push({merge, index, left.length + right.length});
  };
  for (std::size_t index = 0; index < none; ++index) {
    symbols[index].previous = index == 0 ? none : index - 1;
    symbols[index].next = index + 1;
  }
  for (std::size_t index = 0; index < none; ++index) consider(index);
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = symbols[best.left];
    if (left.length == 0 || left.next == none) continue;
    Symbol& right = symbols[left.next];
    // Symbols only grow, and to the right: the same total length means that it is still the same pair.
    if (left.length + right.length != best.length) continue;
    left.length = best.length;
    left.token = best.merge.token;
    left.next = right.next;
    right.length = 0;
    if (left.next != none) symbols[left.next].previous = best.left;
    consider(left.previous);
    consider(best.left);
  }
  std::erase_if(symbols, [](const Symbol& symbol) { return symbol.length == 0; });
}

template <class... Parts>
pqkv::Error bad_file(const Parts&... parts) {
  return {pqkv::Errc::bad_file, pqkv::message(parts...)};
}

}  // namespace bpe

class Tokenizer {
 public:
  static pqkv::Result<Tokenizer> make(Vocabulary vocabulary) {
    const std::size_t count = vocabulary.tokens.size();
    if (vocabulary.model != "gpt2" && vocabulary.model != "llama") {
      return bpe::bad_file("unknown tokenizer model '", vocabulary.model, "'; known: gpt2, llama");
    }
    if (count == 0) return bpe::bad_file("the vocabulary has no tokens");
    if (!vocabulary.types.empty() && vocabulary.types.size() != count) {
      return bpe::bad_file(vocabulary.types.size(), " token types for ", count, " tokens");
    }
    for (const std::int64_t token : {vocabulary.bos, vocabulary.eos, vocabulary.unknown}) {
      if (token < static_cast<std::int64_t>(count)) continue;
      return bpe::bad_file("bos, eos or unknown is token ", token, ", but there are ", count, " tokens");
    }
    if (vocabulary.add_bos && vocabulary.bos < 0) return bpe::bad_file("a bos token is to be added, but none is given");
    if (vocabulary.types.empty()) {
      vocabulary.types.assign(count, 1);
      for (const std::int64_t token : {vocabulary.bos, vocabulary.eos, vocabulary.unknown}) {
        if (token >= 0) vocabulary.types[static_cast<std::size_t>(token)] = 3;
      }
    }
    Tokenizer made(vocabulary);
    const pqkv::Status status = made.byte_level_ ? made.read_byte_level(vocabulary) : made.read_llama(vocabulary);
    if (!status) return status.error();
    for (std::size_t token = 0; token < count; ++token) {
      if (vocabulary.types[token] == 2 || vocabulary.types[token] == 3) made.texts_[token].clear();
    }
    return made;
  }

  /// No bos is added. Of a llama vocabulary with add_space_prefix, a text that is not empty gets a space in front.
  std::vector<std::uint32_t> encode(std::string_view text) const {
    return byte_level_ ? encode_byte_level(text) : encode_llama(text);
  }

  /// The bytes of one token, perhaps a part of a UTF-8 character. Control tokens, the unknown token and numbers
  /// beyond the vocabulary give "".
  std::string decode(std::uint32_t token) const { return token < texts_.size() ? texts_[token] : std::string(); }

  std::size_t size() const { return texts_.size(); }
  std::int64_t bos() const { return bos_; }
  std::int64_t eos() const { return eos_; }
  bool add_bos() const { return add_bos_; }

 private:
  explicit Tokenizer(const Vocabulary& from)
      : byte_level_(from.model == "gpt2"), add_bos_(from.add_bos), add_space_prefix_(from.add_space_prefix),
        bos_(from.bos), eos_(from.eos) {}

  pqkv::Status read_byte_level(const Vocabulary& vocabulary) {
    const std::size_t count = vocabulary.tokens.size();
    std::unordered_map<std::string_view, std::uint32_t> tokens, bytes;
    for (std::uint32_t token = 0; token < count; ++token) tokens.emplace(vocabulary.tokens[token], token);
    const auto characters = bpe::byte_characters();
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      const auto found = tokens.find(characters[byte]);
      if (found == tokens.end()) {
        return bpe::bad_file("byte ", byte, " ('", characters[byte], "') is not among the ", count, " tokens");
      }
      byte_tokens_[byte] = found->second;
      bytes.emplace(characters[byte], byte);
    }
    for (std::size_t token = 0; token < count; ++token) {
      // User-defined tokens, and others with a character outside the table, are written as they are.
      std::string_view rest = vocabulary.tokens[token];
      std::string& text = texts_.emplace_back();
      bool in_table = vocabulary.types[token] != 4;
      for (std::size_t length = 0; in_table && !rest.empty(); rest.remove_prefix(length)) {
        length = bpe::character_length(rest);
        const auto found = bytes.find(rest.substr(0, length));
        in_table = found != bytes.end();
        if (in_table) text += static_cast<char>(found->second);
      }
      if (!in_table) text = vocabulary.tokens[token];
    }
    for (std::size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
      const std::string& merge = vocabulary.merges[rank];
      const std::size_t space = merge.find(' ', 1);
      const std::string left = merge.substr(0, space), right = merge.substr(space + 1);
      const auto first = tokens.find(left), second = tokens.find(right), both = tokens.find(left + right);
      if (space == merge.npos || first == tokens.end() || second == tokens.end() || both == tokens.end()) {
        return bpe::bad_file("merge ", rank, " ('", merge, "') is not two of the ", count, " tokens that make a third");
      }
      pairs_.emplace(pair_key(first->second, second->second), bpe::Merge{-static_cast<double>(rank), both->second});
    }
    return {};
  }

  pqkv::Status read_llama(const Vocabulary& vocabulary) {
    const std::size_t count = vocabulary.tokens.size();
    if (vocabulary.scores.size() != count) {
      return bpe::bad_file(vocabulary.scores.size(), " scores for ", count, " tokens");
    }
    byte_tokens_.fill(bpe::no_token);
    for (std::uint32_t token = 0; token < count; ++token) {
      std::string text = vocabulary.tokens[token];
      const std::int32_t type = vocabulary.types[token];
      const float score = vocabulary.scores[token];
      if (!std::isfinite(score)) return bpe::bad_file("the score of token ", token, " is not finite");
      if (const int byte = bpe::byte_of_token(text); byte >= 0) {
        byte_tokens_[static_cast<std::size_t>(byte)] = token;
        text.assign(1, static_cast<char>(byte));
      } else {
        // Only these can come out of merging: a text that spells "</s>" must not end the conversation.
        if (type == 1 || type == 4) made_by_text_.emplace(text, bpe::Merge{score, token});
        for (std::size_t at = 0; (at = text.find(bpe::lower_block, at)) != std::string::npos; ++at) {
          text.replace(at, bpe::lower_block.size(), 1, ' ');
        }
      }
      texts_.push_back(std::move(text));
    }
    const auto absent = std::count(byte_tokens_.begin(), byte_tokens_.end(), bpe::no_token);
    if (absent > 0) return bpe::bad_file(absent, " of the 256 byte tokens <0x00> to <0xFF> are missing");
    return {};
  }

  std::vector<std::uint32_t> encode_byte_level(std::string_view text) const {
    std::vector<std::uint32_t> encoded;
    // Most pieces are words met before: where in `encoded` their tokens stand, first and count.
    std::unordered_map<std::string_view, std::pair<std::size_t, std::size_t>> known;
    std::vector<bpe::Symbol> symbols;
    while (!text.empty()) {
      const std::string_view piece = text.substr(0, bpe::piece_length(text));
      text.remove_prefix(piece.size());
      const auto [entry, is_new] = known.try_emplace(piece, encoded.size(), 0);
      auto& [first, count] = entry->second;
      for (std::size_t index = first; index < first + count; ++index) encoded.push_back(encoded[index]);
      if (!is_new) continue;
      symbols.clear();
      for (const char c : piece) symbols.push_back({symbols.size(), 1, byte_token(c)});
      bpe::merge_pairs(symbols, [&](const auto& left, const auto& right) {
        const auto found = pairs_.find(pair_key(left.token, right.token));
        return found == pairs_.end() ? bpe::Merge{} : found->second;
      });
      for (const auto& symbol : symbols) encoded.push_back(symbol.token);
      count = encoded.size() - first;
    }
    return encoded;
  }

  std::vector<std::uint32_t> encode_llama(std::string_view text) const {
    std::string whole;
    if (add_space_prefix_ && !text.empty()) whole += bpe::lower_block;
    for (const char c : text) whole += c == ' ' ? bpe::lower_block : std::string_view(&c, 1);
    const auto merge_into = [&](std::size_t begin, std::size_t length) {
      const auto found = made_by_text_.find(whole.substr(begin, length));
      return found == made_by_text_.end() ? bpe::Merge{} : found->second;
    };
    std::vector<bpe::Symbol> symbols;
    for (std::size_t at = 0; at < whole.size(); at += symbols.back().length) {
      const std::size_t length = bpe::character_length(std::string_view(whole).substr(at));
      symbols.push_back({at, length, merge_into(at, length).token});
    }
    bpe::merge_pairs(symbols, [&](const auto& left, const auto& right) {
      return merge_into(left.begin, left.length + right.length);
    });
    std::vector<std::uint32_t> encoded;
    for (const auto& symbol : symbols) {
      if (symbol.token != bpe::no_token) {
        encoded.push_back(symbol.token);
      } else {
        for (const char c : whole.substr(symbol.begin, symbol.length)) encoded.push_back(byte_token(c));
      }
    }
    return encoded;
  }

  std::uint32_t byte_token(char c) const { return byte_tokens_[static_cast<unsigned char>(c)]; }
  static std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) { return std::uint64_t{left} << 32 | right; }

  bool byte_level_, add_bos_, add_space_prefix_;
  std::int64_t bos_, eos_;
  std::vector<std::string> texts_;  // what decode gives
  std::array<std::uint32_t, 256> byte_tokens_{};
  std::unordered_map<std::uint64_t, bpe::Merge> pairs_;       // gpt2: by left and right token
  std::unordered_map<std::string, bpe::Merge> made_by_text_;  // llama: by what the pair spells
};

}  // namespace tiny_llm
