#include "tests/support/test_passes.h"

#include <algorithm>
#include <cmath>

#include "core/rng.h"
#include "runtime/cpu/decode.h"

namespace pith::test {
namespace {

// rows [rank, k] become orthonormal.
void orthonormalize(std::vector<double>& rows, size_t rank, size_t k) {
  for (size_t r = 0; r < rank; ++r) {
    double* a = rows.data() + r * k;
    for (int twice = 0; twice < 2; ++twice) {
      for (size_t p = 0; p < r; ++p) {
        double dot = 0;
        for (size_t i = 0; i < k; ++i) dot += a[i] * rows[p * k + i];
        for (size_t i = 0; i < k; ++i) a[i] -= dot * rows[p * k + i];
      }
    }
    double norm = 0;
    for (size_t i = 0; i < k; ++i) norm += a[i] * a[i];
    for (size_t i = 0; i < k; ++i) a[i] = norm > 1e-30 ? a[i] / std::sqrt(norm) : 0;
  }
}

std::vector<float> decoded(const Linear& linear) {
  std::vector<float> out(static_cast<size_t>(linear.n * linear.k));
  decode_rows(linear, 0, linear.n, out.data());
  return out;
}

Term low_rank_term(const std::vector<float>& m, const LinearInfo& info, int64_t rank, DType type) {
  const LowRank f = best_of_rank(m, info.n, info.k, rank);
  const Encoding e = Encoding::dense(type);
  return {encode(e, rank, info.k, f.w.data()), encode(e, info.n, rank, f.up.data())};
}

int64_t half_rank(const LinearInfo& info) {
  return std::max<int64_t>(1, std::min(info.n, info.k) / 2);
}
bool in_block(const LinearInfo& info) { return info.layer >= 0 && !is_gate(info.role); }

}  // namespace

LowRank best_of_rank(const std::vector<float>& m, int64_t n, int64_t k, int64_t rank) {
  const auto rows = static_cast<size_t>(n), columns = static_cast<size_t>(k),
             r = static_cast<size_t>(rank);
  std::vector<double> basis(r * columns), up(rows * r);
  Rng rng(5);
  for (double& v : basis) v = static_cast<double>(rng.next() % 2001) / 1000 - 1;
  const auto project = [&] {  // up = m basis^T
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < r; ++j) {
        double sum = 0;
        for (size_t c = 0; c < columns; ++c)
          sum += static_cast<double>(m[i * columns + c]) * basis[j * columns + c];
        up[i * r + j] = sum;
      }
    }
  };
  orthonormalize(basis, r, columns);
  for (int step = 0; step < 6; ++step) {
    project();
    std::ranges::fill(basis, 0.0);
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < r; ++j) {
        for (size_t c = 0; c < columns; ++c)
          basis[j * columns + c] += up[i * r + j] * static_cast<double>(m[i * columns + c]);
      }
    }
    orthonormalize(basis, r, columns);
  }
  project();
  const auto floats = [](const std::vector<double>& from) {
    std::vector<float> to;
    for (const double v : from) to.push_back(static_cast<float>(v));
    return to;
  };
  return {floats(up), floats(basis)};
}

LinearForm TwoOfFour::form(const LinearInfo& info, const LinearForm& so_far) const {
  return zeroes_ && in_block(info) ? plain_form(Encoding::dense(DType::kF32), so_far.input)
                                   : so_far;
}

void TwoOfFour::apply(const StageContext& at) {
  for (const auto& info : at.stage.linears) {
    if (!in_block(info)) continue;
    Linear& linear = find_linear(at.block, info);
    auto w = decoded(linear);
    Mask mask(info.n, info.k);
    for (int64_t r = 0; r < info.n; ++r) {
      for (int64_t c = 0; c + 4 <= info.k; c += 4) {
        int64_t order[] = {0, 1, 2, 3};
        const float* four = w.data() + r * info.k + c;
        std::ranges::sort(order, {}, [&](int64_t i) { return std::fabs(four[i]); });
        for (int i = 0; i < 2; ++i) {
          mask.drop(r, c + order[i]);
          if (zeroes_) w[static_cast<size_t>(r * info.k + c + order[i])] = 0;
        }
      }
    }
    if (zeroes_)
      linear.terms = {{encode(Encoding::dense(DType::kF32), info.n, info.k, w.data()), {}}};
    at.masks.insert_or_assign(info.name, std::move(mask));
    at.report[info.name].method = "2:4";
  }
}

LinearForm Factorize::form(const LinearInfo& info, const LinearForm& so_far) const {
  if (!in_block(info)) return so_far;
  const Encoding e = Encoding::dense(DType::kF32);
  return {.terms = {{e, half_rank(info), e}}, .input = so_far.input};
}

