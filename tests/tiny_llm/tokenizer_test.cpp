// The tokenizer of the tiny_llm example, on vocabularies small enough to be worked out by hand.
#include "tiny_llm/tokenizer.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "catch.hpp"

using tiny_llm::Tokenizer;
using tiny_llm::Vocabulary;
using Tokens = std::vector<std::uint32_t>;

namespace {

constexpr const char* space_character = "\xc4\xa0";  // how GPT-2 writes a space: U+0120
constexpr const char* block = "\xe2\x96\x81";        // how SentencePiece does: U+2581

// Token b is byte b; a merge's result is a token in the order of the merges, from 256; the last token is control.
Vocabulary byte_level(const std::vector<std::string>& merges) {
  Vocabulary vocabulary;
  vocabulary.model = "gpt2";
  for (const std::string& character : tiny_llm::bpe::byte_characters()) vocabulary.tokens.push_back(character);
  for (const std::string& merge : merges) {
    std::string token = merge;
    vocabulary.tokens.push_back(token.erase(token.find(' '), 1));
  }
  vocabulary.tokens.push_back("<|end|>");
  vocabulary.merges = merges;
  vocabulary.types.assign(vocabulary.tokens.size(), 1);
  vocabulary.types.back() = 3;
  vocabulary.eos = static_cast<std::int64_t>(vocabulary.tokens.size()) - 1;
  return vocabulary;
}

// <unk>, <s>, </s>, then byte b is token 3 + b, then the tokens with scores, from 259.
Vocabulary llama(const std::vector<std::pair<std::string, float>>& tokens) {
  Vocabulary vocabulary;
  vocabulary.model = "llama";
  vocabulary.tokens = {"<unk>", "<s>", "</s>"};
  vocabulary.types = {2, 3, 3};
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char* digits = "0123456789ABCDEF";
    vocabulary.tokens.push_back(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + '>');
    vocabulary.types.push_back(6);
  }
  vocabulary.scores.assign(vocabulary.tokens.size(), 0);
  for (const auto& [token, score] : tokens) {
    vocabulary.tokens.push_back(token);
    vocabulary.types.push_back(1);
    vocabulary.scores.push_back(score);
  }
  vocabulary.unknown = 0;
  vocabulary.bos = 1;
  vocabulary.eos = 2;
  vocabulary.add_bos = true;
  return vocabulary;
}

Tokenizer tokenizer_of(const Vocabulary& vocabulary) {
  auto made = Tokenizer::make(vocabulary);
  INFO((made ? std::string("made") : made.error().message));
  REQUIRE(made.has_value());
  return *made;
}

std::string decode_all(const Tokenizer& tokenizer, const Tokens& tokens) {
  std::string text;
  for (const std::uint32_t token : tokens) text += tokenizer.decode(token);
  return text;
}

std::vector<std::string> pieces_of(std::string_view text) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    const std::size_t length = tiny_llm::bpe::piece_length(text);
    REQUIRE(length > 0);
    pieces.emplace_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return pieces;
}

// Random bytes, and every third time a text of few characters, so that merges and runs happen.
std::string random_text(std::mt19937& random, std::size_t length, bool few) {
  static constexpr std::string_view common = "aabn  '\n";
  std::string text;
  for (std::size_t at = 0; at < length; ++at) {
    text += few ? common[random() % common.size()] : static_cast<char>(random() & 0xff);
  }
  return text;
}

}  // namespace

