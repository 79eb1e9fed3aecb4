// What pqkv::compiled instantiates over AnyKeys and AnyValues, so that units which use an AnyCache need not. Above the
// pipeline; spec.hpp includes it. Without PQKV_COMPILED it declares nothing: every unit then instantiates what it uses.
//
// One list, read in two ways: users see `extern template`, the one unit that defines PQKV_INSTANTIATE_ANY (compiled/spec.hpp)
// sees `template`. What a list entry calls need not be listed.
#pragma once

#if defined(PQKV_COMPILED)

#include "pqkv/attend/attend_batch.hpp"
#include "pqkv/attend/attend_layer.hpp"
#include "pqkv/attend/collect.hpp"
#include "pqkv/attend/extend.hpp"
#include "pqkv/attend/token_weights.hpp"
#include "pqkv/cache/compact.hpp"
#include "pqkv/spec/any_cache.hpp"

#if defined(PQKV_INSTANTIATE_ANY)
#define PQKV_INSTANCE template
#else
#define PQKV_INSTANCE extern template
#endif

namespace pqkv::inline PQKV_ABI {

PQKV_INSTANCE class HeadCache<AnyKeys, AnyValues>;
PQKV_INSTANCE class CompressedKVCache<AnyKeys, AnyValues>;
PQKV_INSTANCE struct Workspace<AnyKeys, AnyValues>;

PQKV_INSTANCE const Partial& attend_partial(const HeadCache<AnyKeys, AnyValues>&, FloatRows, Workspace<AnyKeys, AnyValues>&,
                                            const AttendOptions&);
PQKV_INSTANCE AttendResult attend(const HeadCache<AnyKeys, AnyValues>&, FloatRows, float*, std::size_t,
                                  Workspace<AnyKeys, AnyValues>&, const AttendOptions&);
PQKV_INSTANCE AttendResult attend_and_collect(HeadCache<AnyKeys, AnyValues>&, FloatRows, float*, std::size_t,
                                              Workspace<AnyKeys, AnyValues>&, const AttendOptions&);
PQKV_INSTANCE Status extend(HeadCache<AnyKeys, AnyValues>&, ChunkRows<const float>, Rows, Rows, ChunkRows<float>,
                            Workspace<AnyKeys, AnyValues>&, const AttendOptions&);
PQKV_INSTANCE Workspaces<AnyKeys, AnyValues> make_workspaces(const AnyCache&, std::size_t, std::size_t);

PQKV_INSTANCE void token_scores(const HeadCache<AnyKeys, AnyValues>&, FloatRows, float*, std::size_t,
                                Workspace<AnyKeys, AnyValues>&, const AttendOptions&);
PQKV_INSTANCE void token_weights(const HeadCache<AnyKeys, AnyValues>&, FloatRows, float*, std::size_t,
                                 Workspace<AnyKeys, AnyValues>&, const AttendOptions&);
PQKV_INSTANCE Result<std::size_t> compact(HeadCache<AnyKeys, AnyValues>&, double);
PQKV_INSTANCE Result<std::size_t> compact(AnyCache&, double);

namespace detail {
PQKV_INSTANCE void attend_cache(const HeadCache<AnyKeys, AnyValues>&, Workspace<AnyKeys, AnyValues>&, const AttendOptions&,
                                const ScoreRules&, Share);
PQKV_INSTANCE void collect_step(HeadCache<AnyKeys, AnyValues>&, FloatRows, const Partial&, Workspace<AnyKeys, AnyValues>&,
                                const AttendOptions&);
PQKV_INSTANCE AttendResult attend_heads(const AnyCache&, std::size_t, FloatRows, float*, std::size_t,
                                        Workspaces<AnyKeys, AnyValues>&, const AttendOptions&, ExecutorRef, AnyCache*);
PQKV_INSTANCE AttendResult attend_steps(std::size_t, std::span<const SequenceStep<AnyKeys, AnyValues>>,
                                        Workspaces<AnyKeys, AnyValues>&, ExecutorRef);
PQKV_INSTANCE Status extend_heads(AnyCache&, std::size_t, FloatRows, Rows, Rows, float*, std::size_t,
                                  Workspaces<AnyKeys, AnyValues>&, const AttendOptions&, ExecutorRef);
PQKV_INSTANCE void extend_prepared(HeadCache<AnyKeys, AnyValues>&, ChunkRows<const float>, Rows, Rows, ChunkRows<float>,
                                   Workspace<AnyKeys, AnyValues>&, const AttendOptions&);
}  // namespace detail

}  // namespace pqkv::inline PQKV_ABI

#undef PQKV_INSTANCE

#endif
