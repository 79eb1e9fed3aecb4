// KVSharer on four layers of one number each.
#include "catch.hpp"
#include "pqkv/retention/shared_layers.hpp"

using namespace pqkv;

TEST_CASE("the most unlike layers are shared first, as long as the model stays what it was") {
  const std::vector<std::vector<float>> rows{{0}, {1}, {5}, {7}};
  const auto pairs = rank_layer_pairs(rows);
  REQUIRE(pairs.size() == 6);
  // Distances: 0-3: 7, 1-3: 6, 0-2: 5, 1-2: 4, 2-3: 2, 0-1: 1.
  CHECK((pairs[0].earlier == 0 && pairs[0].later == 3 && pairs[0].distance == 7));
  CHECK((pairs[1].earlier == 1 && pairs[1].later == 3));
  CHECK((pairs[5].earlier == 0 && pairs[5].later == 1));

  const SharedLayers two = find_shared_layers(4, pairs, 2, 0.5, [](const SharedLayers&) { return 1.0; });
  CHECK(two.source(3) == 0);  // then 1-3 is no choice any more
  CHECK(two.source(2) == 0);
  CHECK(two.stored() == 2);
  CHECK((two.slot(0) == 0 && two.slot(1) == 1 && two.slot(2) == 0 && two.slot(3) == 0));

  // Layer 3 must not read layer 0: the next pair that shares it is 1-3.
  const SharedLayers other =
      find_shared_layers(4, pairs, 1, 0.5, [](const SharedLayers& sharing) { return sharing.source(3) == 0 ? 0.4 : 0.5; });
  CHECK(other.source(3) == 1);
  CHECK(other.stored() == 3);
  CHECK((other.slot(2) == 2 && other.slot(3) == 1));
  const SharedLayers none = find_shared_layers(4, pairs, 3, 0.5, [](const SharedLayers&) { return 0.0; });
  CHECK(none.stored() == 4);
}

TEST_CASE("a layer that others read is not shared itself, nor does it read a shared one") {
  SharedLayers sharing(4);
  CHECK(sharing.share(2, 1));
  CHECK(!sharing.share(1, 0));
  CHECK(!sharing.share(3, 2));
  CHECK(!sharing.share(2, 0));
  CHECK(sharing.share(3, 1));
  CHECK(sharing.stored() == 2);
}