TEST_CASE("a text is split before byte pairs are merged") {
  using Pieces = std::vector<std::string>;
  CHECK(pieces_of("") == Pieces{});
  CHECK(pieces_of("Hello world") == Pieces{"Hello", " world"});
  CHECK(pieces_of(" a, b.") == Pieces{" a", ",", " b", "."});
  CHECK(pieces_of("snake_case") == Pieces{"snake", "_", "case"});

  // Contractions, in lower case only, and only before the end of a word.
  CHECK(pieces_of("it's") == Pieces{"it", "'s"});
  CHECK(pieces_of("we're they've I'm he'll I'd don't") ==
        Pieces{"we", "'re", " they", "'ve", " I", "'m", " he", "'ll", " I", "'d", " don", "'t"});
  CHECK(pieces_of("a's'b") == Pieces{"a", "'s", "'", "b"});
  CHECK(pieces_of("'so'") == Pieces{"'", "so", "'"});
  CHECK(pieces_of("'s1 's_ 's-") == Pieces{"'", "s", "1", " '", "s", "_", " '", "s", "-"});
  CHECK(pieces_of("'t_'d-'m\xc3\xa9") == Pieces{"'", "t", "_'", "d", "-'", "m", "\xc3\xa9"});
  CHECK(pieces_of("'d-") == Pieces{"'d", "-"});
  CHECK(pieces_of("'m\xc3\xa9") == Pieces{"'m", "\xc3\xa9"});
  CHECK(pieces_of("IT'S 'l 'r") == Pieces{"IT", "'", "S", " '", "l", " '", "r"});
  CHECK(pieces_of("''s") == Pieces{"''", "s"});

  // Digits in threes; only the first three may have a space.
  CHECK(pieces_of("1234567") == Pieces{"123", "456", "7"});
  CHECK(pieces_of("in 1861, 12a") == Pieces{"in", " 186", "1", ",", " 12", "a"});

  // A run of whitespace leaves its last to the piece that follows, which takes it if it is a space.
  CHECK(pieces_of("a   b") == Pieces{"a", "  ", " b"});
  CHECK(pieces_of("a\n\nb") == Pieces{"a", "\n", "\n", "b"});
  CHECK(pieces_of("a\nb") == Pieces{"a", "\n", "b"});
  CHECK(pieces_of("a \n b") == Pieces{"a", " \n", " b"});
  CHECK(pieces_of("a \tb") == Pieces{"a", " ", "\t", "b"});
  CHECK(pieces_of("a  \n") == Pieces{"a", "  \n"});
  CHECK(pieces_of(" ") == Pieces{" "});
  CHECK(pieces_of("\r\n\v\f\t ") == Pieces{"\r\n\v\f\t "});

  // Bytes beyond ASCII, and NUL, are neither letters nor whitespace (here: a no-break space).
  CHECK(pieces_of("caf\xc3\xa9s") == Pieces{"caf", "\xc3\xa9", "s"});
  CHECK(pieces_of("a \xe2\x80\x94!b") == Pieces{"a", " \xe2\x80\x94!", "b"});
  CHECK(pieces_of("a\xc2\xa0 b") == Pieces{"a", "\xc2\xa0", " b"});
  CHECK(pieces_of(std::string("a\0b", 3)) == Pieces{"a", std::string("\0", 1), "b"});
}

TEST_CASE("GPT-2's table of bytes") {
  const auto characters = tiny_llm::bpe::byte_characters();
  CHECK(characters[0] == "\xc4\x80");     // U+0100
  CHECK(characters['\n'] == "\xc4\x8a");  // U+010A
  CHECK(characters[' '] == space_character);
  CHECK(characters['!'] == "!");
  CHECK(characters['~'] == "~");
  CHECK(characters[0x7f] == "\xc4\xa1");  // U+0121
  CHECK(characters[0xa0] == "\xc5\x82");  // U+0142
  CHECK(characters[0xa1] == "\xc2\xa1");  // itself
  CHECK(characters[0xad] == "\xc5\x83");  // U+0143, the last
  CHECK(characters[0xff] == "\xc3\xbf");
}

