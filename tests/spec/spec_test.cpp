// Policies from text.
#include "catch.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

TEST_CASE("a spec is parsed into formats and windows") {
  const auto spec = parse_cache_spec("k=pq8:m=8,v=int4:g=32,sinks=4,recent=64,window=f16").value();
  CHECK(spec.keys.name == "pq8");
  CHECK(*spec.keys.find("m") == "8");
  CHECK(spec.values.name == "int4");
  CHECK(spec.options.sinks == 4);
  CHECK(spec.options.recent == 64);
  CHECK(spec.options.window == ScalarType::f16);
  CHECK(key_codebook_request(spec.keys, 64).value()->shape == CodebookShape{64, 8, 256});
  CHECK_FALSE(value_codebook_request(spec.values, 64).value().has_value());
}

TEST_CASE("every mistake in a spec is named") {
  const auto message_of = [](const char* text) {
    auto spec = parse_cache_spec(text);
    if (!spec) return spec.error().message;
    auto cache = make_any_cache({1, 1, 64}, {*spec}, [](auto, auto, auto, const CodebookRequest& request) {
      return random_codebook(request.shape.dim, request.shape.subspaces, request.shape.centroids);
    });
    return cache ? std::string("no error") : cache.error().message;
  };
  const auto mentions = [&](const char* spec, const char* text) {
    INFO(spec << ": " << message_of(spec));
    CHECK(message_of(spec).find(text) != std::string::npos);
  };
  mentions("k=pq4:m=dim/4,v=int4", "no error");
  mentions("k=exact:f16,v=pq8:m=4,sinks=0,recent=0", "no error");
  mentions("k=pq9,v=int4", "unknown key format 'pq9'; known: exact, pq8, pq6, pq44, pq4");
  mentions("k=pq8,v=int5", "unknown value format 'int5'");
  mentions("k=pq8:n=4,v=int4", "no parameter 'n'; it takes m=N");
  mentions("k=pq8:m=x,v=int4", "'x' is not a number for m");
  mentions("k=pq8:m=7,v=int4", "dim 64 does not split into 7");
  mentions("k=pq8:m=dim/3,v=int4", "not divisible by 3");
  mentions("k=pq8:m=8:m=4,v=int4", "given twice");
  mentions("k=exact:f64,v=int4", "'f64' is not a scalar type");
  mentions("k=exact,v=int4:g=24", "groups of 24");
  mentions("k=exact,v=int4:g=0", "g=0");
  mentions("k=exact,v=int4,sink=4", "unknown key 'sink'");
  mentions("k=exact,v=int4,sinks=-1", "'-1' is not a number");
  mentions("k=exact,v=int4,sinks=99999999999999999999", "is not a number");
  mentions("k=exact", "no value format");
  mentions("v=exact", "no key format");
  mentions("k=exact,k=pq8,v=exact", "'k' is given twice");
  mentions("", "not of the form");
}

TEST_CASE("layers may use different formats in one cache") {
  const std::vector<CacheSpec> specs = {parse_cache_spec("k=exact:f16,v=int8:g=16").value(),
                                        parse_cache_spec("k=pq4:m=16,v=pq8:m=4").value()};
  auto cache = make_any_cache({2, 2, 32}, specs, [](auto, auto, auto, const CodebookRequest& request) {
                 return random_codebook(request.shape.dim, request.shape.subspaces, request.shape.centroids);
               }).value();
  const auto rows = normal_floats(100 * 64, 1);
  auto workspaces = make_workspaces(cache, 2);
  for (std::size_t layer = 0; layer < 2; ++layer) {
    REQUIRE(cache.append_layer(layer, Rows(rows.data(), 100, 64), Rows(rows.data(), 100, 64)));
    std::vector<float> outs(4 * 32);
    attend_layer(cache, layer, FloatRows(rows.data(), 4, 32), outs.data(), 32, workspaces);
    for (const float x : outs) REQUIRE(std::isfinite(x));
  }
  CHECK(cache.head(0, 1).keys().describe() == "exact:f16");
  CHECK(cache.head(1, 0).values().describe() == "pq8:m=4");
}
