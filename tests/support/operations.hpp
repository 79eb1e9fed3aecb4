// Random operations on sequences, each done to a cache and to a plain model of it that keeps every row in double.
// A failure is a text, so that runs may go on several threads; the log says what was done.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "pqkv/io/sequence_file.hpp"
#include "support/checksum.hpp"
#include "support/policies.hpp"
#include "support/sequence.hpp"

namespace pqkv::test {

/// A sequence as its three zones; rows as decoded right after they were sealed, or exact.
struct ModelSequence {
  std::vector<ReferenceToken> kept, sealed, recent;
  std::int64_t next_position = 0;

  [[nodiscard]] std::vector<ReferenceToken> all() const {
    std::vector<ReferenceToken> tokens = kept;
    tokens.insert(tokens.end(), sealed.begin(), sealed.end());
    tokens.insert(tokens.end(), recent.begin(), recent.end());
    return tokens;
  }
  [[nodiscard]] std::size_t tokens() const noexcept { return kept.size() + sealed.size() + recent.size(); }
  /// Token `index`, wherever it is.
  [[nodiscard]] ReferenceToken& at(std::size_t index) {
    if (index < kept.size()) return kept[index];
    index -= kept.size();
    return index < sealed.size() ? sealed[index] : recent[index - sealed.size()];
  }
  void erase(std::size_t index) {
    auto& zone = index < kept.size() ? kept : index < kept.size() + sealed.size() ? sealed : recent;
    if (&zone != &kept) index -= kept.size();
    if (&zone == &recent) index -= sealed.size();
    zone.erase(zone.begin() + static_cast<std::ptrdiff_t>(index));
  }
};

/// What a run of operations is about.
struct OperationCase {
  std::string name;
  AnyKeys keys;
  AnyValues values;
  CacheOptions options;
  double tolerance = 0;  ///< of attention
};

/// Bytes in memory as a mapped source.
class SharedBytes {
 public:
  explicit SharedBytes(std::vector<std::byte> bytes)
      : bytes_(std::make_shared<std::vector<std::byte>>(std::move(bytes))) {}
  bool read(void* out, std::size_t bytes) noexcept {
    if (bytes > remaining()) return false;
    if (bytes != 0) std::memcpy(out, take(bytes), bytes);
    return true;
  }
  [[nodiscard]] std::size_t remaining() const noexcept { return bytes_->size() - at_; }
  [[nodiscard]] const std::byte* take(std::size_t bytes) noexcept {
    at_ += bytes;
    return bytes_->data() + at_ - bytes;
  }
  [[nodiscard]] std::shared_ptr<const void> keeper() const noexcept { return bytes_; }

 private:
  std::shared_ptr<std::vector<std::byte>> bytes_;
  std::size_t at_ = 0;
};

class Operations {
 public:
  using Head = HeadCache<AnyKeys, AnyValues>;

  Operations(const OperationCase& subject, std::uint64_t seed) : case_(subject), random_(seed) {
    pairs_.push_back({Head(subject.keys, subject.values, subject.options), {}});
    log_ << subject.name << ", seed " << seed << ":";
  }
  /// Goes on from a fork of somebody else's sequence.
  Operations(const OperationCase& subject, std::uint64_t seed, Head head, ModelSequence model)
      : case_(subject), random_(seed) {
    pairs_.push_back({std::move(head), std::move(model)});
    log_ << subject.name << ", seed " << seed << ", from a fork:";
  }

  /// Does `count` operations; empty, or what went wrong.
  [[nodiscard]] std::string run(std::size_t count) {
    for (std::size_t i = 0; i < count && fault_.empty(); ++i) {
      Pair& pair = pairs_[random_.below(pairs_.size())];
      step(pair);
      for (Pair& each : pairs_) check(each);
    }
    return fault_;
  }
  [[nodiscard]] std::string log() const { return log_.str(); }
  [[nodiscard]] const Head& head() const noexcept { return pairs_[0].head; }
  [[nodiscard]] const ModelSequence& model() const noexcept { return pairs_[0].model; }

 private:
  struct Pair {
    Head head;
    ModelSequence model;
  };
  static constexpr std::size_t most_tokens = 350;
  static constexpr std::size_t most_sequences = 4;

