// The form of a linear layer: how its terms are stored and its inputs are rounded, without the
// numbers. Plans are made of forms; a pass turns one into another.
//
// As text: "int4-g64", "int4-g64 + rank 16 of f16", "rank 64 of int8-g64 and f16" (of w and of up).
#pragma once

#include <string>
#include <vector>

#include "runtime/model/model.h"

namespace pith {

struct TermForm {
  Encoding weight;   // of w [n, k], or of [rank, k]
  int64_t rank = 0;  // above 0: the term is up (w x), up [n, rank]
  Encoding up = {};  // where rank is above 0

  friend bool operator==(const TermForm&, const TermForm&) = default;
};

struct LinearForm {
  std::vector<TermForm> terms;
  InputEncoding input = {};  // a plan does not know the value of a constant scale: it is 0

  // One weight [n, k] and nothing else.
  bool plain() const { return terms.size() == 1 && terms.front().rank == 0; }
  // Whether any weight has fewer bits than a 16-bit float.
  bool compressed() const;

  friend bool operator==(const LinearForm&, const LinearForm&) = default;
};

LinearForm plain_form(const Encoding& e, const InputEncoding& input = {});
LinearForm form_of(const Linear& linear);
std::string to_string(const LinearForm& form);

// Bytes of the planes of a linear [n, k] in this form.
uint64_t encoded_bytes(const LinearForm& form, int64_t n, int64_t k);

}  // namespace pith
