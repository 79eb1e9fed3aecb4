// Formats chosen at run time from text, per layer, as an engine's command line would.
#include <pqkv/pqkv.hpp>

#include <cstdio>
#include <vector>

#include "pqkv/base/random.hpp"

int main(int argc, char** argv) {
  // Layer 0 finer than the others, as many models like it; or whatever the command line says, for all layers.
  const std::vector<std::string> texts =
      argc > 1 ? std::vector<std::string>(3, argv[1])
               : std::vector<std::string>{"k=exact:f16,v=int8:g=32,sinks=4,recent=32",
                                          "k=exact:f16,v=int4:g=32,sinks=4,recent=32",
                                          "k=exact:f16,v=int2:g=16,sinks=4,recent=32"};
  std::vector<pqkv::CacheSpec> specs;
  for (const std::string& text : texts) {
    auto spec = pqkv::parse_cache_spec(text);
    if (!spec) return std::puts(spec.error().message.c_str());
    specs.push_back(*spec);
  }
  const pqkv::CacheShape shape{.layers = 3, .kv_heads = 2, .dim = 64};
  auto cache = pqkv::make_any_cache(shape, specs);
  if (!cache) return std::puts(cache.error().message.c_str());

  pqkv::Random random(1);
  const std::size_t tokens = 500;
  std::vector<float> rows(tokens * shape.kv_heads * shape.dim);
  for (float& x : rows) x = static_cast<float>(random.normal());
  const pqkv::Rows all(rows.data(), tokens, shape.kv_heads * shape.dim);

  auto workspaces = pqkv::make_workspaces(*cache, 2);  // groups of two query heads per kv head
  std::vector<float> outs(4 * shape.dim);
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    if (pqkv::Status status = cache->append_layer(layer, all, all); !status) {
      return std::puts(status.error().message.c_str());
    }
    pqkv::attend_layer(*cache, layer, pqkv::FloatRows(rows.data(), 4, shape.dim), outs.data(), shape.dim, workspaces);
    const auto& head = cache->head(layer, 0);
    std::printf("layer %zu: %s / %s, %.1f bytes per token and head, first output %.4f\n", layer,
                head.keys().describe().c_str(), head.values().describe().c_str(), head.bytes_per_token(),
                static_cast<double>(outs[0]));
  }
}
