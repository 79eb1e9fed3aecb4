// Policies from text.
#include "catch.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

TEST_CASE("a cache from text forks and moves its tokens") {
  const auto spec = parse_cache_spec("k=exact:f32,v=int8:g=16,sinks=2,recent=8").value();
  const CacheOptions others{.max_tokens = 500, .rope = std::make_shared<const Rope>(Rope::with_base(32, 1e4))};
  auto cache = make_any_cache({1, 2, 32}, {spec}, {}, others).value();
  const auto rows = normal_floats(300 * 64, 1);
  REQUIRE(cache.append_layer(0, Rows(rows.data(), 300, 64), Rows(rows.data(), 300, 64)));
  AnyCache fork = cache.fork().value();
  REQUIRE(fork.erase({2, 100}, Gap::close));
  CHECK(fork.tokens() == 200);
  CHECK(fork.head(0, 1).next_position() == 200);
  CHECK(cache.tokens() == 300);
  CHECK_FALSE(cache.append_layer(0, Rows(rows.data(), 201, 64), Rows(rows.data(), 201, 64)));
}

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
  mentions("k=pq9,v=int4", "unknown key format 'pq9'; known: exact, pq8, pq6, pq4, kivi8, kivi4, kivi2, q8_0, q4_0, turbo4, turbo3, turbo2, nuq4, nuq3, nuq2");
  mentions("k=nuq2:outliers=6,v=int4", "outliers=6: choose 0..5");
  mentions("k=nuq3:outliers=0,v=nuq2:outliers=2", "no error");
  mentions("k=exact,v=int2:g=16:fine=2", "no error");
  mentions("k=exact,v=int2:fine=64", "64 fine channels of 64: choose 1..64, fewer than dim");
  mentions("k=exact,v=int2:fine=65", "65 of 64 channels");
  mentions("k=exact,v=turbo2:heavy=4", "no error");
  mentions("k=exact,v=int2:g=16:fine=2:heavy=16", "no error");
  mentions("k=exact,v=pq8:m=8:heavy=0", "no error");
  mentions("k=exact,v=nuq2:heavy=17", "heavy=17 of 32 tokens: choose 0..16");
  mentions("k=exact,v=q4_0:heavy=many", "heavy");
  mentions("k=exact,v=exact:heavy=4", "no parameter 'heavy'");
  mentions("k=turbo2:heavy=4,v=int4", "no parameter 'heavy'");
  mentions("k=exact,v=int2:importance=1", "there is no fine=N");
  mentions("k=kivi4:g=32,v=int4", "no parameter 'g'; it takes search=1, run, centre");
  mentions("k=kivi2:search=2,v=int4", "search=2: choose 0 or 1");
  mentions("k=kivi2:search=1,v=int2:search=1:g=16", "no error");
  mentions("k=exact,v=int4:search=x", "search=x: choose 0 or 1");
  mentions("k=turbo4:seed=x,v=turbo3:seed=7", "'x' is not a number for seed");
  mentions("k=turbo4:seed=7,v=turbo2", "no error");
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

TEST_CASE("what is fitted in front of codes is asked for in the spec") {
  const auto fit_of = [](const char* format, bool keys = true) {
    const auto spec = parse_format_spec(format).value();
    const auto request = keys ? key_codebook_request(spec, 64) : value_codebook_request(spec, 64);
    INFO((request ? "" : request.error().message));
    REQUIRE(request);
    return (*request)->fit;
  };
  CHECK_FALSE(fit_of("pq8").any());
  CHECK(fit_of("pq8:m=8:run=64:centre=1:metric=1:rotate=opq") == FitOptions{64, true, true, Rotation::learned});
  CHECK(fit_of("pq4:rotate=deal:centre=0:run=16:metric=0") == FitOptions{16, false, false, Rotation::dealt});
  CHECK(fit_of("pq4:rotate=none:run=4096") == FitOptions{4096, false, false, Rotation::none});
  CHECK(fit_of("pq8:centre=1:metric=1:rotate=opq", false) == FitOptions{0, true, true, Rotation::learned});
  // Equal shapes with other spaces are other codebooks.
  CHECK(CodebookRequest{{64, 8, 256}, fit_of("pq8:run=64")} != CodebookRequest{{64, 8, 256}, fit_of("pq8:run=32")});
}