  void step(Pair& pair) {
    const std::size_t tokens = pair.model.tokens();
    switch (random_.below(13)) {
      case 0:
      case 1:
      case 2: append(pair, tokens < most_tokens ? 1 + random_.below(90) : 1); break;
      case 3: fork(pair); break;
      case 4: truncate(pair, random_.below(tokens + 1)); break;
      case 5: erase(pair, {some_range(tokens)}, random_.below(2) == 0 ? Gap::keep : Gap::close); break;
      case 6: shift(pair, some_range(tokens), static_cast<std::int64_t>(random_.below(400)) - 200); break;
      case 7: evict(pair); break;
      case 8: replace(pair, some_range(tokens), random_.below(4)); break;
      case 9: save_and_load(pair); break;
      case 10: merge(pair, random_.below(3) != 0); break;
      case 11: compact(pair); break;
      default: jump(pair); break;
    }
  }

  [[nodiscard]] TokenRange some_range(std::size_t tokens) {
    const std::size_t first = random_.below(tokens + 1);
    return {first, random_.below(std::min<std::size_t>(tokens - first, random_.below(2) == 0 ? 9 : 200) + 1)};
  }

  [[nodiscard]] std::vector<float> some_rows(std::size_t count) {
    std::vector<float> rows(count * case_.keys.dim());
    for (float& x : rows) x = static_cast<float>(random_.normal());
    return rows;
  }
  /// A row as an exact window keeps it.
  [[nodiscard]] std::vector<double> exact(const float* row) const {
    std::vector<double> out;
    for (std::size_t d = 0; d < case_.keys.dim(); ++d) {
      const float x = row[d];
      out.push_back(case_.options.window == ScalarType::f32   ? x
                    : case_.options.window == ScalarType::f16 ? to_float(to_f16(x))
                                                              : to_float(to_bf16(x)));
    }
    return out;
  }

  /// Whether an operation succeeded; only a full page source may be the reason if not.
  [[nodiscard]] bool done(const Status& status) {
    if (status.ok()) return true;
    log_ << " (refused)";
    if (case_.options.pages == nullptr || status.error().code != Errc::cache_full)
      fault_ = "refused: " + status.error().message;
    return false;
  }

  void append(Pair& pair, std::size_t count) {
    log_ << " append " << count;
    const std::size_t dim = case_.keys.dim();
    const auto keys = some_rows(count), values = some_rows(count);
    if (!done(pair.head.append(Rows(keys.data(), count, dim), Rows(values.data(), count, dim)))) return;
    ModelSequence& model = pair.model;
    std::size_t sealed = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const bool to_kept = model.sealed.empty() && model.recent.empty() && model.kept.size() < case_.options.sinks;
      (to_kept ? model.kept : model.recent)
          .push_back({exact(&keys[i * dim]), exact(&values[i * dim]), model.next_position++, 0});
      while (model.recent.size() >= case_.options.recent + block_tokens) {
        std::size_t size = 1;
        while (size < model.recent.size() && model.recent[size].position > model.recent[size - 1].position &&
               model.recent[size].position < model.recent[0].position + 32)
          ++size;
        model.sealed.insert(model.sealed.end(), model.recent.begin(),
                            model.recent.begin() + static_cast<std::ptrdiff_t>(size));
        model.recent.erase(model.recent.begin(), model.recent.begin() + static_cast<std::ptrdiff_t>(size));
        sealed += size;
      }
    }
    // From here on the sealed tokens are what the cache now says they are, as long as that is near.
    if (pair.head.sealed_tokens() != model.sealed.size()) {
      fault_ = "sealed otherwise than the model";
      return;
    }
    std::vector<float> key(dim), value(dim);
    for (std::size_t i = model.sealed.size() - sealed; i < model.sealed.size(); ++i) {
      ReferenceToken& token = model.sealed[i];
      pair.head.decode(model.kept.size() + i, key.data(), value.data());
      const auto truth = rotated(token.key, *case_.options.rope, token.shift);
      for (std::size_t d = 0; d < dim; ++d) {
        const double error = std::max(std::fabs(static_cast<double>(key[d]) - truth[d]),
                                      std::fabs(static_cast<double>(value[d]) - token.value[d]));
        if (!(error < (case_.name.starts_with("exact") ? 2e-2 : 8.0))) fault_ = "a sealed row is far from what it was";
      }
      token = {as_doubles(key.data(), dim), as_doubles(value.data(), dim), token.position, 0};
    }
  }

