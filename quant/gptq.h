// GPTQ: rounding column after column, each telling the columns that are still to come what it
// missed (Frantar et al. 2023), in the form of LDLQ (Chee et al. 2023, QuIP, section 3), which is
// the same and needs no inverse.
//
// For H = mean of x x^T over the inputs, damped, the loss of a row is (w - q) H (w - q)^T. With
// H = U D U^T, U unit upper triangular, it is sum_j D_j (t_j - q_j)^2 where
// t_j = w_j + sum_{i<j} (w_i - q_i) U_ij: columns are rounded in order to where their target t is,
// and D_j is what a miss there costs.
//
// Order: whole groups by their mean H_ii, the largest first, and columns inside a group likewise;
// groups stay whole, so that the result needs no index at run time. The scale of a group is
// searched for when its turn comes, on the targets that it would have if all of it were free,
// weighted by D.
//
// Refinement, after the sweep, `refine` times: the scales of a row that lose least for the codes as
// they are (least squares over all groups at once), then each code again where it loses least for
// the scales and all other codes (coordinate descent, as QuantEase, Behdin et al. 2023). Each
// lowers the loss or is not kept.
//
// Trellis codes (formats/encodings/tcq.h): the M algorithm over paths in the place of rounding
// column by column. Each survivor has the targets that its own errors lead to, within a piece of
// columns and some of the next; a piece decided, its errors go to all later columns. Twice: for
// scales that fit the deviation of the groups, then for those that lose least with the codes of the
// first time. With `refine` 0 once, with few survivors. The second paths are taken as they come.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "quant/method.h"
#include "runtime/algebra/algebra.h"

namespace pith {

struct GptqOptions {
  double damping = 0.3;  // of the mean of the diagonal, added to it
  // 0 to 1: by how much what is off the diagonal is reduced. How channels go together is peculiar
  // to the calibration text more than how large they are (shrinkage: Ledoit and Wolf 2004).
  double shrink = 0.2;
  bool order = true;
  bool search = true;          // scales by search; else from the range
  bool static_groups = false;  // scales from the original weights
  int refine = 2;
  double correct_inputs = 1;  // 0 to 1: how far the target may move, see gptq_stage.h

  friend bool operator==(const GptqOptions&, const GptqOptions&) = default;
};

struct GptqLoss {
  double error = 0, norm = 0;  // sums over rows of (w - q) H (w - q)^T and w H w^T

  GptqLoss& operator+=(const GptqLoss& l) {
    error += l.error;
    norm += l.norm;
    return *this;
  }
};

// What the rows of all linears with the same input share: one factorization, and the steps of
// rounding in the memory of its algebra: gptq.cc on the host, gptq_gpu.cc on a GPU.
class GptqFactor {
 public:
  // gram [k, k] on the host. Null where the damped matrix is not positive definite, or not finite.
  // A column that was never active counts as an average one.
  static std::unique_ptr<GptqFactor> make(Algebra& algebra, const float* gram, int64_t k,
                                          int64_t group, const GptqOptions& options);
  virtual ~GptqFactor() = default;

  // Rounds rows of a linear. The scales of fp8 are those of plain rounding; where each row has its
  // own, refinement fits them. Threads may call it on the host.
  virtual GptqLoss encode(const GptqOptions& options, const RowJob& job) const = 0;

  static uint64_t working_bytes(int64_t k);
  // Workspace of a row on a GPU, for Algebra::for_row_panels.
  static uint64_t row_bytes(int64_t k, int64_t group);

  static constexpr int64_t kBlock = 128;  // columns at most

  // Columns in the order of their rounding: places. A block is whole groups, or a piece of one that
  // is wider than a block.
  struct Group {
    int64_t index, begin, end;  // of the matrix; places
  };
  struct Block {
    int64_t begin, end;
    int64_t width() const { return end - begin; }
  };

  int64_t k = 0;
  std::vector<int64_t> order;  // column at each place
  std::vector<Group> groups;
  std::vector<Block> blocks;
  std::vector<float> variance;  // [k]: D by place

 protected:
  // The damped Gram matrix H in the order of places, in f64, and then its factor U sqrt(D), upper
  // triangular, from which `variance` is set.
  virtual void set_gram(const Matrix<double>& gram) = 0;
  virtual void set_factor(const Matrix<double>& factor) = 0;
};

// Whether GPTQ takes it: integers, nf4, trellis codes, fp8, and these around n:m sparsity whose
// groups divide into those of the scales, or any sparsity with one scale a row.
bool gptq_takes(const Encoding& e);
// Whether it also gains much over rounding to the nearest: at 6 bits and above, rounding of the
// activations at run time costs more than that of the weights, and rtn takes seconds.
bool gains_from_gptq(const Encoding& e);
// The options for an encoding: the path of a trellis code takes columns as they come.
GptqOptions options_for(const Encoding& e, const GptqOptions& options);
// The group of the factor that it needs: of columns with one scale.
int64_t gptq_group(const Encoding& e, int64_t k);

// What a stage takes of a GPU at most, with input correction, in bytes.
uint64_t gptq_gpu_bytes(int64_t n, int64_t k, int64_t group);

}  // namespace pith
