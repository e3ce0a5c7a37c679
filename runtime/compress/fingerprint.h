// Fingerprints of everything that the result of a compression depends on. The journal, the
// self-written calibration text and the costs of choices are each stored with one, and are reused
// only where it is the same. The inputs are read through the interfaces that the work itself uses,
// so that two files with the same content have the same fingerprint.
#pragma once

#include "runtime/compress/plan.h"
#include "runtime/compress/work_folder.h"

namespace pith {

extern const char* const kToolVersion;  // "pith 0.1.0", of the project in CMakeLists.txt

// The model: its description, its tensors and where they come from, its tokenizer.
Fingerprint fingerprint_of(const ModelSource& source);
// The executor, for results whose bits depend on it.
Fingerprint fingerprint_of(Executor* executor);
// All inputs of a compression. Keys are words for messages; values that begin with # are hashes.
Fingerprint fingerprint_of(const ModelSource& source, const Passes& passes,
                           const CompressOptions& options);

// The recipe of the result, YAML: the source's recipe, the passes, and how they used the text.
// Error(kUsage) where a setting makes it other than UTF-8.
std::string recipe_of(const ModelSource& source, const Passes& passes,
                      const CompressOptions& options);

// The hash of a calibration text as the recipe has it.
std::string text_hash_of_recipe(uint64_t hash);

// The manifest's record of how a file was made, without the hash of the numbers that were read.
proto::Provenance provenance_of(const ModelSource& source, const Passes& passes,
                                const CompressOptions& options);

}  // namespace pith