TEST_CASE("byte-level merges, lowest rank first") {
  // 256 "an", 257 "na", 258 "ana", 259 "ban", 260 " b", 261 "aa", 262 control
  const std::string space_b = std::string(space_character) + " b";
  const Tokenizer tokenizer = tokenizer_of(byte_level({"a n", "n a", "an a", "b an", space_b, "a a"}));
  CHECK(tokenizer.size() == 263);
  CHECK(tokenizer.bos() == -1);
  CHECK(tokenizer.eos() == 262);
  CHECK_FALSE(tokenizer.add_bos());
  CHECK(tokenizer.encode("").empty());
  // b a n a n a → b an an a → b an ana (rank 2 before "b an") → ban ana
  CHECK(tokenizer.encode("banana") == Tokens{259, 258});
  // n a n a → n an a ("an" before "na") → n ana
  CHECK(tokenizer.encode("nana") == Tokens{'n', 258});
  // an + an has no merge; overlapping pairs go from the left
  CHECK(tokenizer.encode("anan") == Tokens{256, 256});
  CHECK(tokenizer.encode("aaa") == Tokens{261, 'a'});
  CHECK(tokenizer.encode("aaaa") == Tokens{261, 261});
  // " banana": "an" and "ana" first, then "ban" (rank 3) takes the b before " b" can
  CHECK(tokenizer.encode(" banana") == Tokens{' ', 259, 258});
  CHECK(tokenizer.encode(" bb") == Tokens{260, 'b'});
  // pieces are merged apart; the second " bb" comes from memory
  CHECK(tokenizer.encode("a\nn bb bb") == Tokens{'a', '\n', 'n', 260, 'b', 260, 'b'});
  CHECK(tokenizer.encode("\xff") == Tokens{0xff});
  // the second merge must find what the first one made on its left
  CHECK(tokenizer_of(byte_level({"a b", "c d", "ab cd"})).encode("abcd") == Tokens{258});
  // a control token cannot be written
  CHECK(tokenizer.encode("<|end|>") == Tokens{'<', '|', 'e', 'n', 'd', '|', '>'});

  CHECK(tokenizer.decode(260) == " b");
  CHECK(tokenizer.decode(0xc3) == "\xc3");
  CHECK(tokenizer.decode(262).empty());
  CHECK(tokenizer.decode(263).empty());
}

TEST_CASE("byte-level tokens that are not written in GPT-2's table") {
  Vocabulary vocabulary = byte_level({"a b"});
  vocabulary.tokens.insert(vocabulary.tokens.end(), {space_character, "two words"});  // 258, 259
  vocabulary.types.insert(vocabulary.types.end(), {4, 1});
  CHECK(tokenizer_of(vocabulary).decode(258) == space_character);
  CHECK(tokenizer_of(vocabulary).decode(259) == "two words");
  CHECK(tokenizer_of(vocabulary).encode(" ") == Tokens{' '});  // of two tokens alike, the first

  vocabulary.types.clear();  // then only bos, eos and unknown say what is control
  CHECK(tokenizer_of(vocabulary).decode(257).empty());
  CHECK(tokenizer_of(vocabulary).decode(258) == " ");
}

TEST_CASE("byte-level tokens of any bytes give the bytes back") {
  const Tokenizer tokenizer = tokenizer_of(byte_level({"a n", "a a", "an an", "aa an", "' a", "\xc3\x83 \xc2\xa9"}));
  std::mt19937 random(1);
  for (std::size_t length = 0; length < 300; ++length) {
    const std::string text = random_text(random, length, length % 3 == 0);
    CHECK(decode_all(tokenizer, tokenizer.encode(text)) == text);
  }
  CHECK(tokenizer.encode("\xc3\xa9") == Tokens{261});
  // One piece of a megabyte: quadratic time would be noticed.
  const std::string long_piece(1 << 20, 'a');
  const Tokens tokens = tokenizer.encode(long_piece);
  CHECK(tokens.size() == 1 << 19);
  CHECK(decode_all(tokenizer, tokens) == long_piece);
}

