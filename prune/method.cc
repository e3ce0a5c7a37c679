#include "prune/method.h"

#include "core/error.h"
#include "core/nearest.h"

namespace pith {
namespace {

std::vector<double> equal_costs(const PruneInputs& inputs) {
  return std::vector<double>(static_cast<size_t>(inputs.k), 1.0);
}
std::vector<double> costs_by_inputs(const PruneInputs& inputs) { return inputs.mean_square; }
// A column that was never active is dropped first, as in the paper's code.
std::vector<double> costs_by_factor(const PruneInputs& inputs) {
  std::vector<double> costs;
  for (int64_t j = 0; j < inputs.k; ++j) {
    const double d = inputs.factor[j * inputs.k + j];
    costs.push_back(inputs.mean_square[static_cast<size_t>(j)] > 0 ? d * d : 0);
  }
  return costs;
}

// A new method is a row here.
constexpr PruneMethod kTable[] = {
    {"magnitude",
     "drops the smallest weights: the baseline, without a text",
     {},
     0,
     false,
     equal_costs},
    {"wanda",
     "drops the smallest products of a weight and the norm of its input",
     {.mean_square = true},
     0,
     false,
     costs_by_inputs},
    {"sparsegpt",
     "drops what the weights behind it can make up for, which they do",
     {.mean_square = true, .gram = true},
     kRefineRounds,
     true,
     costs_by_factor},
};

}  // namespace

std::span<const PruneMethod> prune_methods() { return kTable; }

const PruneMethod& parse_prune_method(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& m : kTable) {
    if (name == m.name) return m;
    names.emplace_back(m.name);
  }
  const std::string meant = nearest(std::string(name), names);
  fail(ErrorKind::kUsage, "no method of pruning \"{}\"{}: {}", name,
       meant.empty() ? "" : fmt::format(", did you mean {}?", meant), fmt::join(names, ", "));
}

}  // namespace pith
