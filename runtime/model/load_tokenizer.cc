#include "core/error.h"
#include "runtime/model/source.h"

namespace pith {

std::unique_ptr<Tokenizer> load_tokenizer(const ModelSource& source, std::vector<std::string>*) {
  return make_tokenizer(source.tokenizer());
}

}  // namespace pith
