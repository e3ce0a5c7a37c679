// Pruning a matrix W [n, k] row by row, for inputs x with H = mean of x x^T, damped.
//
// 1. A mask by saliency w_j^2 c_j (method.h): of each row (or of the matrix) the least are dropped,
//    or all but the largest n of every m columns.
// 2. sparsegpt goes through the columns from the left. With H = U D U^T, U unit upper triangular,
//    the loss of a row is sum_j D_j (t_j - q_j)^2, where t_j = w_j + sum_{i<j} (w_i - q_i) U_ij:
//    a kept weight becomes its target t_j and costs nothing, a dropped one costs D_j t_j^2. (This is
//    the elimination of Frantar and Alistarh 2023, algorithm 1, in the form of LDLQ, quant/gptq.h,
//    without an inverse.) The mask of each group of n:m, else of 32 columns, is chosen anew when
//    their turn comes, by D_j x_j^2 for the weights x that lose least if all from there on were
//    free; how many of 32 are dropped is what the mask of step 1 has there. (The paper drops the
//    same share of every 128 columns, which loses more: docs/pruning.md.)
// 3. Refinement with the mask frozen: the kept weights that lose least, min (q - w) H (q - w)^T over
//    q that is zero where the mask drops, by conjugate gradients that are projected by the mask and
//    preconditioned by the diagonal of H, all rows of a panel in one GEMM (ALPS, Meng et al. 2024,
//    algorithm 2). A row whose loss did not fall keeps what it had.
//
// Sums of step 2 are in f64; the GEMM of step 3 is in f32, its scalars, residual and weights in f64.
// Steps 1 and 2 run on the host, the GEMM of step 3 where the Gram matrix lies. The result does not
// depend on the number of threads.
#pragma once

#include "core/function_ref.h"
#include "formats/encodings/mask.h"
#include "formats/encodings/sparse.h"
#include "prune/method.h"

namespace pith {

// How much is dropped: all but n of every m columns (Sparsity::n_of_m), or all but `kept` of each
// row, wherever they are (Sparsity::bitmap).
struct MatrixPruning {
  const PruneMethod& method;
  Sparsity sparsity;
  bool whole_matrix = false;  // of kBitmap: n * kept of the matrix, whichever rows they are in
  int refine = 0;             // rounds; none without a Gram matrix
};

struct PruneLoss {
  double error = 0, norm = 0;  // sums over rows of (w - q) H (w - q)^T and w H w^T; 0 without H
};

// Sets the mask of W, and writes its kept weights. `read` gets rows [begin, begin + rows) of W, to
// w [rows, k]; `write` takes the same rows of the result, zeros where they were dropped. Panels of
// rows come in any order, on the pool's threads, each once (`whole_matrix` reads them twice). The
// mask begins with everything kept. `inputs` has what `method` and `refine` need.
using ReadRows = FunctionRef<void(int64_t begin, int64_t rows, float* w)>;
using WriteRows = FunctionRef<void(int64_t begin, int64_t rows, const float* w)>;
PruneLoss prune_matrix(const MatrixPruning& how, const PruneInputs& inputs, int64_t n,
                       ReadRows read, WriteRows write, Mask* mask);

// Working memory of prune_matrix in bytes on the host, beside its inputs and the mask.
uint64_t prune_matrix_bytes(int64_t n, int64_t k, bool whole_matrix);

}  // namespace pith