TEST_CASE("mistakes in what is to be fitted are named") {
  const auto refused = [](const char* format, const char* text, bool keys = true) {
    const auto spec = parse_format_spec(format).value();
    const auto request = keys ? key_codebook_request(spec, 64) : value_codebook_request(spec, 64);
    REQUIRE_FALSE(request);
    INFO(request.error().message);
    CHECK(request.error().code == Errc::invalid_parameter);
    CHECK(request.error().message.find(text) != std::string::npos);
  };
  for (const char* run : {"0", "1", "24", "48", "8", "4128"}) {
    refused(message("pq8:run=", run).c_str(), message("run=", run, ": choose 16, or a multiple of 32 up to 4096").c_str());
  }
  refused("pq8:run=long", "'long' is not a number for run");
  refused("pq4:centre=2", "centre=2: choose 0 or 1");
  refused("pq4:metric=yes", "metric=yes: choose 0 or 1");
  refused("pq4:rotate=pca", "rotate=pca: choose none, deal, hadamard, balance, opq or auto");
  refused("pq8:fit=7", "fit=7: choose 16, or a multiple of 32 up to 4096");
  refused("pq8:fit=64", "fit=64: choose 0 or 1", false);
  refused("pq4:importance=2", "importance=2: choose 0 or 1");
  refused("pq4:stages=2:mass=1", "pq4: mass=1: sums of centroids have no mass correction");
  refused("pq8:mass=1", "has no parameter 'mass'", false);
  refused("pq8:run=64", "has no parameter 'run'", false);
  refused("exact:centre=1", "has no parameter 'centre'");
  refused("int4:metric=1", "has no parameter 'metric'", false);
}

TEST_CASE("a codebook must come with the space that the spec asks for") {
  const auto spaced = Codebook::make({64, 8, 256}, normal_floats(64 * 256, 1), random_space(64, {.mapped = true})).value();
  const auto plain = random_codebook(64, 8, 256);
  for (const char* format : {"pq8:m=8:rotate=opq", "pq8:m=8:metric=1"}) {
    const auto spec = parse_format_spec(format).value();
    const auto keys = make_keys(spec, 64, plain);
    REQUIRE_FALSE(keys);
    CHECK(keys.error().message == "format 'pq8' needs a fitted space in front of its codebook");
    CHECK_FALSE(make_values(spec, 64, plain));
    CHECK(make_keys(spec, 64, spaced).value().describe() == "pq8:m=8:fitted");
    CHECK(make_values(spec, 64, spaced).value().describe() == "pq8:m=8:fitted");
  }
  const auto spec = parse_format_spec("pq8:m=8").value();
  CHECK(make_keys(spec, 64, spaced).error().message == "format 'pq8' takes no fitted space in front of its codebook");
  const auto turning = Codebook::make({64, 8, 256}, normal_floats(64 * 256, 1),
                                      random_space(64, {.rotary = 64, .run_tokens = 32, .mean = true})).value();
  const auto runs = make_keys(parse_format_spec("pq8:m=8:run=32:centre=1").value(), 64, turning).value();
  CHECK(runs.describe() == "pq8:m=8:run=32:centre=1");
  CHECK(runs.run_tokens() == 32);
  CHECK_FALSE(make_values(parse_format_spec("pq8:m=8:centre=1").value(), 64, turning));
  const auto refused = [&](const char* text, const std::shared_ptr<const Codebook>& book, const char* reason) {
    const auto keys = make_keys(parse_format_spec(text).value(), 64, book);
    REQUIRE_FALSE(keys);
    CHECK(keys.error().message == message("format 'pq8' ", reason));
  };
  refused("pq8:m=8:run=64:centre=1", turning, "asks for run=64, and its codebook's space has run=32 (0: none)");
  refused("pq8:m=8:centre=1", turning, "asks for run=0, and its codebook's space has run=32 (0: none)");
  refused("pq8:m=8:run=32", turning, "asks for centre=0, and its codebook's space has a mean");
  refused("pq8:m=8:centre=1", spaced, "asks for centre=1, and its codebook's space has no mean");
}

