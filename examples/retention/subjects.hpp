// What is compared: each policy and allocator of the library, on one head whose prompt has been read.
#pragma once

#include <pqkv/retention.hpp>

#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "retention/replay.hpp"

namespace retention_report {

/// A head with its prompt, and what was observed while it was read.
struct Prompt {
  std::unique_ptr<Head> head;
  std::vector<float> all_queries;     ///< per token: weights of every query of the prompt, summed
  std::vector<float> window_queries;  ///< of the observation window's queries
  std::vector<float> window_weights;  ///< [queries of the window][token]
  std::size_t minimum = 0;            ///< tokens that have 90 % of the window's weights
};

/// What is known of a kv head before any prompt.
struct Calibrated {
  std::vector<float> filter;  ///< Q-Filters
  double importance = 0;      ///< share of attention that goes neither to sinks nor to the newest 64 tokens
};

/// What a subject may use to say what goes.
struct Question {
  const Prompt& prompt;
  const Calibrated& calibrated;
  std::size_t budget;  ///< of this head
  pqkv::Protection protection;
  Workspace& workspace;
};

using Ranges = pqkv::Result<std::vector<pqkv::TokenRange>>;

struct Subject {
  enum class Shares { uniform, pyramid, uncertainty, importance };
  std::string name;
  std::string source;
  std::function<Ranges(const Question&)> plan;
  Shares shares = Shares::uniform;
  bool free = false;  ///< takes the budget that it needs
};

template <pqkv::RetentionPolicy P>
[[nodiscard]] Ranges plan(const Question& question, const P& policy, std::span<const float> record = {}) {
  return pqkv::plan_eviction(policy, *question.prompt.head, question.budget, question.protection, question.workspace, record);
}

[[nodiscard]] inline std::vector<Subject> subjects() {
  using Shares = Subject::Shares;
  const auto snap = [](const Question& q) {
    return plan(q, pqkv::ObservationWindow{.window = q.protection.recent}, q.prompt.window_queries);
  };
  const auto by_norm = [](const Question& q) -> Ranges {
    const std::size_t tokens = q.prompt.head->tokens();
    const pqkv::FloatRows weights(q.prompt.window_weights.data(), q.prompt.window_weights.size() / tokens, tokens);
    std::vector<float> scores(tokens);
    std::iota(scores.begin(), scores.end(), 0.0f);  // the oldest first, as published
    const std::size_t budget = pqkv::norm_budget(weights, scores, q.protection.sinks, q.protection.recent);
    return pqkv::choose_evicted(scores, q.protection.sinks, q.protection.recent, budget);
  };
  const auto profiled = [](const Question& q) -> Ranges {
    const std::size_t tokens = q.prompt.head->tokens();
    const pqkv::FloatRows weights(q.prompt.window_weights.data(), q.prompt.window_weights.size() / tokens, tokens);
    // No token ids come with the rows: the sinks are the special tokens, the newest stay as with every other policy.
    std::vector<pqkv::TokenClass> classes(tokens, pqkv::TokenClass::ordinary);
    std::fill_n(classes.begin(), q.protection.sinks, pqkv::TokenClass::special);
    std::fill(classes.end() - static_cast<std::ptrdiff_t>(q.protection.recent), classes.end(), pqkv::TokenClass::special);
    return pqkv::profile_head(weights, classes).evicted;
  };
  return {
      {"random", "the control", [](const Question& q) { return plan(q, pqkv::RandomTokens{q.budget}); }},
      {"sinks + recent", "StreamingLLM", [](const Question& q) { return plan(q, pqkv::SinksAndRecent{}); }},
      {"low key norm", "L2", [](const Question& q) { return plan(q, pqkv::LowKeyNorm{}); }},
      {"key diversity", "KeyDiff", [](const Question& q) { return plan(q, pqkv::KeyDiversity{}); }},
      {"query filter", "Q-Filters", [](const Question& q) { return plan(q, pqkv::QueryFilter(q.calibrated.filter)); }},
      {"accumulated attention", "H2O", [](const Question& q) { return plan(q, pqkv::AccumulatedAttention{}, q.prompt.all_queries); }},
      {"observation window", "SnapKV", snap},
      {"window, chunks of 10", "ChunkKV",
       [](const Question& q) {
         return plan(q, pqkv::Chunked<pqkv::ObservationWindow>{{.window = q.protection.recent, .pool = 1}, 10},
                     q.prompt.window_queries);
       }},
      {"window, pyramid", "PyramidInfer", snap, Shares::pyramid},
      {"window, by layer uncertainty", "ZigZagKV", snap, Shares::uncertainty},
      {"window, by head", "HeadKV", snap, Shares::importance},
      {"until the norm falls 1 %", "DBudgetKV", by_norm, Shares::uniform, true},
      {"profile, 95 % of mass", "FastGen", profiled, Shares::uniform, true},
  };
}

/// Budgets of all heads, [layers · heads], when each may have `mean` tokens on average.
[[nodiscard]] inline std::vector<std::size_t> budgets(Subject::Shares shares, std::size_t mean, std::size_t layers,
                                                      std::size_t heads, const std::vector<Prompt>& prompts,
                                                      const std::vector<Calibrated>& calibrated,
                                                      const pqkv::BudgetLimits& limits) {
  const std::size_t total = mean * layers * heads;
  const auto per_head = [&](const std::vector<std::size_t>& per_layer) {
    std::vector<std::size_t> all;
    for (const std::size_t budget : per_layer) all.insert(all.end(), heads, budget / heads);
    return all;
  };
  const pqkv::BudgetLimits layer_limits{limits.least * heads, limits.most * heads};
  switch (shares) {
    case Subject::Shares::pyramid: {
      const double decay = std::pow(0.9, 32.0 / static_cast<double>(layers));  // the published one is for 32 layers
      return per_head(pqkv::pyramid_budgets(total, layers, decay, layer_limits));
    }
    case Subject::Shares::uncertainty: {
      std::vector<std::size_t> minimums;
      for (const Prompt& prompt : prompts) minimums.push_back(prompt.minimum);
      return per_head(pqkv::uncertainty_budgets(total, minimums, heads, layer_limits));
    }
    case Subject::Shares::importance: {
      std::vector<double> importances;
      for (const Calibrated& each : calibrated) importances.push_back(each.importance);
      return pqkv::head_budgets(total, importances, 1.2, limits);
    }
    case Subject::Shares::uniform: break;
  }
  return pqkv::uniform_budgets(total, layers * heads, limits);
}

}  // namespace retention_report