TEST_CASE("llama merges, highest score first") {
  const std::string prefix = block;
  // 259 ▁, 260 a, 261 b, 262 c, 263 ab, 264 bc, 265 ▁a, 266 abc, 267 ▁ab, 268 é
  Vocabulary vocabulary = llama({{prefix, -10}, {"a", -11}, {"b", -12}, {"c", -13}, {"ab", -3}, {"bc", -2},
                                 {prefix + "a", -4}, {"abc", -1}, {prefix + "ab", -5}, {"\xc3\xa9", -6}});
  const Tokenizer tokenizer = tokenizer_of(vocabulary);
  CHECK(tokenizer.size() == 269);
  CHECK(tokenizer.bos() == 1);
  CHECK(tokenizer.eos() == 2);
  CHECK(tokenizer.add_bos());
  CHECK(tokenizer.encode("").empty());
  // ▁ a b c → "bc" is best → ▁ a bc → "abc" before "▁a"
  CHECK(tokenizer.encode("abc") == Tokens{259, 266});
  // ▁ a b → "ab" → "▁ab"
  CHECK(tokenizer.encode("ab") == Tokens{267});
  CHECK(tokenizer.encode("a ab") == Tokens{265, 267});
  CHECK(tokenizer.encode(" a") == Tokens{259, 265});
  CHECK(tokenizer.encode("cb") == Tokens{259, 262, 261});
  // characters beyond the vocabulary, and broken ones, as bytes; none may swallow the space that follows
  CHECK(tokenizer.encode("a\xc3\xa9") == Tokens{265, 268});
  CHECK(tokenizer.encode("\n\xc3\xa8") == Tokens{259, 3 + '\n', 3 + 0xc3, 3 + 0xa8});
  CHECK(tokenizer.encode("\xe2 a") == Tokens{259, 3 + 0xe2, 265});
  CHECK(tokenizer.encode("<0x41>").size() == 7);

  CHECK(tokenizer.decode(267) == " ab");
  CHECK(tokenizer.decode(3 + 0xc3) == "\xc3");
  CHECK(tokenizer.decode(0).empty());
  CHECK(tokenizer.decode(2).empty());
  CHECK(tokenizer.decode(269).empty());
  CHECK(decode_all(tokenizer, tokenizer.encode("a abc  b\n")) == " a abc  b\n");

  vocabulary.add_space_prefix = false;
  CHECK(tokenizer_of(vocabulary).encode("ab ab") == Tokens{263, 267});
  std::mt19937 random(2);
  for (std::size_t length = 0; length < 100; ++length) {
    const std::string text = random_text(random, length, length % 3 == 0);
    CHECK(decode_all(tokenizer_of(vocabulary), tokenizer_of(vocabulary).encode(text)) == text);
  }
}

TEST_CASE("a llama text cannot spell a control token") {
  Vocabulary vocabulary = llama({{"<", 0}, {"s", 0}, {">", 0}, {"<s", 0}});  // 259 … 262
  vocabulary.add_space_prefix = false;
  CHECK(tokenizer_of(vocabulary).encode("<s>") == Tokens{262, 261});
  vocabulary.types.clear();
  CHECK(tokenizer_of(vocabulary).encode("<s>") == Tokens{262, 261});
  CHECK(tokenizer_of(vocabulary).decode(1).empty());
}

TEST_CASE("every mistake in a vocabulary is named") {
  const auto check = [](const Vocabulary& vocabulary, const std::string& text) {
    const auto made = Tokenizer::make(vocabulary);
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().code == pqkv::Errc::bad_file);
    INFO(made.error().message);
    CHECK(made.error().message.find(text) != std::string::npos);
  };
  const auto changed = [](Vocabulary vocabulary, auto&& change) {
    change(vocabulary);
    return vocabulary;
  };
  const Vocabulary bytes = byte_level({"a b", "ab a"}), scored = llama({{"a", 0}});
  check(changed(bytes, [](auto& v) { v.model = "bert"; }), "unknown tokenizer model 'bert'; known: gpt2, llama");
  check(changed(bytes, [](auto& v) { v.tokens.clear(); }), "no tokens");
  check(changed(bytes, [](auto& v) { v.types.pop_back(); }), "258 token types for 259 tokens");
  check(changed(bytes, [](auto& v) { v.bos = 259; }), "is token 259, but there are 259 tokens");
  check(changed(bytes, [](auto& v) { v.eos = 1000; }), "is token 1000, but there are 259 tokens");
  check(changed(bytes, [](auto& v) { v.unknown = 300; }), "is token 300, but there are 259 tokens");
  check(changed(bytes, [](auto& v) { v.add_bos = true; }), "a bos token is to be added, but none is given");
  check(changed(bytes, [](auto& v) { v.tokens[' '] = "space"; }), "byte 32 ('\xc4\xa0') is not among the 259 tokens");
  for (const char* merge : {"a bb", "bb a", "a c", "ab", "", "a ", " a"}) {
    check(changed(bytes, [&](auto& v) { v.merges[1] = merge; }),
          "merge 1 ('" + std::string(merge) + "') is not two of the 259 tokens that make a third");
  }
  check(changed(scored, [](auto& v) { v.scores.pop_back(); }), "259 scores for 260 tokens");
  check(changed(scored, [](auto& v) { v.scores.clear(); }), "0 scores for 260 tokens");
  check(changed(scored, [](auto& v) { v.scores[7] = NAN; }), "the score of token 7 is not finite");
  check(changed(scored, [](auto& v) { v.tokens[3 + 65] = "A", v.tokens[3] = "<0x0>"; }), "2 of the 256 byte tokens");
}