  void fork(Pair& pair) {
    log_ << " fork";
    auto copy = pair.head.fork();
    if (!copy) {
      fault_ = copy.error().message;
      return;
    }
    ModelSequence model = pair.model;
    if (pairs_.size() == most_sequences)
      pairs_.erase(pairs_.begin() + static_cast<std::ptrdiff_t>(random_.below(most_sequences)));
    pairs_.push_back({std::move(copy).value(), std::move(model)});
  }

  void truncate(Pair& pair, std::size_t count) {
    log_ << " truncate " << count;
    if (count < pair.model.tokens()) pair.model.next_position = pair.model.at(count).position;
    pair.head.truncate(count);
    while (pair.model.tokens() > count) pair.model.erase(pair.model.tokens() - 1);
    if (random_.below(3) == 0) pair.head.trim();
  }

  void erase(Pair& pair, const std::vector<TokenRange>& ranges, Gap gap) {
    log_ << (gap == Gap::keep ? " erase" : " erase and close");
    for (const TokenRange& range : ranges) log_ << " " << range.first << "+" << range.count;
    if (!done(pair.head.erase(ranges, gap))) return;
    for (std::size_t i = ranges.size(); i-- > 0;) {
      for (std::size_t t = 0; t < ranges[i].count; ++t) pair.model.erase(ranges[i].first);
      if (gap == Gap::close)
        move(pair.model, ranges[i].first, pair.model.tokens(), -static_cast<std::int64_t>(ranges[i].count));
      if (gap == Gap::close) pair.model.next_position -= static_cast<std::int64_t>(ranges[i].count);
    }
  }

  void evict(Pair& pair) {
    std::vector<TokenRange> ranges;
    const std::size_t one_in = 1 + random_.below(20);
    for (std::size_t t = 0; t < pair.model.tokens(); ++t) {
      if (random_.below(one_in + 1) == 0) ranges.push_back({t, 1});
    }
    erase(pair, ranges, random_.below(4) == 0 ? Gap::close : Gap::keep);
  }

  void compact(Pair& pair) {
    const double fill = random_.uniform();
    log_ << " compact " << fill;
    const auto fewer = pqkv::compact(pair.head, fill);
    if (!pqkv::can_compact(case_.keys, case_.values)) {
      if (fewer || fewer.error().code != Errc::invalid_parameter) fault_ = "compacted codes that do not move";
    } else {
      [[maybe_unused]] const bool room = done(fewer ? Status() : Status(fewer.error()));
    }
  }

  void shift(Pair& pair, TokenRange range, std::int64_t delta) {
    log_ << " shift " << range.first << "+" << range.count << " by " << delta;
    if (!done(pair.head.shift(range, delta))) return;
    move(pair.model, range.first, range.end(), delta);
    if (range.count != 0 && range.end() == pair.model.tokens()) pair.model.next_position += delta;
  }
  static void move(ModelSequence& model, std::size_t first, std::size_t end, std::int64_t delta) {
    for (std::size_t t = first; t < end; ++t) {
      model.at(t).position += delta;
      model.at(t).shift += delta;
    }
  }

  void replace(Pair& pair, TokenRange range, std::size_t count) {
    log_ << " replace " << range.first << "+" << range.count << " by " << count;
    const std::size_t dim = case_.keys.dim();
    const auto keys = some_rows(count), values = some_rows(count);
    std::vector<std::int64_t> positions;
    for (std::size_t i = 0; i < count; ++i) positions.push_back(static_cast<std::int64_t>(random_.below(500)));
    if (!done(pair.head.replace(range, Rows(keys.data(), count, dim), Rows(values.data(), count, dim), positions)))
      return;
    for (std::size_t t = 0; t < range.count; ++t) pair.model.erase(range.first);
    for (std::size_t i = 0; i < count; ++i)
      pair.model.kept.push_back({exact(&keys[i * dim]), exact(&values[i * dim]), positions[i], 0});
  }

  void save_and_load(Pair& pair) {
    const bool mapped = random_.below(2) == 0;
    log_ << (mapped ? " save and map" : " save and load");
    MemorySink sink;
    if (!done(save_head(sink, pair.head, test_checksum()))) return;
    const LoadOptions options{.rope = case_.options.rope, .pages = case_.options.pages};
    MemorySource memory(sink.bytes());
    SharedBytes shared(sink.bytes());
    auto loaded = mapped ? load_head(shared, case_.keys, case_.values, test_checksum(), options)
                         : load_head(memory, case_.keys, case_.values, test_checksum(), options);
    if (loaded) {
      pair.head = std::move(loaded).value();
    } else if (case_.options.pages == nullptr) {
      fault_ = "not loaded: " + loaded.error().message;
    }
  }