void Factorize::apply(const StageContext& at) {
  for (const auto& info : at.stage.linears) {
    if (!in_block(info)) continue;
    Linear& linear = find_linear(at.block, info);
    linear.terms = {low_rank_term(decoded(linear), info, half_rank(info), DType::kF32)};
    at.masks.erase(info.name);
    at.report[info.name].method = "factorized";
  }
}

LinearForm Residual::form(const LinearInfo& info, const LinearForm& so_far) const {
  LinearForm form = so_far;
  const Encoding e = Encoding::dense(DType::kF16);
  if (in_block(info)) form.terms.push_back({e, rank_, e});
  return form;
}

void Residual::apply(const StageContext& at) {
  for (const auto& info : at.stage.linears) {
    if (!in_block(info)) continue;
    Linear& linear = find_linear(at.block, info);
    auto missing = decoded(find_linear(at.original, info));
    const auto there = decoded(linear);
    for (size_t i = 0; i < missing.size(); ++i) missing[i] -= there[i];
    linear.terms.push_back(low_rank_term(missing, info, rank_, DType::kF16));
    at.report[info.name].method = "residual";
  }
}

// ---- Sources of other shapes ----

DroppedLayer::DroppedLayer(const ModelSource& inner, int layer)
    : ForwardingSource(inner), spec_(inner.spec()), layer_(layer) {
  spec_.mutable_layers()->DeleteSubrange(layer, 1);
}
std::string DroppedLayer::recipe() const {
  return inner_.recipe() + fmt::format("  - drop:\n      layers: [{}]\n", layer_);
}
LinearInfo DroppedLayer::there(const LinearInfo& info) const {
  if (info.layer < layer_) return info;
  const auto here = linears_of(spec_, info.layer), all = linears_of(inner_.spec(), info.layer + 1);
  const auto at = std::ranges::find(here, info.name, &LinearInfo::name);
  return all.at(static_cast<size_t>(at - here.begin()));
}
Linear DroppedLayer::linear(const LinearInfo& info) const {
  Linear out = inner_.linear(there(info));
  out.name = info.name;
  return out;
}
LinearForm DroppedLayer::form(const LinearInfo& info) const { return inner_.form(there(info)); }
void DroppedLayer::rows(const LinearInfo& info, int64_t row, int64_t rows, float* out) const {
  inner_.rows(there(info), row, rows, out);
}
std::vector<float> DroppedLayer::bias(const LinearInfo& info) const {
  return inner_.bias(there(info));
}
std::vector<float> DroppedLayer::vector(const VectorInfo& info) const {
  if (info.layer < layer_) return inner_.vector(info);
  const auto here = vectors_of(spec_, info.layer), all = vectors_of(inner_.spec(), info.layer + 1);
  const auto at = std::ranges::find(here, info.name, &VectorInfo::name);
  return inner_.vector(all.at(static_cast<size_t>(at - here.begin())));
}

HalvedMlp::HalvedMlp(const ModelSource& inner, int layer)
    : ForwardingSource(inner), spec_(inner.spec()), layer_(layer) {
  for (auto& s : *spec_.mutable_layers(layer)->mutable_sublayers()) {
    if (s.has_mlp()) s.mutable_mlp()->set_width(s.mlp().width() / 2);
  }
}
std::string HalvedMlp::recipe() const {
  return inner_.recipe() + fmt::format("  - halve:\n      layer: {}\n", layer_);
}
bool HalvedMlp::narrow(const LinearInfo& info) const {
  return info.layer == layer_ && (info.role == LinearRole::kGate || info.role == LinearRole::kUp ||
                                  info.role == LinearRole::kDown);
}
Linear HalvedMlp::linear(const LinearInfo& info) const {
  return narrow(info) ? linear_from_rows(info) : inner_.linear(info);
}
LinearForm HalvedMlp::form(const LinearInfo& info) const {
  return narrow(info) ? plain_form(Encoding::dense(DType::kF32)) : inner_.form(info);
}
void HalvedMlp::rows(const LinearInfo& info, int64_t row, int64_t rows, float* out) const {
  if (!narrow(info)) return inner_.rows(info, row, rows, out);
  const bool down = info.role == LinearRole::kDown;
  LinearInfo whole = info;
  (down ? whole.k : whole.n) *= 2;
  std::vector<float> w(static_cast<size_t>(whole.k));
  for (int64_t r = 0; r < rows; ++r) {
    inner_.rows(whole, down ? row + r : 2 * (row + r), 1, w.data());
    for (int64_t c = 0; c < info.k; ++c)
      out[r * info.k + c] = w[static_cast<size_t>(down ? 2 * c : c)];
  }
}

}  // namespace pith::test
