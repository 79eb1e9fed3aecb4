// Saving and loading of caches over AnyKeys and AnyValues, to and from files, memory and mapped files: io/sequence_file.hpp
// for an AnyCache, which pqkv::compiled instantiates once. Read in two ways, as spec/any_instances.hpp.
#pragma once

#include "pqkv/io/file.hpp"
#include "pqkv/io/mapped_file.hpp"
#include "pqkv/io/sequence_file.hpp"
#include "pqkv/spec/any_cache.hpp"
#include "pqkv/spec/any_instances.hpp"

#if defined(PQKV_COMPILED)

#if defined(PQKV_INSTANTIATE_ANY)
#define PQKV_INSTANCE template
#else
#define PQKV_INSTANCE extern template
#endif

namespace pqkv::inline PQKV_ABI {

PQKV_INSTANCE Status save_head(FileSink&, const HeadCache<AnyKeys, AnyValues>&, const Checksum&);
PQKV_INSTANCE Status save_head(MemorySink&, const HeadCache<AnyKeys, AnyValues>&, const Checksum&);
PQKV_INSTANCE Status save_cache(FileSink&, const AnyCache&, const Checksum&);
PQKV_INSTANCE Status save_cache(MemorySink&, const AnyCache&, const Checksum&);
PQKV_INSTANCE Result<HeadCache<AnyKeys, AnyValues>> load_head(FileSource&, AnyKeys, AnyValues, const Checksum&,
                                                              const LoadOptions&);
PQKV_INSTANCE Result<AnyCache> load_cache(FileSource&, const AnyCache&, const Checksum&, const LoadOptions&);
PQKV_INSTANCE Result<HeadCache<AnyKeys, AnyValues>> load_head(MemorySource&, AnyKeys, AnyValues, const Checksum&,
                                                              const LoadOptions&);
PQKV_INSTANCE Result<AnyCache> load_cache(MemorySource&, const AnyCache&, const Checksum&, const LoadOptions&);
PQKV_INSTANCE Result<HeadCache<AnyKeys, AnyValues>> load_head(MappedFileSource&, AnyKeys, AnyValues, const Checksum&,
                                                              const LoadOptions&);
PQKV_INSTANCE Result<AnyCache> load_cache(MappedFileSource&, const AnyCache&, const Checksum&, const LoadOptions&);

}  // namespace pqkv::inline PQKV_ABI

#undef PQKV_INSTANCE

#endif
