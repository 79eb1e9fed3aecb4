// The policies that are judged where none are named: what the field has, and the best of this library at about 1, 1.5, 2 and
// 3 bits beside it. In groups, so that the last lines of the report can say what was gained.
#pragma once

#include <pqkv/spec.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace kv_report {

/// The groups of the default list; policies that are named by arguments have none.
inline constexpr std::string_view exact_group = "exact";
inline constexpr std::string_view scalar_group = "scalar formats of the field, no training";
inline constexpr std::string_view plain_group = "plain product quantisation (LOOKAT; its first three code keys only)";
inline constexpr std::string_view library_group = "this library: fitted spaces, two stages, gains, heavy tokens";

struct Policy {
  pqkv::CacheSpec spec;
  std::string_view group{};
};

struct DefaultPolicy {
  std::string_view group;
  std::string_view spec;
};

/// 'dim/n' fits any head size. Values are fitted without a metric, because dumps do not hold the output projection.
inline constexpr DefaultPolicy default_policies[] = {
    {exact_group, "k=exact:f16,v=exact:f16,window=f16"},
    {scalar_group, "k=q8_0,v=q8_0,sinks=4,recent=32,window=f16"},
    {scalar_group, "k=q4_0,v=q4_0,sinks=4,recent=32,window=f16"},
    {scalar_group, "k=kivi4,v=int4,sinks=4,recent=32,window=f16"},
    {scalar_group, "k=kivi2,v=int2,sinks=4,recent=32,window=f16"},
    {scalar_group, "k=turbo4,v=turbo4,sinks=4,recent=32,window=f16"},
    {scalar_group, "k=turbo3,v=turbo3,sinks=4,recent=32,window=f16"},
    {scalar_group, "k=turbo2,v=turbo2,sinks=4,recent=32,window=f16"},
    {plain_group, "k=pq8:m=dim/32,v=exact:f16,sinks=0,recent=0"},
    {plain_group, "k=pq8:m=dim/16,v=exact:f16,sinks=0,recent=0"},
    {plain_group, "k=pq8:m=dim/8,v=exact:f16,sinks=0,recent=0"},
    {plain_group, "k=pq8:m=dim/8,v=pq8:m=dim/8,sinks=0,recent=0"},
    {plain_group, "k=pq8:m=dim/4,v=pq8:m=dim/4,sinks=0,recent=0"},
    {plain_group, "k=pq8:m=dim/8,v=pq8:m=dim/8,sinks=4,recent=32,window=f16"},
    {plain_group, "k=pq8:m=dim/4,v=pq8:m=dim/4,sinks=4,recent=32,window=f16"},
    {library_group, "k=pq8:m=dim/16:stages=2:fit=64,v=pq8:m=dim/16:stages=2:fit=1:metric=0,sinks=0,recent=0"},
    {library_group,
     "k=pq4:m=dim/4:fit=64:gain=1,v=pq4:m=dim/4:fit=1:metric=0:gain=1,sinks=4,recent=8,window=f16"},
    {library_group,
     "k=pq8:m=dim/16:stages=2:fit=64:gain=1,v=pq8:m=dim/16:stages=2:fit=1:metric=0:gain=1,sinks=4,recent=8,window=f16"},
    {library_group,
     "k=pq8:m=dim/16:stages=2:fit=64:gain=1,v=pq8:m=dim/16:stages=2:fit=1:metric=0:gain=1,sinks=4,recent=32,window=f16"},
    {library_group,
     "k=pq8:m=dim/8:stages=2:fit=64:gain=1,v=pq8:m=dim/8:stages=2:fit=1:metric=0:gain=1,sinks=4,recent=8,window=f16"},
    {library_group,
     "k=pq8:m=dim/8:stages=2:fit=64:gain=1,v=pq8:m=dim/8:stages=2:fit=1:metric=0:heavy=4,sinks=4,recent=32,window=f16"},
    {library_group, "k=turbo2:run=64:centre=1,v=turbo2:heavy=4:centre=1,sinks=4,recent=32,window=f16"},
};

/// Whether keys are coded in runs, which needs the model's RoPE, and under the queries' metric, which needs queries.
[[nodiscard]] inline bool needs_rope_and_queries(const pqkv::CacheSpec& spec) {
  return spec.keys.find("fit") != nullptr || spec.keys.find("run") != nullptr;
}

/// The default list; without the policies whose keys need what is not there (the caller says so).
[[nodiscard]] inline std::vector<Policy> make_default_policies(bool with_rope_and_queries) {
  std::vector<Policy> policies;
  for (const DefaultPolicy& each : default_policies) {
    Policy policy{*pqkv::parse_cache_spec(each.spec), each.group};
    if (with_rope_and_queries || !needs_rope_and_queries(policy.spec)) policies.push_back(std::move(policy));
  }
  return policies;
}

/// "pq8×2 fit", "kivi4 + int4": what tells a policy from others in a plot, once its bits are known.
[[nodiscard]] inline std::string short_name(const std::string& policy) {
  const auto spec = pqkv::parse_cache_spec(policy);
  if (!spec) return policy;
  const auto name_of = [](const pqkv::FormatSpec& format) {
    std::string name = format.name;
    if (const std::string* stages = format.find("stages")) name += "×" + *stages;
    if (format.find("fit") != nullptr) name += " fit";
    if (const std::string* heavy = format.find("heavy")) name += " heavy " + *heavy;
    return name;
  };
  const std::string keys = name_of(spec->keys), values = name_of(spec->values);
  return keys == values ? keys : keys + " + " + values;
}

}  // namespace kv_report
