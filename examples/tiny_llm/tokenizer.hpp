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
#include <functional>
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

namespace tokenizer_detail {

inline constexpr std::string_view lower_block = "\xe2\x96\x81";  // U+2581, SentencePiece's visible space

// ASCII classes by hand: those of <cctype> depend on the locale. Every byte from 0x80 up is "other".
inline bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
inline bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
inline bool is_other(char c) { return !is_space(c) && !is_letter(c) && !is_digit(c); }
inline bool is_word(char c) { return is_letter(c) || is_digit(c) || c == '_'; }

/// How many bytes the first piece of `text` has (0 for an empty text), by the regular expression
/// `'(?:s|t|re|ve|m|ll|d)\b| ?[A-Za-z]+| ?[0-9]{1,3}| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+`.
/// It never looks behind, so cutting pieces off the front one by one splits a whole text.
inline std::size_t piece_length(std::string_view text) {
  if (text.empty()) return 0;
  if (text[0] == '\'') {
    for (const std::string_view ending : {"s", "t", "re", "ve", "m", "ll", "d"}) {
      const std::size_t end = 1 + ending.size();
      if (text.substr(1).starts_with(ending) && (end == text.size() || !is_word(text[end]))) return end;
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
inline std::array<std::uint16_t, 256> byte_code_points() {
  std::array<std::uint16_t, 256> code_points{};
  std::uint16_t next = 256;
  for (std::uint16_t byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    code_points[byte] = visible ? byte : next++;
  }
  return code_points;
}

/// The same table as UTF-8; all code points lie below U+0800, so one or two bytes each.
inline std::array<std::string, 256> byte_characters() {
  std::array<std::string, 256> characters;
  const auto code_points = byte_code_points();
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const unsigned code_point = code_points[byte];
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

/// Lets an unordered_map of strings be asked with a string_view, without making a string for every question.
struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using TokenMap = std::unordered_map<std::string, std::uint32_t, TextHash, std::equal_to<>>;

inline constexpr std::uint32_t no_token = 0xffffffff;
inline constexpr std::size_t no_symbol = static_cast<std::size_t>(-1);

/// A stretch of the text that is one token so far, linked to its neighbours; length 0: merged into the one before.
struct Symbol {
  std::size_t begin, length;
  std::size_t previous, next;
  std::uint32_t token;
};

/// What a pair of neighbours would become; token == no_token: nothing.
struct Merge {
  double priority;  // the highest is merged first
  std::uint32_t token;
};

/// Merges the best pair of neighbours, the leftmost among equals, until none can be merged. A heap keeps it at
/// n log n: a piece can be a megabyte long (a text without ASCII letters or spaces). One object serves many pieces,
/// to keep its memory.
class Merger {
 public:
  void clear() { symbols_.clear(); }
  void add(std::size_t begin, std::size_t length, std::uint32_t token) {
    const std::size_t index = symbols_.size();
    if (index > 0) symbols_.back().next = index;
    symbols_.push_back({begin, length, index > 0 ? index - 1 : no_symbol, no_symbol, token});
  }

  /// `find(left, right)` is a Merge for two Symbols; `emit(symbol)` is called for what is left, in order.
  template <class Find, class Emit>
  void run(const Find& find, const Emit& emit) {
    heap_.clear();
    for (std::size_t index = 0; index < symbols_.size(); ++index) push(index, find);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end());
      const Candidate best = heap_.back();
      heap_.pop_back();
      Symbol& left = symbols_[best.left];
      if (left.length == 0 || left.next == no_symbol) continue;
      Symbol& right = symbols_[left.next];
      // Symbols only grow, and to the right: the same total length means that it is still the same pair.
      if (left.length + right.length != best.length) continue;
      left.length = best.length;
      left.token = best.token;
      left.next = right.next;
      right.length = 0;
      if (left.next != no_symbol) symbols_[left.next].previous = best.left;
      if (left.previous != no_symbol) push(left.previous, find);
      push(best.left, find);
    }
    for (std::size_t index = 0; index < symbols_.size(); ++index) {
      if (symbols_[index].length > 0) emit(symbols_[index]);
    }
  }

 private:
  struct Candidate {
    double priority;
    std::size_t left, length;
    std::uint32_t token;
    bool operator<(const Candidate& other) const {
      return priority != other.priority ? priority < other.priority : left > other.left;
    }
  };

  template <class Find>
  void push(std::size_t index, const Find& find) {
    const Symbol& left = symbols_[index];
    if (left.next == no_symbol) return;
    const Symbol& right = symbols_[left.next];
    const Merge merge = find(left, right);
    if (merge.token == no_token) return;
    heap_.push_back({merge.priority, index, left.length + right.length, merge.token});
    std::push_heap(heap_.begin(), heap_.end());
  }

  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace tokenizer_detail

class Tokenizer {
 public:
  static pqkv::Result<Tokenizer> make(Vocabulary vocabulary) {
    using pqkv::message;
    const auto bad_file = [](std::string text) { return pqkv::Error{pqkv::Errc::bad_file, std::move(text)}; };
    const std::size_t count = vocabulary.tokens.size();
    if (vocabulary.model != "gpt2" && vocabulary.model != "llama") {
      return bad_file(message("unknown tokenizer model '", vocabulary.model, "'; known: gpt2, llama"));
    }
    if (count == 0) return bad_file("the vocabulary has no tokens");
    if (count >= tokenizer_detail::no_token) return bad_file(message(count, " tokens are too many"));
    if (!vocabulary.types.empty() && vocabulary.types.size() != count) {
      return bad_file(message(vocabulary.types.size(), " token types for ", count, " tokens"));
    }
    for (const auto& [name, token] : {std::pair{"bos", vocabulary.bos}, std::pair{"eos", vocabulary.eos},
                                      std::pair{"unknown", vocabulary.unknown}}) {
      if (token >= static_cast<std::int64_t>(count)) {
        return bad_file(message("the ", name, " token is ", token, ", but there are ", count, " tokens"));
      }
    }
    if (vocabulary.add_bos && vocabulary.bos < 0) return bad_file("a bos token is to be added, but none is given");

    Tokenizer made;
    made.byte_level_ = vocabulary.model == "gpt2";
    made.bos_ = vocabulary.bos;
    made.eos_ = vocabulary.eos;
    made.add_bos_ = vocabulary.add_bos;
    made.add_space_prefix_ = vocabulary.add_space_prefix;
    if (vocabulary.types.empty()) {
      vocabulary.types.assign(count, 1);
      for (const std::int64_t token : {vocabulary.bos, vocabulary.eos, vocabulary.unknown}) {
        if (token >= 0) vocabulary.types[static_cast<std::size_t>(token)] = 3;
      }
    }
    const pqkv::Status status = made.byte_level_ ? made.read_byte_level(vocabulary) : made.read_llama(vocabulary);
    if (!status) return status.error();
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
  static bool is_silent(std::int32_t type) { return type == 2 || type == 3; }

  pqkv::Status read_byte_level(const Vocabulary& vocabulary) {
    using pqkv::message;
    const auto bad_file = [](std::string text) { return pqkv::Error{pqkv::Errc::bad_file, std::move(text)}; };
    const std::size_t count = vocabulary.tokens.size();
    tokenizer_detail::TokenMap tokens;
    for (std::size_t token = 0; token < count; ++token) {
      tokens.emplace(vocabulary.tokens[token], static_cast<std::uint32_t>(token));
    }
    const auto characters = tokenizer_detail::byte_characters();
    std::unordered_map<std::string_view, char> bytes;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const auto found = tokens.find(characters[byte]);
      if (found == tokens.end()) {
        return bad_file(message("byte ", byte, " ('", characters[byte], "') is not among the ", count, " tokens"));
      }
      byte_tokens_[byte] = found->second;
      bytes.emplace(characters[byte], static_cast<char>(byte));
    }
    for (std::size_t token = 0; token < count; ++token) {
      // User-defined tokens, and others with a character outside the table, are written as they are.
      const std::string& written = vocabulary.tokens[token];
      std::string text;
      bool in_table = vocabulary.types[token] != 4;
      for (std::string_view rest = written; in_table && !rest.empty();) {
        const std::size_t length = tokenizer_detail::character_length(rest);
        const auto found = bytes.find(rest.substr(0, length));
        in_table = found != bytes.end();
        if (in_table) text += found->second;
        rest.remove_prefix(length);
      }
      texts_.push_back(is_silent(vocabulary.types[token]) ? std::string() : in_table ? text : written);
    }
    for (std::size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
      const std::string& merge = vocabulary.merges[rank];
      const std::size_t space = merge.find(' ', 1);
      if (space == std::string::npos || space + 1 == merge.size()) {
        return bad_file(message("merge ", rank, " ('", merge, "') is not two tokens with a space between them"));
      }
      const std::string left = merge.substr(0, space), right = merge.substr(space + 1);
      for (const std::string& token : {left, right, left + right}) {
        if (tokens.contains(token)) continue;
        return bad_file(message("merge ", rank, " ('", merge, "'): '", token, "' is not among the ", count, " tokens"));
      }
      merges_.emplace(pair_key(tokens.find(left)->second, tokens.find(right)->second),
                      tokenizer_detail::Merge{-static_cast<double>(rank), tokens.find(left + right)->second});
    }
    return {};
  }

  pqkv::Status read_llama(const Vocabulary& vocabulary) {
    using pqkv::message;
    const std::size_t count = vocabulary.tokens.size();
    if (vocabulary.scores.size() != count) {
      return pqkv::Error{pqkv::Errc::bad_file, message(vocabulary.scores.size(), " scores for ", count, " tokens")};
    }
    byte_tokens_.fill(tokenizer_detail::no_token);
    for (std::size_t token = 0; token < count; ++token) {
      std::string text = vocabulary.tokens[token];
      const std::int32_t type = vocabulary.types[token];
      if (!std::isfinite(vocabulary.scores[token])) {
        return pqkv::Error{pqkv::Errc::invalid_data, message("the score of token ", token, " is not finite")};
      }
      if (const int byte = tokenizer_detail::byte_of_token(text); byte >= 0) {
        byte_tokens_[static_cast<std::size_t>(byte)] = static_cast<std::uint32_t>(token);
        text = static_cast<char>(byte);
      } else {
        // Only these can come out of merging: a text that spells "</s>" must not end the conversation.
        if (type == 1 || type == 4) tokens_.emplace(text, static_cast<std::uint32_t>(token));
        for (std::size_t at = 0; (at = text.find(tokenizer_detail::lower_block, at)) != std::string::npos; ++at) {
          text.replace(at, tokenizer_detail::lower_block.size(), " ");
        }
      }
      texts_.push_back(is_silent(type) ? std::string() : text);
    }
    const auto absent = std::count(byte_tokens_.begin(), byte_tokens_.end(), tokenizer_detail::no_token);
    if (absent > 0) {
      return pqkv::Error{pqkv::Errc::bad_file, message(absent, " of the 256 byte tokens <0x00> to <0xFF> are missing")};
    }
    scores_ = vocabulary.scores;
    return {};
  }

  static std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) {
    return (static_cast<std::uint64_t>(left) << 32) | right;
  }

  std::vector<std::uint32_t> encode_byte_level(std::string_view text) const {
    std::vector<std::uint32_t> encoded;
    // Most pieces are words met before: where in `encoded` their tokens stand, first and count.
    std::unordered_map<std::string_view, std::pair<std::size_t, std::size_t>> known;
    tokenizer_detail::Merger merger;
    const auto find = [&](const auto& left, const auto& right) {
      const auto found = merges_.find(pair_key(left.token, right.token));
      return found == merges_.end() ? tokenizer_detail::Merge{0, tokenizer_detail::no_token} : found->second;
    };
    while (!text.empty()) {
      const std::string_view piece = text.substr(0, tokenizer_detail::piece_length(text));
      text.remove_prefix(piece.size());
      const auto [entry, is_new] = known.try_emplace(piece, encoded.size(), 0);
      auto& [first, count] = entry->second;
      if (!is_new) {
        for (std::size_t index = 0; index < count; ++index) encoded.push_back(encoded[first + index]);
        continue;
      }
      merger.clear();
      for (std::size_t at = 0; at < piece.size(); ++at) {
        merger.add(at, 1, byte_tokens_[static_cast<unsigned char>(piece[at])]);
      }
      merger.run(find, [&](const auto& symbol) { encoded.push_back(symbol.token); });
      count = encoded.size() - first;
    }
    return encoded;
  }

  std::vector<std::uint32_t> encode_llama(std::string_view text) const {
    std::string escaped;
    if (add_space_prefix_ && !text.empty()) escaped += tokenizer_detail::lower_block;
    for (const char c : text) {
      if (c == ' ') {
        escaped += tokenizer_detail::lower_block;
      } else {
        escaped += c;
      }
    }
    const std::string_view whole = escaped;
    const auto token_of = [&](std::size_t begin, std::size_t length) {
      const auto found = tokens_.find(whole.substr(begin, length));
      return found == tokens_.end() ? tokenizer_detail::no_token : found->second;
    };
    tokenizer_detail::Merger merger;
    for (std::size_t at = 0; at < whole.size();) {
      const std::size_t length = tokenizer_detail::character_length(whole.substr(at));
      merger.add(at, length, token_of(at, length));
      at += length;
    }
    const auto find = [&](const auto& left, const auto& right) {
      const std::uint32_t token = token_of(left.begin, left.length + right.length);
      return tokenizer_detail::Merge{token == tokenizer_detail::no_token ? 0.0 : scores_[token], token};
    };
    std::vector<std::uint32_t> encoded;
    merger.run(find, [&](const auto& symbol) {
      if (symbol.token != tokenizer_detail::no_token) {
        encoded.push_back(symbol.token);
        return;
      }
      for (const char c : whole.substr(symbol.begin, symbol.length)) {
        encoded.push_back(byte_tokens_[static_cast<unsigned char>(c)]);
      }
    });
    return encoded;
  }

  Tokenizer() = default;

  bool byte_level_ = false, add_bos_ = false, add_space_prefix_ = false;
  std::int64_t bos_ = -1, eos_ = -1;
  std::vector<std::string> texts_;                                     // what decode gives
  std::array<std::uint32_t, 256> byte_tokens_{};
  std::unordered_map<std::uint64_t, tokenizer_detail::Merge> merges_;  // gpt2
  tokenizer_detail::TokenMap tokens_;                                  // llama
  std::vector<float> scores_;                                          // llama
};

}  // namespace tiny_llm
