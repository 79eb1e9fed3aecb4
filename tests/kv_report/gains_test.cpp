// The last lines of kv_report, and its default list, on made results.
#include "kv_report/gains.hpp"

#include "catch.hpp"

namespace kv_report {
namespace {

PolicyResult result(std::string_view group, const std::string& policy, double bits, double error, double divergence) {
  PolicyResult made;
  made.group = group;
  made.policy = policy;
  made.key_bits = made.value_bits = bits;
  made.mean.output_error = error;
  made.mean.divergence = divergence;
  return made;
}

}  // namespace

TEST_CASE("gains are over the best of the others, at equal bits and at equal error") {
  const std::vector<PolicyResult> results = {
      result(scalar_group, "k=a,v=a", 4.0, 0.10, 0.08),
      result(plain_group, "k=b,v=b", 1.0, 0.40, 0.60),
      result(plain_group, "k=c,v=exact:f16", 0.5, 0.01, 0.01),  // exact values: no partner
      result(library_group, "k=d,v=d", 1.0, 0.20, 0.12),
      result(library_group, "k=e,v=e", 2.0, 0.10, 0.08),
      result("", "k=f,v=f", 1.0, 0.01, 0.01),
  };
  const auto at_bits = gains_at_equal_bits(results, 0.05, &pqkv::Quality::output_error);
  REQUIRE(at_bits.size() == 2);
  CHECK((at_bits[0].row == 3 && at_bits[0].compared == 1 && at_bits[0].factor == Approx(2.0)));
  CHECK((at_bits[1].row == 4 && at_bits[1].compared == 1 && at_bits[1].factor == Approx(4.0)));
  const auto at_error = gains_at_equal_error(results, &pqkv::Quality::output_error);
  REQUIRE(at_error.size() == 1);  // no fewer bits than row 2 has do what it does
  CHECK((at_error[0].row == 4 && at_error[0].compared == 0 && at_error[0].factor == Approx(2.0)));
  CHECK(gains_text(results) ==
        "At equal bits the library's policies diverge 5.0 to 7.5 times less than the best of the others, and err 2.0 to 4.0 times "
        "less: row 5, a KL of 0.080 at 2.00 bits, against row 2, 0.600 at 1.00.\n"
        "At equal error they need up to 2.0 times fewer bits: row 5, 2.00 bits for an error of 0.100, against row 1, 4.00 bits "
        "for 0.100.\n");
  CHECK(gains_text({results[0], results[1]}).empty());
}

TEST_CASE("the default list parses, and without RoPE and queries lacks what needs them") {
  const auto all = make_default_policies(true), some = make_default_policies(false);
  CHECK(all.size() == std::size(default_policies));
  CHECK((some.size() < all.size() && some.size() > 10));
  for (const Policy& policy : some) CHECK(policy.spec.text.find("fit=64") == std::string::npos);
  CHECK(short_name("k=pq8:m=4:stages=2:fit=64,v=pq8:m=4:stages=2:fit=1") == "pq8×2 fit");
  CHECK(short_name("k=kivi2,v=int2:heavy=4") == "kivi2 + int2 heavy 4");
}

}  // namespace kv_report
