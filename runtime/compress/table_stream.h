// Embedding and head, which may be large: read, compressed, compared and written slab by slab,
// never whole in memory.
#pragma once

#include "runtime/compress/pass.h"
#include "runtime/compress/unit_writer.h"

namespace pith {

// Writes a table as it is.
void copy_table(const ModelSource& source, const LinearInfo& info, UnitWriter& writer);

// Encodes it: `form` is one plain term.
void encode_table(const ModelSource& source, const LinearInfo& info, const LinearForm& form,
                  const TableEncoder& encoder, UnitWriter& writer);

}  // namespace pith
