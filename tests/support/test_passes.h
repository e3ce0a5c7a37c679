// Passes and sources as methods of pruning and factorization will be, in their simplest form.
#pragma once

#include <string>
#include <vector>

#include "runtime/compress/pass.h"

namespace pith::test {

// up [n, rank] w [rank, k], the best of this rank for m [n, k], by subspace iteration in f64.
struct LowRank {
  std::vector<float> up, w;
};
LowRank best_of_rank(const std::vector<float>& m, int64_t n, int64_t k, int64_t rank);

// Clears the two smallest of each four weights of a row. Leaves the weights to a method that makes
// up for them, or sets them to zero.
class TwoOfFour final : public Pass {
 public:
  explicit TwoOfFour(bool zeroes) : zeroes_(zeroes) {}
  std::string recipe() const override { return "  - two_of_four\n"; }
  LinearForm form(const LinearInfo& info, const LinearForm& so_far) const override;
  void apply(const StageContext& at) override;

 private:
  bool zeroes_;
};

// Replaces each weight of the blocks by two factors of half the smaller dimension.
class Factorize final : public Pass {
 public:
  std::string recipe() const override { return "  - factorize\n"; }
  LinearForm form(const LinearInfo& info, const LinearForm& so_far) const override;
  void apply(const StageContext& at) override;
};

// Adds a term of this rank that is nearest to the original less what the linear is by now.
class Residual final : public Pass {
 public:
  explicit Residual(int64_t rank) : rank_(rank) {}
  std::string recipe() const override { return "  - residual\n"; }
  LinearForm form(const LinearInfo& info, const LinearForm& so_far) const override;
  void apply(const StageContext& at) override;

 private:
  int64_t rank_;
};

// A model without one of its layers.
class DroppedLayer final : public ForwardingSource {
 public:
  DroppedLayer(const ModelSource& inner, int layer);
  const proto::ModelSpec& spec() const override { return spec_; }
  std::string recipe() const override;
  Linear linear(const LinearInfo& info) const override;
  LinearForm form(const LinearInfo& info) const override;
  void rows(const LinearInfo& info, int64_t row, int64_t rows, float* out) const override;
  std::vector<float> bias(const LinearInfo& info) const override;
  std::vector<float> vector(const VectorInfo& info) const override;

 private:
  LinearInfo there(const LinearInfo& info) const;

  proto::ModelSpec spec_;
  int layer_;
};

// A model whose MLP in one layer has every second channel alone.
class HalvedMlp final : public ForwardingSource {
 public:
  HalvedMlp(const ModelSource& inner, int layer);
  const proto::ModelSpec& spec() const override { return spec_; }
  std::string recipe() const override;
  Linear linear(const LinearInfo& info) const override;
  LinearForm form(const LinearInfo& info) const override;
  void rows(const LinearInfo& info, int64_t row, int64_t rows, float* out) const override;

 private:
  bool narrow(const LinearInfo& info) const;

  proto::ModelSpec spec_;
  int layer_;
};

}  // namespace pith::test
