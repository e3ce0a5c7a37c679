#include "runtime/model/form.h"

#include <algorithm>

#include "core/error.h"

namespace pith {

bool LinearForm::compressed() const {
  const auto narrow = [](const Encoding& e) { return e.kind != EncodingKind::kDense; };
  return std::ranges::any_of(
      terms, [&](const TermForm& t) { return narrow(t.weight) || (t.rank > 0 && narrow(t.up)); });
}

LinearForm plain_form(const Encoding& e, const InputEncoding& input) {
  return {.terms = {{.weight = e}}, .input = input};
}

LinearForm form_of(const Linear& linear) {
  LinearForm form{.terms = {}, .input = linear.input};
  for (const auto& t : linear.terms) {
    auto& to = form.terms.emplace_back(TermForm{.weight = t.w.encoding});
    if (!t.up) continue;
    to.rank = t.w.n;
    to.up = t.up->encoding;
  }
  return form;
}

std::string to_string(const LinearForm& form) {
  std::string text;
  for (const auto& t : form.terms) {
    if (!text.empty()) text += " + ";
    if (t.rank > 0) text += fmt::format("rank {} of ", t.rank);
    text += to_string(t.weight);
    if (t.rank > 0 && t.up != t.weight) text += " and " + to_string(t.up);
  }
  return text;
}

uint64_t encoded_bytes(const LinearForm& form, int64_t n, int64_t k) {
  uint64_t bytes = 0;
  for (const auto& t : form.terms) {
    bytes += encoded_bytes(t.weight, t.rank > 0 ? t.rank : n, k);
    if (t.rank > 0) bytes += encoded_bytes(t.up, n, t.rank);
  }
  return bytes;
}

}  // namespace pith