  void merge(Pair& pair, bool into) {
    log_ << (into ? " merge" : " append with weight");
    const std::size_t dim = case_.keys.dim();
    const auto key = some_rows(1), value = some_rows(1);
    const float weight = 0.5f + static_cast<float>(random_.uniform());
    ModelSequence& model = pair.model;
    const bool merges = into && model.tokens() != 0;
    if (!merges && model.recent.size() + 1 >= case_.options.recent + block_tokens) return;  // append() has that case
    const Status status = pair.head.append_or_merge(Rows(key.data(), 1, dim), Rows(value.data(), 1, dim), weight, into);
    if (!merges) {
      if (!done(status)) return;
      const bool to_kept = model.sealed.empty() && model.recent.empty() && model.kept.size() < case_.options.sinks;
      (to_kept ? model.kept : model.recent)
          .push_back({exact(key.data()), exact(value.data()), model.next_position++, 0});
      return;
    }
    if (model.recent.empty() && !model.sealed.empty()) {
      if (status.ok()) fault_ = "merged into a sealed slot";
      return;
    }
    if (!done(status)) return;
    // The rows that the cache now has must be the weighted mean; its weights are checked by the tests of merging.
    ReferenceToken& slot = model.recent.empty() ? model.kept.back() : model.recent.back();
    const ExactWindow& window = model.recent.empty() ? pair.head.sinks() : pair.head.recent();
    const double share = static_cast<double>(weight) / static_cast<double>(window.weight(window.tokens() - 1));
    const auto incoming = rotated(as_doubles(key.data(), dim), *case_.options.rope, -slot.shift);
    for (std::size_t d = 0; d < dim; ++d) {
      slot.key[d] += share * (incoming[d] - slot.key[d]);
      slot.value[d] += share * (static_cast<double>(value[d]) - slot.value[d]);
    }
  }

  void jump(Pair& pair) {
    const auto delta = static_cast<std::int64_t>(random_.below(50)) - 5;
    log_ << " jump " << delta;
    pair.model.next_position += delta;
    pair.head.set_next_position(pair.model.next_position);
  }

  void check(Pair& pair) {
    if (!fault_.empty()) return;
    const auto tokens = pair.model.all();
    const Head& head = pair.head;
    if (head.tokens() != tokens.size() || head.next_position() != pair.model.next_position) {
      fault_ = message("holds ", head.tokens(), " tokens, next at ", head.next_position(), "; should be ",
                       tokens.size(), ", at ", pair.model.next_position);
      return;
    }
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      if (head.position(t) != tokens[t].position) {
        fault_ = message("token ", t, " stands at ", head.position(t), ", should at ", tokens[t].position);
        return;
      }
    }
    const std::size_t dim = head.dim();
    const auto query = some_rows(1);
    AttendOptions options;
    ReferenceOptions reference;
    reference.scale = 1 / std::sqrt(static_cast<double>(dim));
    reference.query_position = pair.model.next_position - 1;
    const float slope = 0.01f, sink = 1.0f;
    std::vector<float> bias;
    if (random_.below(4) == 0) {
      options.soft_cap = 3.0f;
      reference.soft_cap = 3;
      options.sliding_window = 150;
      reference.window = 150;
      options.alibi_slopes = std::span(&slope, 1);
      reference.slope = static_cast<double>(slope);
      options.sink_logits = std::span(&sink, 1);
      reference.sink = static_cast<double>(sink);
      bias.resize(tokens.size());
      for (float& x : bias) x = static_cast<float>(random_.normal());
      reference.bias.assign(bias.begin(), bias.end());
      options.bias = bias;
    }
    std::vector<float> out(dim);
    attend(head, {query.data(), 1, dim}, out.data(), dim, workspace_, options);
    const auto expected = reference_attention(query.data(), dim, tokens, *case_.options.rope, reference);
    for (std::size_t d = 0; d < dim; ++d) {
      const double error = std::fabs(static_cast<double>(out[d]) - expected[d]);
      if (!(error <= case_.tolerance)) {
        std::ostringstream text;
        text << "attention over " << tokens.size() << " tokens is off by " << error;
        fault_ = text.str();
        return;
      }
    }
  }

  OperationCase case_;
  Random random_;
  std::vector<Pair> pairs_;
  Workspace<AnyKeys, AnyValues> workspace_;
  std::ostringstream log_;
  std::string fault_;
};

}  // namespace pqkv::test
