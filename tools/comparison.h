// The table of `pith compare`, as text, Markdown, CSV, JSON and HTML.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace pith::tools {

struct ComparedModel {
  std::string name, path;
  uint64_t file_bytes = 0;
  double bits = 0;  // per weight of the linears
  double perplexity = 0, perplexity_error = 0;
  std::optional<double> kl, kl_error, same_top;  // against the base; none for the base itself
  std::optional<double> tokens_per_second;
};

struct Comparison {
  std::string base, protocol, summary, text, method;
  int64_t tokens = 0;
  std::vector<ComparedModel> models;  // the base first
};

// The smallest file whose mean KL divergence is at most this; -1 where there is none.
inline constexpr double kGoodKl = 0.1;
int smallest_good(const Comparison& c);

// `format`: "table" (aligned columns), "md", "csv", "json", "html" (one self-contained page with a
// figure of size against divergence). A table fits `width` columns: its headings and long names get
// shorter, then it loses the error of KL and the columns that matter least.
std::string render(const Comparison& c, std::string_view format, int64_t width = 1 << 20);
Json json_of(const Comparison& c);

}  // namespace pith::tools
