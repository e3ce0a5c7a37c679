// What the result of a compression depends on, gathered in one place: the journal, the text that a
// model writes and the costs of choices are each kept with it, and nothing that was made of other
// inputs is gone on with. Everything is read through the interfaces that the work itself uses, so
// that what they give is what counts, whatever file it came from.
#pragma once

#include "runtime/compress/driver.h"
#include "runtime/compress/work_folder.h"

namespace pith {

inline constexpr const char* kToolVersion = "pith 0.1.0";

// The model: its description, its tensors and where they come from, its tokenizer.
Fingerprint fingerprint_of(const ModelSource& source);
// Where it runs, for results whose bits depend on it.
Fingerprint fingerprint_of(Executor* executor);
// All of it. Keys are words for messages; values that begin with # are hashes.
Fingerprint fingerprint_of(const ModelSource& source, const Passes& passes,
                           const CompressOptions& options);

// The recipe of the result, YAML: what was done before, the passes, and how they saw the text.
std::string recipe_of(const ModelSource& source, const Passes& passes,
                      const CompressOptions& options);

}  // namespace pith