TEST_CASE("formats without centroids ask for a space alone") {
  const auto space = Codebook::make(CodebookShape::of_space(64), {},
                                    random_space(64, {.rotary = 64, .run_tokens = 32, .mean = true})).value();
  const auto still = Codebook::make(CodebookShape::of_space(64), {}, random_space(64, {.mean = true})).value();
  const auto spec = [](std::string format, const char* parameters) { return parse_format_spec(format + parameters).value(); };
  for (const char* format : {"kivi8", "kivi4", "kivi2", "q8_0", "q4_0", "turbo4", "turbo3", "turbo2"}) {
    INFO(format);
    CHECK_FALSE(key_codebook_request(spec(format, ""), 64).value().has_value());
    const auto request = key_codebook_request(spec(format, ":run=32:centre=1"), 64).value();
    REQUIRE(request);
    CHECK(*request == CodebookRequest{CodebookShape::of_space(64), {.run_tokens = 32, .centre = true}});
    const auto keys = make_keys(spec(format, ":run=32:centre=1"), 64, space);
    REQUIRE(keys);
    CHECK(keys->describe() == message(format, ":run=32:centre=1"));
    CHECK(keys->run_tokens() == 32);
    // A codebook that is not asked for changes nothing.
    CHECK(make_keys(spec(format, ""), 64, space).value().describe() == format);
    CHECK(make_keys(spec(format, ":run=32:centre=1"), 64).error().message ==
          message("format '", format, "' needs a codebook of dim 64 with a fitted space and no centroids, and got none"));
    CHECK(make_keys(spec(format, ":run=32:centre=1"), 64, random_codebook(64, 8, 16)).error().message ==
          message("format '", format, "' needs a codebook of dim 64 with a fitted space and no centroids, and got dim 64 with 8 "
                  "subspaces of 16 centroids"));
  }
  for (const char* format : {"int8:g=16", "int4:g=16", "int2:g=16", "int2:g=16:search=1", "q8_0", "q4_0", "turbo4", "turbo3", "turbo2"}) {
    INFO(format);
    CHECK_FALSE(value_codebook_request(spec(format, ""), 64).value().has_value());
    const auto request = value_codebook_request(spec(format, ":centre=1"), 64).value();
    REQUIRE(request);
    CHECK(*request == CodebookRequest{CodebookShape::of_space(64), {.centre = true}});
    CHECK(make_values(spec(format, ":centre=1"), 64, still).value().describe() == message(format, ":centre=1"));
    CHECK_FALSE(make_values(spec(format, ":centre=1"), 64));
    CHECK_FALSE(make_values(spec(format, ":centre=1"), 64, space));
  }
  // Levels tell which channels are fine, as ever, and bring the space with them.
  const auto fine = spec("int2", ":fine=2:centre=1");
  CHECK(value_codebook_request(fine, 64).value()->shape == CodebookShape{64, 64, 4});
  const auto levels = Codebook::make({64, 64, 4}, normal_floats(256, 1), random_space(64, {.mean = true})).value();
  CHECK(make_values(fine, 64, levels).value().describe() == "int2:g=32:fine=2:centre=1");
  CHECK_FALSE(make_values(fine, 64, still));
  CHECK_FALSE(Codebook::make(CodebookShape::of_space(64), {}));
  CHECK_FALSE(Pq8Keys::make(space));
  CHECK_FALSE(Nuq2Keys::make(space));
}

TEST_CASE("the list of formats has every parameter") {
  const std::string list = list_formats();
  for (const char* text : {"m=N subspaces (default dim/8), stages=N; fitted", "fit=N", "run=N", "centre=1", "metric=1", "rotate=", "importance=1", "mass=1"}) {
    INFO(text);
    CHECK(list.find(text) != std::string::npos);
  }
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

TEST_CASE("fit turns everything on, and single parameters overrule it") {
  const auto keys = [](const char* text) { return key_codebook_request(parse_format_spec(text).value(), 64).value()->fit; };
  const auto values = [](const char* text) { return value_codebook_request(parse_format_spec(text).value(), 64).value()->fit; };
  CHECK(keys("pq8:fit=64") == FitOptions{64, true, true, Rotation::learned, true, true});
  CHECK(keys("pq8:run=64:centre=1:metric=1:rotate=opq:importance=1:mass=1") == keys("pq8:fit=64"));
  CHECK(keys("pq4:fit=128:run=32:mass=0:rotate=deal") == FitOptions{32, true, true, Rotation::dealt, true, false});
  CHECK(keys("pq8:fit=64:gain=1") == FitOptions{64, true, true, Rotation::learned, true, false, true});
  CHECK(values("pq4:gain=1") == FitOptions{.gain = true});
  CHECK(keys("pq4:stages=2:fit=64") == FitOptions{64, true, true, Rotation::learned, true, false});
  CHECK(values("pq8:fit=1") == FitOptions{0, true, true, Rotation::learned, true, false});
  CHECK(values("pq4:fit=1:centre=0") == FitOptions{0, false, true, Rotation::learned, true, false});
  CHECK_FALSE(values("pq4:fit=0").any());
}
