// The body of both units: the same source, compiled with different flags. Returns the name of the inline namespace.
#include <vector>

#include "isa/two_units.hpp"
#include "pqkv/pqkv.hpp"

#define TWO_UNITS_TEXT_EXPANDED(name) #name
#define TWO_UNITS_TEXT(name) TWO_UNITS_TEXT_EXPANDED(name)

inline namespace PQKV_ABI {
inline std::string attend_once(float* out) {
  pqkv::HeadCache cache(pqkv::ExactKeys(8), pqkv::ExactValues(8), {.recent = 4});
  std::vector<float> rows(100 * 8);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 7);
  if (!cache.append(pqkv::Rows(rows.data(), 100, 8), pqkv::Rows(rows.data(), 100, 8))) return "append failed";
  pqkv::Workspace<pqkv::ExactKeys, pqkv::ExactValues> workspace;
  pqkv::attend(cache, pqkv::FloatRows(rows.data(), 1, 8), out, 8, workspace);
  return TWO_UNITS_TEXT(PQKV_ABI);
}
}  // namespace PQKV_ABI
